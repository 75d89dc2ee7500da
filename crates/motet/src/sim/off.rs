//! The replacement of the simulation without the feature `sim`: zero-sized types and empty functions.

use std::future::{IntoFuture, Ready, ready};
use std::num::NonZeroUsize;
use std::panic::Location;
use std::task::{Context, Poll};

use super::PollKind;

/// The hook without the feature `sim`, which does nothing.
#[derive(Debug)]
pub struct TaskHook(());

impl TaskHook {
    /// Creates a zero-sized hook.
    #[inline(always)]
    #[must_use]
    pub const fn new(_name: &str, _site: &'static Location<'static>, _kind: PollKind) -> Self {
        Self(())
    }

    /// Polls the future.
    #[inline(always)]
    pub fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        poll(cx)
    }

    /// Does nothing.
    #[inline(always)]
    pub const fn panicked(&mut self, _message: &str) {}
}

/// The decision of a fault point without the feature `sim`, which is never a fault.
#[derive(Debug)]
#[must_use = "a fault point has no effect unless its result is used"]
pub struct Fault(());

impl Fault {
    /// Returns `false`.
    #[inline(always)]
    #[must_use]
    pub const fn fails(&self) -> bool {
        false
    }
}

impl IntoFuture for Fault {
    type Output = bool;
    type IntoFuture = Ready<bool>;

    #[inline(always)]
    fn into_future(self) -> Ready<bool> {
        ready(false)
    }
}

#[doc(hidden)]
#[inline(always)]
pub const fn fault(_point: &'static str) -> Fault {
    Fault(())
}

/// Does nothing without the feature `sim`.
#[inline(always)]
pub const fn op(_name: &'static str) {}

/// Returns `None` without the feature `sim`.
#[inline(always)]
#[must_use]
pub const fn choice(_options: NonZeroUsize) -> Option<usize> {
    None
}

/// Returns `false` without the feature `sim`.
#[inline(always)]
#[must_use]
pub const fn is_current() -> bool {
    false
}

/// Returns `None` without the feature `sim`.
#[cfg(feature = "cron")]
#[inline(always)]
pub(crate) const fn now() -> Option<std::time::Duration> {
    None
}

#[doc(hidden)]
#[inline(always)]
pub const fn always(_holds: bool, _text: &'static str) {}

#[doc(hidden)]
#[inline(always)]
pub const fn sometimes(_holds: bool, _text: &'static str) {}

#[doc(hidden)]
#[inline(always)]
#[must_use]
pub const fn mutant(_name: &'static str) -> bool {
    false
}

/// The site of a future without the feature `sim`, which is zero-sized.
pub(crate) struct Site(());

impl Site {
    #[inline(always)]
    pub(crate) const fn new(_kind: &'static str, _verb: &'static str) -> Self {
        Self(())
    }

    #[inline(always)]
    pub(crate) fn named(
        _kind: &'static str,
        _verb: &'static str,
        _name: impl FnOnce() -> Option<String>,
    ) -> Self {
        Self(())
    }

    #[inline(always)]
    pub(crate) fn located(
        _kind: &'static str,
        _verb: &'static str,
        _name: impl FnOnce() -> Option<String>,
        _at: &'static Location<'static>,
    ) -> Self {
        Self(())
    }

    #[inline(always)]
    pub(crate) fn of<F: Future>(self, future: F) -> F {
        future
    }

    #[inline(always)]
    pub(crate) fn of_boxed<F>(self, future: F) -> F {
        future
    }

    #[inline(always)]
    pub(crate) const fn around(self) -> Self {
        self
    }

    #[inline(always)]
    pub(crate) const fn another(&self) -> Self {
        Self(())
    }

    #[inline(always)]
    pub(crate) const fn enter(&self) -> Entered {
        Entered(())
    }
}

/// A poll in progress, without the feature `sim`.
pub(crate) struct Entered(());

impl Entered {
    #[inline(always)]
    pub(crate) fn leave<T>(self, polled: Poll<T>) -> Poll<T> {
        polled
    }
}

#[inline(always)]
pub(crate) fn at<F: Future>(_kind: &'static str, _verb: &'static str, future: F) -> F {
    future
}

#[inline(always)]
pub(crate) fn at_named<F: Future>(
    _kind: &'static str,
    _verb: &'static str,
    _name: impl FnOnce() -> Option<String>,
    future: F,
) -> F {
    future
}

#[inline(always)]
pub(crate) fn around<F: Future>(_kind: &'static str, _verb: &'static str, future: F) -> F {
    future
}

/// Fails to compile if a type of this file is not zero-sized, or a function of it has an effect.
const _: () = {
    const fn evaluated() -> bool {
        panic!("the condition was evaluated")
    }
    assert!(size_of::<TaskHook>() == 0 && size_of::<Fault>() == 0);
    assert!(size_of::<Site>() == 0 && !std::mem::needs_drop::<Site>());
    assert!(!crate::mutant!("any") && !crate::fault!("any").fails());
    crate::always!(evaluated(), "any");
    crate::sometimes!(evaluated(), "any");
};
