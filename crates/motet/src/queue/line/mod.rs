//! Waiting in line, on either side of a queue.

mod placing;
mod taking;

use std::task::{Context, Poll};

pub(super) use self::placing::{Closed, Placing, Sending, Sent, Turn};
pub(super) use self::taking::{Line, Receiving, Taking};

/// How often a slot that another thread is just using is looked at again before the task yields: it is a matter of
/// nanoseconds, unless that thread was stopped in the middle.
const LOOKS: usize = if cfg!(all(test, motet_loom)) { 1 } else { 32 };

/// How often one that finds no room, or no item, lets others run before it goes into the line: mostly they make some.
/// Four times were no better.
const YIELDS: u8 = 1;

/// Lets others run first: a thread that was stopped in the middle of a slot among them.
fn again<T>(cx: &Context<'_>) -> Poll<T> {
    #[cfg(all(test, motet_loom))]
    super::sync::yield_now();
    cx.waker().wake_by_ref();
    Poll::Pending
}
