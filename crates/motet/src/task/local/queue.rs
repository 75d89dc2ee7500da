//! The children that were woken: a stack that any thread pushes to and the owner takes whole.
//!
//! Taking everything with one swap needs no stub node and has no ABA problem (R. K. Treiber, "Systems
//! programming: coping with parallelism", 1986). The owner turns what it took around, so children are polled in
//! the order of their wakes. The word that holds the stack also records whether the owner is awake: only the
//! push that finds it asleep wakes it, so a burst of wakes takes the lock around its waker once. It is not a
//! [`WaitList`](crate::sync::WaitList): a push takes no lock, and a child is its own entry.
#![allow(unsafe_code, reason = "intrusive links: nodes are pushed from any thread without an allocation")]

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::node::{Header, NodeRef};
use crate::sync::wake_each;

/// The stack is empty, and the owner sleeps: the next push wakes it.
const ASLEEP: *mut Header = ptr::null_mut();
/// The stack is empty, and the owner checks it before it sleeps.
const AWAKE: *mut Header = ptr::without_provenance_mut(1);
/// The owner is gone.
const CLOSED: *mut Header = ptr::without_provenance_mut(2);

pub(super) struct Queue {
    /// A constant of those above, or the node that was pushed last. Each node in the stack is a counted reference.
    head: AtomicPtr<Header>,
    owner: Mutex<Option<Waker>>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { head: AtomicPtr::new(AWAKE), owner: Mutex::new(None) }
    }

    /// Pushes a node to the queue it belongs to, and wakes the owner if it waits.
    pub(super) fn push(node: NodeRef) {
        let raw = node.into_raw();
        // SAFETY: the reference that `node` held keeps the header, and with it the queue, alive until the
        // exchange below gives it away; from then on only `keep` is used.
        unsafe {
            let queue = Arc::as_ptr(&(*raw).queue);
            let mut head = (*queue).head.load(Ordering::Relaxed);
            loop {
                if head == CLOSED {
                    drop(NodeRef::from_raw(raw));
                    return;
                }
                // Once pushed, the node can be taken and freed, and the queue with it, before the owner is woken.
                let keep = (head == ASLEEP).then(|| Arc::clone(&(*raw).queue));
                let below = if head == AWAKE { ptr::null_mut() } else { head };
                (*raw).next_ready.store(below, Ordering::Relaxed);
                // Release publishes the link. Acquire pairs with `sleep`: its waker is in place.
                match (*queue).head.compare_exchange_weak(head, raw, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(_) => {
                        if let Some(queue) = keep {
                            queue.wake_owner();
                        }
                        return;
                    }
                    Err(found) => head = found,
                }
            }
        }
    }

    fn owner(&self) -> MutexGuard<'_, Option<Waker>> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_owner(&self) {
        let waker = self.owner().take();
        wake_each(waker);
    }

    /// Takes all that was pushed, in the order of the pushes: the first node, linked to the others, and the
    /// last. The owner counts as awake from here on.
    pub(super) fn take(&self) -> Option<(NonNull<Header>, NonNull<Header>)> {
        if self.head.load(Ordering::Relaxed) == AWAKE {
            return None;
        }
        let last = self.head.swap(AWAKE, Ordering::Acquire);
        debug_assert!(last != CLOSED, "only the owner takes, and closing is the last thing it does");
        let mut first = ptr::null_mut();
        let mut rest = last;
        while !rest.is_null() {
            // SAFETY: a node in the stack holds a reference to itself, which is the caller's now.
            let link = unsafe { &(*rest).next_ready };
            let below = link.load(Ordering::Relaxed);
            link.store(first, Ordering::Relaxed);
            first = rest;
            rest = below;
        }
        NonNull::new(first).zip(NonNull::new(last))
    }

    /// Puts the owner to sleep until the next push. Returns [`Asleep::No`] if a node was pushed since the last `take`.
    pub(super) fn sleep(&self, waker: &Waker) -> Asleep {
        // Cloned outside of the lock, since a clone may run user code. No push reads it yet: the owner is awake.
        let current = self.owner().take();
        let waker = match current {
            Some(current) if current.will_wake(waker) => current,
            _ => waker.clone(),
        };
        *self.owner() = Some(waker);
        match self.head.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Asleep::Yes,
            Err(_) => Asleep::No,
        }
    }

    /// Releases all nodes that are queued now or pushed later: the owner is gone.
    pub(super) fn close(&self) {
        let mut rest = self.head.swap(CLOSED, Ordering::Acquire);
        if rest == AWAKE || rest == CLOSED {
            return;
        }
        while !rest.is_null() {
            // SAFETY: each node in the stack is a counted reference, taken over with the swap.
            unsafe {
                let below = (*rest).next_ready.load(Ordering::Relaxed);
                drop(NodeRef::from_raw(rest));
                rest = below;
            }
        }
    }
}

/// The result of an owner's attempt to sleep.
pub(super) enum Asleep {
    Yes,
    No,
}
