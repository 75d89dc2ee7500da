//! Waiting in line, for senders and for receivers.

mod placing;
mod taking;

use std::task::{Context, Poll};
#[cfg(not(all(test, motet_loom)))]
use std::{future::Future as _, pin::pin};

#[cfg(not(all(test, motet_loom)))]
use tokio::task::yield_now;

pub(super) use self::placing::{Closed, Placing, Sending, Sent, Turn};
pub(super) use self::taking::{Line, Receiving, Taking};

/// How often an operation checks a slot that another thread is using before the task yields. That use takes
/// nanoseconds, unless the other thread was preempted.
const LOOKS: usize = if cfg!(all(test, motet_loom)) { 1 } else { 32 };

/// How often a sender that finds no free slot yields before it joins the line. Parking and waking a task, often on
/// another worker that is woken for it, costs as much as all of these yields; and while the line is empty, an operation
/// that frees a slot takes no lock. Four senders that share two workers with their receiver take 14 ns per item, and 25
/// ns with one yield. With as many yields as items are seen to leave during them it is 20 ns, because mostly the
/// receiver only moves to another worker.
const YIELDS: u8 = if cfg!(all(test, motet_loom)) { 1 } else { 16 };

/// Yields to other tasks, and to a thread that was preempted while it used a slot.
#[cfg(not(all(test, motet_loom)))]
fn again<T>(cx: &mut Context<'_>) -> Poll<T> {
    // As tokio yields. A wake from inside the poll would make another worker take the task over, and the two workers
    // would pass the queue back and forth.
    let turn = pin!(yield_now()).poll(cx);
    debug_assert!(turn.is_pending(), "a yield waits once");
    Poll::Pending
}

#[cfg(all(test, motet_loom))]
fn again<T>(cx: &mut Context<'_>) -> Poll<T> {
    super::sync::yield_now();
    cx.waker().wake_by_ref();
    Poll::Pending
}
