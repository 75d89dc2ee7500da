//! The library's behaviour, through its public API.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]
#![allow(clippy::disallowed_macros, reason = "the code of users logs with the macros of tracing")]

mod batch;
mod blocking;
mod caught;
mod causes;
mod closures;
mod container;
mod drivers;
mod durations;
mod edges;
mod event;
mod forget;
mod gather;
mod local;
mod lost_errors;
mod metrics;
mod middleware;
mod notes;
mod observe;
mod periodic;
mod pool;
mod queue;
mod race;
mod reader;
mod resilience;
mod resource;
mod resource_ends;
mod run;
mod scope;
mod shutdown;
mod spans;
mod stall;
mod stream;
mod stress;
mod supervisor;
mod timeout;
mod token;
mod values;
mod workers;
