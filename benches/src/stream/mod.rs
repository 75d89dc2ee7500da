//! Question: what does an item of a stream cost that an async function emits, and what does it cost beside the work to
//! have tasks work on it?
//!
//! `generator`: one operation is one number, read in a task of a runtime with two workers. `hand-written` is a struct with
//! a counter, which no generator can be faster than. `mpsc(64)` is a task that sends. The rivals make the same stream:
//! async-stream with a macro, async-fn-stream and genawaiter without. Cases `of 4` make a stream for every four numbers;
//! `nested` reads one stream in another in another.
//!
//! What ours gives and a rival may not: two emits at once do not compile (async-fn-stream: they change places); polled
//! after its end, it is at its end (genawaiter and async-fn-stream panic); a part in tokio's coop budget; an item emitted
//! last is not lost; an emit from within `FuturesUnordered` is woken.
//!
//! `par_map`: one operation is one number, the work is next to nothing, with four at once; so what is measured is the
//! price of handing things over. `buffer_unordered` and `buffered` run in the task of the reader, on one core, with no
//! task at all; they lose nothing, and stand still while the reader is busy. `JoinSet` is a task for each item, four at
//! most. par-stream has workers as ours; it ends as if nothing were wrong when one of them panics, without its items.
//! Ours is told of every panic in its place, has a scope that waits for its workers, and stops them when the reader goes.

mod generators;
mod par_map;

use tokio::runtime::{Builder, Runtime};

use crate::report::Cases;

pub(crate) fn run(cases: &mut Cases) {
    let two = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    generators::run(cases, &two);
    par_map::run(cases, &two);
}

/// In a task of the runtime, as a server's code runs.
#[allow(clippy::disallowed_methods, reason = "a benchmark is awaited at once")]
fn on(runtime: &Runtime, work: impl Future<Output = ()> + Send + 'static) {
    runtime.block_on(async { tokio::spawn(work).await.expect("the work does not panic") });
}
