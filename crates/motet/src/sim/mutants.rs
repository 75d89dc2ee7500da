//! Switches of planted bugs, with which a test proves that it finds a bug.
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

/// Enables a planted bug on this thread until the guard is dropped.
///
/// With several guards of one name, the bug is enabled until the last one is dropped.
pub fn enable(name: impl Into<String>) -> Guard {
    let name = name.into();
    ENABLED.with_borrow_mut(|enabled| enabled.push(name.clone()));
    Guard { name, _on_this_thread: PhantomData }
}

/// The guard of an enabled planted bug.
///
/// # Drop
/// Disables the bug.
#[derive(Debug)]
#[must_use = "the planted bug is switched off when the guard is dropped"]
pub struct Guard {
    name: String,
    _on_this_thread: PhantomData<*const ()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The thread-local is gone when the thread ends.
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
