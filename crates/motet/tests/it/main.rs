//! The library's behaviour, through its public API.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod closures;
mod resource;
mod run;
mod scope;
mod shutdown;
mod supervisor;
