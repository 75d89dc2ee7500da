use std::fmt;

use super::part::short;
use crate::task::Name;

/// The parts of a chain, outermost first.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, Next, named};
///
/// async fn log(request: u32, next: Next<u32, u32>) -> u32 { next.run(request).await }
/// async fn double(request: u32) -> u32 { request * 2 }
///
/// let handler = Chain::new().with(log).with(named("again", log)).to(double);
/// assert_eq!(handler.describe().to_string(), "log > again > double");
/// assert_eq!(handler.describe().parts().nth(1), Some(("again", "")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(unnameable_types, reason = "users print it, and never write its type")]
pub struct ChainDescription(Vec<PartDescription>);

/// A part of a chain, or its handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartDescription {
    pub(super) name: Name,
    /// The settings of the part; empty if it has none.
    pub(super) settings: String,
}

impl ChainDescription {
    /// The name and the settings of each part, outermost first; the last part is the handler. The settings are empty if
    /// the part has none.
    #[must_use]
    pub fn parts(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|part| (part.name.as_str(), part.settings.as_str()))
    }

    pub(super) fn push(&mut self, part: PartDescription) {
        self.0.push(part);
    }

    pub(super) fn append(&mut self, inside: Self) {
        self.0.extend(inside.0);
    }
}

impl PartDescription {
    /// Describes a function by its name.
    pub(super) fn of<F>() -> Self {
        Self { name: Name::from(short::<F>()), settings: String::new() }
    }
}

impl fmt::Display for ChainDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" > ")?;
            }
            part.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for PartDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        if self.settings.is_empty() { Ok(()) } else { write!(f, " ({})", self.settings) }
    }
}
