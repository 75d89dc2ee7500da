//! Planted bugs: switches for wrong code that stands beside the right one, so that a test can show that it
//! would find the bug.
//!
//! # Examples
//! ```
//! use motet::sim::mutants;
//!
//! assert!(!motet::mutant!("scope.skip_wake"));
//! let guard = mutants::enable("scope.skip_wake");
//! assert!(motet::mutant!("scope.skip_wake"));
//! drop(guard);
//! assert!(!motet::mutant!("scope.skip_wake"));
//! ```

use std::cell::RefCell;
use std::marker::PhantomData;

thread_local! {
    static ENABLED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Switches a planted bug on, on this thread, until the guard is dropped.
///
/// Guards of one name add up: the bug is on as long as one of them lives.
pub fn enable(name: impl Into<String>) -> Guard {
    let name = name.into();
    ENABLED.with_borrow_mut(|enabled| enabled.push(name.clone()));
    Guard { name, _on_this_thread: PhantomData }
}

/// Keeps a planted bug switched on.
///
/// # Drop
/// Switches it off.
#[derive(Debug)]
#[must_use = "the planted bug is switched off when the guard is dropped"]
pub struct Guard {
    name: String,
    _on_this_thread: PhantomData<*const ()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A thread that ends takes its switches with it.
        let _ = ENABLED.try_with(|enabled| {
            let mut enabled = enabled.borrow_mut();
            if let Some(at) = enabled.iter().position(|name| *name == self.name) {
                enabled.swap_remove(at);
            }
        });
    }
}

#[doc(hidden)]
#[must_use]
pub fn is_enabled(name: &'static str) -> bool {
    ENABLED.try_with(|enabled| enabled.borrow().iter().any(|enabled| enabled == name)).unwrap_or(false)
}
