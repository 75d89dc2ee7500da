use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::task::{Name, Scope};

/// The result of the function for an item.
pub(super) type Outcome<O> = Result<O, Box<Panicked>>;

/// A panic for the reader. If it is dropped before the reader receives it, it is passed to the scope, so none is lost.
pub(crate) struct Panicked {
    payload: Option<Box<dyn Any + Send>>,
    scope: Scope,
    name: Name,
}

impl Panicked {
    pub(crate) fn new(payload: Box<dyn Any + Send>, scope: &Scope, name: &Name) -> Self {
        Self { payload: Some(payload), scope: scope.clone(), name: name.clone() }
    }

    pub(crate) fn rethrow(mut self) -> ! {
        match self.payload.take() {
            Some(payload) => resume_unwind(payload),
            None => unreachable!("a panic is rethrown once"),
        }
    }
}

impl Drop for Panicked {
    fn drop(&mut self) {
        if let Some(payload) = self.payload.take() {
            self.scope.0.task_panicked(self.name.clone(), payload);
        }
    }
}

impl fmt::Debug for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panicked").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Drops a value of a user. A panic of its drop is passed to the scope.
pub(crate) fn drop_caught<T>(dropped: T, scope: &Scope, name: &Name) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(dropped))) {
        drop(Panicked::new(payload, scope, name));
    }
}
