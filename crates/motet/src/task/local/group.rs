//! The engine for futures of one type whose outputs are needed in order.
#![allow(unsafe_code, reason = "the group vouches for the lifetime of the futures in its set")]

use std::marker::PhantomData;
use std::mem;
use std::task::{Context, Poll};

use super::set::{Handle, Set};

/// Futures of one type and their outputs, in the order in which they were added.
pub(crate) struct Group<F: Future> {
    set: Set,
    members: Vec<Handle<F::Output>>,
    futures: PhantomData<F>,
}

// SAFETY: the nodes, with their futures and outputs, are reached from here alone, and move along with the group.
// What wakers on other threads share is atomic.
unsafe impl<F: Future + Send> Send for Group<F> where F::Output: Send {}

impl<F: Future> Group<F> {
    pub(crate) fn new(futures: impl Iterator<Item = F>) -> Self {
        let set = Set::new();
        // SAFETY: a `Group<F>` does not outlive `F`, and its destructor clears the set.
        let members = futures.enumerate().map(|(at, future)| unsafe { set.push(at, future) }).collect();
        Self { set, members, futures: PhantomData }
    }

    /// Creates a group without members, for members that are added one by one.
    pub(crate) fn empty() -> Self {
        Self::new(std::iter::empty())
    }

    /// Adds a member behind all others.
    pub(crate) fn push(&mut self, future: F) {
        // SAFETY: as in `new`.
        let member = unsafe { self.set.push(self.members.len(), future) };
        self.members.push(member);
    }

    /// Polls until a member ends, and returns its index; `None` when all members have ended.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.set.poll_next(cx)
    }

    /// Returns a reference to the output of the member with this index.
    pub(crate) fn output(&self, at: usize) -> Option<&F::Output> {
        self.members[at].peek()
    }

    /// Takes the output of the member with this index.
    pub(crate) fn take(&mut self, at: usize) -> Option<F::Output> {
        self.members[at].take()
    }

    /// Takes all outputs.
    ///
    /// # Panics
    /// If one is missing: a future panicked, and yet the group was polled on.
    #[track_caller]
    pub(crate) fn outputs(&mut self) -> Vec<F::Output> {
        let members = mem::take(&mut self.members);
        let output = |mut member: Handle<F::Output>| match member.take() {
            Some(output) => output,
            None => panic!("polled again after one of the futures panicked"),
        };
        members.into_iter().map(output).collect()
    }
}

/// This implementation shows the borrow checker that the futures are used when the group is dropped, so that they cannot
/// borrow a value that is dropped before the group:
/// ```compile_fail,E0597
/// let gathered;
/// let text = String::new();
/// gathered = motet::task::gather([async { text.len() }]);
/// ```
impl<F: Future> Drop for Group<F> {
    fn drop(&mut self) {
        self.set.clear_on_drop();
    }
}
