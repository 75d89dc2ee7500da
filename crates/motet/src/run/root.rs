use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::phase::{Open, Phase};
use super::shared::Shared;
use crate::task::Nursery;

/// The nursery of the root scope and the phases of an [`App`](super::App), for the body of the program.
pub struct Root<E> {
    nursery: Nursery<E>,
    phases: Arc<[Open]>,
    shared: Arc<Shared<E>>,
}

impl<E: Send + 'static> Root<E> {
    pub(super) fn new(nursery: Nursery<E>, phases: Arc<[Open]>, shared: Arc<Shared<E>>) -> Self {
        Self { nursery, phases, shared }
    }

    pub(super) fn shared(&self) -> Arc<Shared<E>> {
        Arc::clone(&self.shared)
    }

    /// The phase `name`, to start members in.
    ///
    /// # Panics
    /// If the [`App`](super::App) has no phase of that name.
    #[must_use]
    #[track_caller]
    pub fn in_phase(&self, name: &str) -> Phase<'_, E> {
        match self.phases.iter().find(|phase| phase.name == *name) {
            Some(open) => Phase { open, root: self },
            None => {
                let known: Vec<_> = self.phases.iter().map(|phase| phase.name.as_str()).collect();
                panic!(
                    "the app has no phase `{name}`: declare it with `App::phase`, or use one of {known:?}"
                );
            }
        }
    }
}

impl<E> Deref for Root<E> {
    type Target = Nursery<E>;

    fn deref(&self) -> &Nursery<E> {
        &self.nursery
    }
}

impl<E> fmt::Debug for Root<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("nursery", &self.nursery).finish_non_exhaustive()
    }
}
