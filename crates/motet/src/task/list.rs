//! The list of a scope's waiting children, threaded through the children themselves.
//!
//! A child's node lives in its task's own allocation, so listing it costs no memory and touches only its
//! neighbours; a table beside the tasks cost a third more per child. The technique is tokio's own
//! (`runtime/task/list.rs`). It is not a [`WaitList`](crate::sync::WaitList), which would be such a table.
//!
//! The rules that make it sound:
//! - A node is linked only while it is pinned, and unlinked before it is dropped ([`Node`]'s owner sees to it,
//!   and a drop of a linked node aborts the process).
//! - The `shared` part is accessed only through the [`List`], which the scope keeps under its lock.
//! - `listed` belongs to the child: only its task writes and reads it.
//! - `scope_age` is written and read under that lock as well; the other fields of `spec` never change.
#![allow(unsafe_code, reason = "an intrusive list: see the rules above")]

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomPinned;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::Waker;
use std::time::Duration;

use super::child::Spec;

/// The entry of a child in the list.
pub(crate) struct Node {
    spec: Spec,
    shared: UnsafeCell<Shared>,
    // Others point at a linked node, so a `&mut` to it must not claim to be the only way to it.
    _pinned: PhantomPinned,
}

struct Shared {
    before: Option<NonNull<Node>>,
    after: Option<NonNull<Node>>,
    /// The waker of the node's own task, without a count of references: the task outlives its node.
    waker: Option<ManuallyDrop<Waker>>,
}

/// The data of a child beside its links.
#[derive(Default)]
pub(super) struct ListingState {
    /// Written under the lock, by the child's own task alone; so that task may read it without.
    listed: Cell<bool>,
    /// The number of the list in its scope. Only the child's own task uses it, like `listed`.
    number: Cell<u8>,
    /// Never changes once the child is started.
    hidden: bool,
    /// How old the scope was when the child was listed, in `AGE_STEP`s and one more; 0 where ages are not
    /// kept. Written and read under the lock.
    scope_age: Cell<u32>,
}

impl ListingState {
    pub(super) fn hide(&mut self) {
        self.hidden = true;
    }

    pub(super) fn is_hidden(&self) -> bool {
        self.hidden
    }
}

/// Four bytes last for a year and four months.
const AGE_STEP: Duration = Duration::from_millis(10);

// SAFETY: the part that other threads share is accessed only under the lock of the list.
unsafe impl Send for Node {}

/// The list. It must stay in the scope's lock.
#[derive(Default)]
pub(crate) struct List {
    first: Option<NonNull<Node>>,
    last: Option<NonNull<Node>>,
}

// SAFETY: the nodes are alive while they are linked, and reached through the list alone.
unsafe impl Send for List {}

/// A listed child, as the list shows it.
pub(crate) struct Listed<'a> {
    pub(crate) spec: &'a Spec,
    /// How old the scope was when the child was listed: at its first poll.
    pub(crate) scope_age: Option<Duration>,
    /// `None` for a child that is not woken by a cancellation.
    pub(crate) waker: Option<&'a Waker>,
}

impl Node {
    pub(crate) fn new(spec: Spec) -> Self {
        let shared = Shared { before: None, after: None, waker: None };
        Self { spec, shared: UnsafeCell::new(shared), _pinned: PhantomPinned }
    }

    #[inline]
    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The number of the list that contains the node.
    pub(crate) fn number(&self) -> u8 {
        self.spec.listing.number.get()
    }

    /// Returns `true` if the child is listed. Only the child's own task may call this.
    #[inline]
    pub(crate) fn is_listed(&self) -> bool {
        self.spec.listing.listed.get()
    }
}

impl List {
    /// Lists a node at the end.
    ///
    /// # Safety
    /// `waker` is the waker with which the runtime polls the task whose future contains the node: it is valid as long as
    /// the memory of that task.
    pub(crate) unsafe fn push(
        &mut self,
        number: u8,
        node: Pin<&Node>,
        waker: Option<&Waker>,
        scope_age: Option<Duration>,
    ) {
        assert!(!node.spec.listing.listed.replace(true), "a child is listed once");
        node.spec.listing.number.set(number);
        if let Some(age) = scope_age {
            let steps = u32::try_from(age.as_millis() / AGE_STEP.as_millis()).unwrap_or(u32::MAX - 1);
            node.spec.listing.scope_age.set(steps + 1);
        }
        // SAFETY: `&mut self` is exclusive, so no other thread accesses the shared part of an unlinked node.
        let shared = unsafe { &mut *node.shared.get() };
        // SAFETY: the caller's promise; the copy is never dropped, and gone when the node is unlinked.
        let waker = waker.map(|waker| ManuallyDrop::new(unsafe { std::ptr::read(waker) }));
        *shared = Shared { before: self.last, after: None, waker };
        let node = NonNull::from(node.get_ref());
        match self.last.replace(node) {
            // SAFETY: a linked node is alive, and `&mut self` is exclusive.
            Some(last) => unsafe { (*last.as_ref().shared.get()).after = Some(node) },
            None => self.first = Some(node),
        }
    }

    /// Takes a listed node off the list. It must be of this list.
    pub(crate) fn remove(&mut self, node: Pin<&Node>) {
        assert!(node.spec.listing.listed.replace(false), "a child is taken off the list once");
        // SAFETY: `&mut self` is exclusive, and the node is on this list.
        let shared = unsafe { &mut *node.shared.get() };
        shared.waker = None;
        let (before, after) = (shared.before.take(), shared.after.take());
        match before {
            // SAFETY: a linked node is alive, and `&mut self` is exclusive.
            Some(before) => unsafe { (*before.as_ref().shared.get()).after = after },
            None => self.first = after,
        }
        match after {
            // SAFETY: a linked node is alive, and `&mut self` is exclusive.
            Some(after) => unsafe { (*after.as_ref().shared.get()).before = before },
            None => self.last = before,
        }
    }

    /// Shows every listed child, the oldest first.
    #[allow(
        clippy::needless_pass_by_ref_mut,
        reason = "exclusive access to the list is exclusive access to its nodes"
    )]
    pub(crate) fn for_each(&mut self, mut show: impl FnMut(Listed<'_>)) {
        let mut next = self.first;
        while let Some(node) = next {
            // SAFETY: a linked node is alive: it is unlinked, through this list, before it goes.
            let node = unsafe { node.as_ref() };
            // SAFETY: `&mut self` is exclusive, and one node is shown at a time.
            let shared = unsafe { &*node.shared.get() };
            next = shared.after;
            let scope_age = node.spec.listing.scope_age.get().checked_sub(1).map(|steps| AGE_STEP * steps);
            show(Listed { spec: &node.spec, scope_age, waker: shared.waker.as_deref() });
        }
    }
}

impl Drop for Node {
    #[inline]
    fn drop(&mut self) {
        if self.spec.listing.listed.get() {
            // The scope would read freed memory. This does not happen: the owner of the node unlinks it in its own drop.
            std::process::abort();
        }
    }
}
