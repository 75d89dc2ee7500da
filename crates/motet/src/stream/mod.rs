//! Streams: async iterators, generators that create them, and tasks that process their items.
//!
//! ```
//! use motet::stream::{StreamCombinators as _, Yielder, try_generator};
//! use motet::task::{Nursery, scope};
//! use tokio_stream::StreamExt as _;
//!
//! # async fn list(page: u32) -> Result<Vec<String>, std::io::Error> {
//! #     Ok(vec![format!("{page}a"), format!("{page}b")])
//! # }
//! # async fn size(name: String) -> usize { name.len() }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let names = try_generator(async |mut y: Yielder<String>| {
//!     for page in 0..3 {
//!         for name in list(page).await? { // an error is the last item of the stream
//!             y.emit(name).await;
//!         }
//!     }
//!     Ok::<_, std::io::Error>(())
//! });
//! let total = scope(async |n: &Nursery<std::io::Error>| {
//!     // Eight at once, on all cores. The sizes have the order of the names.
//!     let sizes = names.par_map(8, async |name: Result<String, _>| Ok::<_, std::io::Error>(size(name?).await));
//!     let mut sizes = sizes.ordered(n, "sizes").expect("the scope is open");
//!     let mut total = 0;
//!     while let Some(size) = sizes.next().await {
//!         total += size?;
//!     }
//!     Ok(total)
//! });
//! assert_eq!(total.await?, 12);
//! # Ok(())
//! # }
//! ```
//!
//! | You want to | Use |
//! |---|---|
//! | create a stream from a loop that awaits | [`generator`](generator()); with `?`: [`try_generator`] |
//! | read a stream ahead of its reader, in a task | [`spawned`](StreamCombinators::spawned) |
//! | apply a function to many items at once, on all cores | [`par_map`](StreamCombinators::par_map) |
//! | apply a function to batches of items, on all cores | [`par_map_batched`](StreamCombinators::par_map_batched) |
//! | collect items into chunks, by number and time | [`chunks_within`](StreamCombinators::chunks_within) |
//! | end a stream when a token is cancelled | [`until`](StreamCombinators::until) |
//! | read one stream in several places | [`broadcast`](StreamCombinators::broadcast) |
//! | reopen a source that fails | [`retry_source`](retry_source()) |
//! | keep only the last of many changes | [`debounce`](StreamCombinators::debounce) |
//! | start further work of a source before the reader asks, without a task | [`buffer_ahead`](StreamCombinators::buffer_ahead) |
//! | send a stream into a queue | [`pipe_to`](StreamCombinators::pipe_to) |
//! | read a queue as a stream | [`queue::Receiver`](crate::queue::Receiver) is a stream |
//! | read events as a stream | [`Emitter::stream`](crate::event::Emitter::stream) |
//! | process items in batches, and answer each caller | [`batch`](crate::batch) |
//!
//! # Combinators of other crates
//! All streams of this module implement `Stream` of `futures_core`, so they work with the combinators of other crates.
//!
//! | You want to | Use | Because |
//! |---|---|---|
//! | `next`, `map`, `filter`, `then`, `take`, `skip`, `fold`, `collect`, `zip`, `chain`, `scan` | futures or tokio-stream | they need no scope |
//! | merge two streams | `merge` of tokio-stream, `select` of futures | both alternate between the streams |
//! | merge many streams | `StreamMap` of tokio-stream, `select_all` of futures | the first one has a key for each stream |
//! | limit the rate of items | `throttle` of tokio-stream | it needs no scope |
//! | set a timeout for each item | `timeout`, `timeout_repeating` of tokio-stream | it needs no scope |
//! | collect the items that are ready | `ready_chunks` of futures | it needs no timer |
//! | run several futures that borrow, on one core | `buffered`, `buffer_unordered` of futures | [`par_map`](StreamCombinators::par_map) needs `'static` and a scope; in return it continues while its reader is busy |
//! | read a `watch` or `broadcast` channel, an interval, signals, lines | the wrappers of tokio-stream | they need no scope |
//! | collect chunks by number and time | [`chunks_within`](StreamCombinators::chunks_within), or `chunks_timeout` of tokio-stream | the chunks are the same; `chunks_within` starts no timer for a chunk that is full at once |
//! | end a stream on a signal | [`until`](StreamCombinators::until), or `take_until` of futures | `until` takes a token instead of a future, and drops the source |
//! | read one source in several places | [`broadcast`](StreamCombinators::broadcast) | a `broadcast` channel of tokio always drops the oldest item, and you write the task that fills it |
//!
//! # Guarantees
//! - **No loss.** Each item of a source is yielded once, in the documented order, unless the reader is dropped or the scope
//!   is cancelled. A stream that ended because its scope was cancelled reports it: [`Spawned::cut_off`]. An error is an
//!   item. A panic of the function is rethrown in the reader, in place of its item, and the stream continues; a panic of a
//!   source or of a body ends the stream. A panic that is not read is passed to the scope.
//! - **Drop.** A dropped stream drops its body. Its tasks are cancelled, and dropped with the source at their next await.
//!   The scope waits for them.
//! - **Bounds.** The number of items that are taken from a source and not read is limited, by [`ParMap::window`] or by
//!   `ahead`.
//! - **Fused.** A stream that has ended stays ended.
//! - **Budget.** Streams take part in tokio's cooperative budget. 32 items of a generator count as one operation, as do
//!   the items that a reader collects from its tasks at once.
//! - **Cost.** A generator and its items allocate nothing. A worker of `par_map` is one allocation, and its items are none.

mod broadcast;
mod buffer_ahead;
mod chunks_within;
mod combinators;
mod debounce;
mod error;
mod generator;
mod pipe_to;
mod retry_source;
mod tasks;
mod until;

pub use broadcast::Broadcast;
pub use combinators::StreamCombinators;
pub use error::StreamSetupError;
pub use generator::{Yielder, generator, try_generator};
pub use retry_source::retry_source;
pub use tasks::{ParMap, ParMapBatched, Spawned};

use buffer_ahead::BufferAhead;
use chunks_within::ChunksWithin;
use debounce::Debounce;
use pipe_to::PipeTo;
use until::Until;
