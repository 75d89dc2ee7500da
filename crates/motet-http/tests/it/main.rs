//! The crate's behaviour, through its public API, against servers on loopback.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod bodies;
mod calls;
mod cancel;
mod codings;
mod connections;
mod drivers;
mod durations;
mod errors;
mod harness;
mod limits;
mod listeners;
mod middleware;
mod names;
mod nginx;
mod proxies;
mod redirects;
mod retries;
mod server;
mod spans;
mod transport;
mod uploads;
mod versions;
