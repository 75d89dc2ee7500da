//! motet beside other libraries, on the same work, in one run.
//!
//! `cargo xtask compare [AREA ..]`: one JSON object per case on standard output, a table on standard error.

mod allocations;
mod batch;
mod container;
mod event;
mod guarantees;
mod http;
mod measure;
mod middleware;
mod origin;
mod pool;
mod queue;
mod relay;
mod report;
mod resilience;
mod signature;
mod stream;
mod task;

use std::env;
use std::process::ExitCode;

use report::{Cases, say};

/// The name of an area, and the function that runs it.
type Area = (&'static str, fn(&mut Cases));

const AREAS: [Area; 13] = [
    ("batch", batch::run),
    ("container", container::run),
    ("event", event::run),
    ("http", http::run),
    ("middleware", middleware::run),
    ("origin", origin::run),
    ("pool", pool::run),
    ("queue", queue::run),
    ("relay", relay::run),
    ("resilience", resilience::run),
    ("signature", signature::run),
    ("stream", stream::run),
    ("task", task::run),
];

fn main() -> ExitCode {
    let asked: Vec<String> = env::args().skip(1).collect();
    let known = |name: &String| AREAS.iter().any(|(area, _)| area == name);
    if let Some(unknown) = asked.iter().find(|name| !known(name)) {
        let names: Vec<_> = AREAS.iter().map(|(area, _)| *area).collect();
        say!("there is no area {unknown:?}; there are: {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    report::head();
    for (area, run) in AREAS {
        if asked.is_empty() || asked.iter().any(|name| name == area) {
            run(&mut Cases::of(area));
        }
    }
    ExitCode::SUCCESS
}
