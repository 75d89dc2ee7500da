//! The primitives that several modules are built from: one copy of each.
//!
//! | You need | Use |
//! |---|---|
//! | a line of waiters, and a result for each of them | [`WaitList`] |
//! | wakers that are called once a lock is released | [`WakeList`] |
//! | values that different threads write, on cache lines of their own | [`Padded`] |
//!
//! All of them are plain state and take no lock. Only [`WakeList::wake`] runs code of the user.

mod wait_list;
mod wake_list;

pub(crate) use self::wait_list::{WaitList, WaitState};
pub(crate) use self::wake_list::WakeList;

/// Keeps values that different threads write on different cache lines: on two lines each, since lines are fetched in
/// pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);
