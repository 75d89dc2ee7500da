//! Waiting in line, on either side of a queue.

mod placing;
mod taking;

use std::task::{Context, Poll};
#[cfg(not(all(test, motet_loom)))]
use std::{future::Future as _, pin::pin};

#[cfg(not(all(test, motet_loom)))]
use tokio::task::yield_now;

pub(super) use self::placing::{Closed, Placing, Sending, Sent, Turn};
pub(super) use self::taking::{Line, Receiving, Taking};

/// How often a slot that another thread is just using is looked at again before the task yields: it is a matter of
/// nanoseconds, unless that thread was stopped in the middle.
const LOOKS: usize = if cfg!(all(test, motet_loom)) { 1 } else { 32 };

/// How often a sender that finds no room lets others run before it goes into the line. To be parked and woken, often by
/// another worker that is called for it, costs as much as all of these; and while nobody is in line, whoever makes room
/// takes no lock. Four senders that share two workers with their receiver take 14 ns an item, and 25 with once; with as
/// often as items are seen to be taken meanwhile it is 20, for mostly the receiver only changes its worker.
const YIELDS: u8 = if cfg!(all(test, motet_loom)) { 1 } else { 16 };

/// Lets others run first: a thread that was stopped in the middle of a slot among them.
#[cfg(not(all(test, motet_loom)))]
fn again<T>(cx: &mut Context<'_>) -> Poll<T> {
    // As tokio yields. A wake from inside of the poll would call another worker to take the task over, and the two would
    // pass the queue to and fro.
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
