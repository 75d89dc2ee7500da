//! Questions: what does an emitted item of a stream cost, and what does it cost to process items in tasks?
//!
//! `generator`: one operation is one number, read in a task of a runtime with two workers. `hand-written` is a struct with a
//! counter, the lower limit of a generator. `mpsc(64)` is a task that sends. The other libraries create the same stream:
//! async-stream with a macro, async-fn-stream and genawaiter without. Cases `of 4` create a stream for every four numbers;
//! `nested` reads a stream within a stream within a stream.
//!
//! Guarantees of motet that another library may not state: two emits at once do not compile; a stream that has ended stays
//! ended; a part in tokio's cooperative budget; the last emitted item is not lost; an emit within `FuturesUnordered` is woken.
//!
//! `par_map`: one operation is one number, four at a time, with nearly no work, so the cost is that of passing items.
//! `buffer_unordered` and `buffered` run in the task of the reader, on one core, without any task; they lose nothing, and make
//! no progress while the reader is busy. `JoinSet` is a task for each item, four at most. par-stream has workers, like motet.
//! motet rethrows every panic in place of its item, has a scope that waits for its workers, and stops the workers when the
//! reader is dropped.

mod generators;
mod par_map;

use tokio::runtime::{Builder, Runtime};

use crate::report::Cases;

pub(crate) fn run(cases: &mut Cases) {
    let two = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    generators::run(cases, &two);
    par_map::run(cases, &two);
}

/// Runs in a task of the runtime, like the code of a server.
#[allow(clippy::disallowed_methods, reason = "a benchmark is awaited at once")]
fn on(runtime: &Runtime, work: impl Future<Output = ()> + Send + 'static) {
    runtime.block_on(async { tokio::spawn(work).await.expect("the work does not panic") });
}
