//! End-to-end tests of the program over HTTP, with well-behaved and misbehaving receivers.
//!
//! Each test starts the program on a data directory of its own. A test waits for an observable change and never for
//! time to pass; where the test is about a timeout, the delay is on the receiver's side.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "the tests are clients of the program and use tokio directly"
)]

mod api;
mod auto_disable;
mod backups;
mod cors;
mod crash;
mod damage;
mod data_directory;
mod demo;
mod doctor;
mod durations;
mod encryption;
mod endpoint_limits;
mod endpoints;
mod erasure;
mod fairness;
mod feed;
mod full_disk;
mod guard;
mod harness;
mod https;
mod idempotency;
mod import;
mod inherited_socket;
mod keys;
mod kills;
mod lifecycle;
mod limits;
#[cfg(target_os = "linux")]
mod local_failure;
mod management;
mod observability;
mod openapi;
mod pauses;
mod receivers;
mod replays;
mod request_ids;
mod restores;
mod retention;
mod settings;
mod shutdown;
mod signature;
mod standard_error;
mod svix_apps;
mod svix_clients;
mod svix_endpoints;
mod svix_errors;
mod svix_messages;
mod tenants;
mod tls;
mod tour;
mod upgrade;
