//! The behaviour of the testkit, through its public API.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod cancel;
mod durations;
mod mock;
mod sim;
