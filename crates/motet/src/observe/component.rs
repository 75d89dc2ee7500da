use std::fmt;
use std::sync::{Arc, Weak};

#[cfg(feature = "metrics")]
use crate::task::core;
use crate::task::core::Core;
use crate::task::name::write_escaped;
use crate::task::{Name, Scope};

/// A value that a component shows.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Stat {
    /// A count of current items: it rises and falls.
    Count(u64),
    /// A count of everything so far: it only rises.
    Total(u64),
    /// A measured value.
    Value(f64),
    /// A word, such as a state.
    Text(String),
}

/// The values that a component shows, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stats(pub(crate) Vec<(&'static str, Stat)>);

impl Stats {
    /// Creates empty stats.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a count of current items. As a metric it is a gauge.
    #[must_use]
    pub fn count(mut self, name: &'static str, count: u64) -> Self {
        self.0.push((name, Stat::Count(count)));
        self
    }

    /// Adds a count of everything so far. As a metric it is a counter.
    #[must_use]
    pub fn total(mut self, name: &'static str, total: u64) -> Self {
        self.0.push((name, Stat::Total(total)));
        self
    }

    /// Adds a measured value.
    #[must_use]
    pub fn value(mut self, name: &'static str, value: f64) -> Self {
        self.0.push((name, Stat::Value(value)));
        self
    }

    /// Adds a word.
    #[must_use]
    pub fn text(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.0.push((name, Stat::Text(text.into())));
        self
    }

    /// Returns the values in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Stat)> {
        self.0.iter().map(|(name, stat)| (*name, stat))
    }
}

impl fmt::Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) | Self::Total(count) => count.fmt(f),
            Self::Value(value) => value.fmt(f),
            Self::Text(text) => write_escaped(text, f),
        }
    }
}

/// A component as its scope stores it.
#[derive(Clone)]
pub(crate) struct Component {
    /// Of this component alone, in the whole process.
    #[cfg(feature = "metrics")]
    pub(crate) id: u64,
    pub(crate) kind: &'static str,
    pub(crate) name: Name,
    pub(crate) stats: Arc<dyn Fn() -> Stats + Send + Sync>,
}

/// The entry of a component in the snapshots of its scope. Dropping it removes the component.
#[must_use = "the component is shown until this is dropped"]
pub struct Registration {
    core: Weak<Core>,
    place: usize,
}

impl Scope {
    /// Adds a component of this kind, such as `pool`, to the snapshots of the scope.
    ///
    /// `stats` is called for each snapshot, without a lock held. It should read existing state, and not compute.
    pub fn register(
        &self,
        kind: &'static str,
        name: impl Into<Name>,
        stats: impl Fn() -> Stats + Send + Sync + 'static,
    ) -> Registration {
        let component = Component {
            #[cfg(feature = "metrics")]
            id: core::next_id(),
            kind,
            name: name.into(),
            stats: Arc::new(stats),
        };
        let place = self.0.state().components.insert(component);
        Registration { core: Arc::downgrade(&self.0), place }
    }
}

impl Registration {
    /// The name of the component in snapshots; `None` after the scope was dropped.
    pub(crate) fn name(&self) -> Option<String> {
        let core = self.core.upgrade()?;
        let state = core.state();
        state.components.get(self.place).map(|component| component.name.to_string())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            let component = core.state().components.try_remove(self.place);
            // Outside of the lock, since it contains a closure of a user.
            drop(component);
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").finish_non_exhaustive()
    }
}
