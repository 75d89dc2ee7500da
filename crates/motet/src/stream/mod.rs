//! Streams: async iterators, generators that make them, and tasks that work on what comes out of them.
//!
//! # When to use what
//! | You want to | |
//! |---|---|
//! | make a stream of a loop that awaits | [`generator`](generator()); with `?`: [`try_generator`] |
//! | have a stream run ahead of its reader | [`spawned`](StreamCombinators::spawned) |
//! | apply a function to many items at once, on all cores | [`par_map`](StreamCombinators::par_map) |
//! | the same with several items in one call | [`par_map_batched`](StreamCombinators::par_map_batched) |
//! | gather items, up to a number or a time | [`chunks_within`](StreamCombinators::chunks_within) |
//! | end a stream in good order | [`until`](StreamCombinators::until) |
//! | have several readers of one stream | [`broadcast`](StreamCombinators::broadcast) |
//! | open a source again when it fails | [`retry_source`](retry_source()) |
//! | have only the last of many changes | [`debounce`](StreamCombinators::debounce) |
//! | free the places of what is done, in the reader's task | [`buffer_ahead`](StreamCombinators::buffer_ahead) |
//! | send a stream into a queue | [`pipe_to`](StreamCombinators::pipe_to) |
//! | read a queue as a stream | [`queue::Receiver`](crate::queue::Receiver) is one |
//! | read events as a stream | [`Emitter::stream`](crate::event::Emitter::stream) |
//! | answer each item, from batches | no stream: [`batch`](crate::batch) |
//!
//! # What to take from elsewhere
//! All of these are streams of `futures_core`, so the adapters of other crates work on them, and these on theirs.
//!
//! | | take | why |
//! |---|---|---|
//! | `next`, `map`, `filter`, `then`, `take`, `skip`, `fold`, `collect`, `zip`, `chain`, `scan` | futures or tokio-stream | good as they are |
//! | merge two | `merge` of tokio-stream, `select` of futures | both take turns |
//! | merge many, by key or as they come | `StreamMap` of tokio-stream, `select_all` of futures | |
//! | at most one item in so long | `throttle` of tokio-stream | |
//! | a limit of time for each item | `timeout`, `timeout_repeating` of tokio-stream | |
//! | what is ready, as one item | `ready_chunks` of futures | |
//! | several futures at once that borrow, on one core | `buffered`, `buffer_unordered` of futures | [`par_map`](StreamCombinators::par_map) needs `'static` and a scope; in return it goes on while its reader is busy |
//! | a `watch` or `broadcast` channel, an interval, signals, lines | the wrappers of tokio-stream | |
//! | chunks by number and time | [`chunks_within`](StreamCombinators::chunks_within), or `chunks_timeout` of tokio-stream | the same chunks; ours looks at no clock for a chunk that is full at once |
//! | an end on a signal | [`until`](StreamCombinators::until), or `take_until` of futures | a token needs no future of your own, and drops the source |
//! | one source for several readers | [`broadcast`](StreamCombinators::broadcast) | a `broadcast` channel of tokio has one policy, to forget the oldest, and a task to fill it is yours |
//!
//! # Guarantees
//! - **Nothing lost.** An item that a source has given comes out once, in the promised order, unless whoever reads goes
//!   away or the scope is cancelled; a stream that was cut off by its scope says so
//!   ([`Spawned::cut_off`]). An error is an item. A panic reaches the reader in the place of its item, and the stream
//!   goes on; a panic that nobody reads goes to the scope.
//! - **Who leaves stops the rest.** A stream that is dropped drops its body; its tasks are cancelled, and dropped at
//!   their next await, with the source. The scope waits for them.
//! - **Bounded.** What is taken from a source and not read is limited: see [`ParMap::window`] and `ahead`.
//! - **Fused.** After its end a stream stays at its end.
//! - **Budget.** Streams take part in tokio's coop budget: 32 items of a generator, or what a reader collects from its
//!   tasks at once, count as one operation.
//! - **Price.** A generator allocates nothing, nor do its items. A worker of `par_map` is one allocation; an item is none.
//!
//! # Examples
//! ```
//! use motet::stream::{StreamCombinators as _, Yielder, try_generator};
//! use motet::task::{Nursery, scope};
//! use tokio_stream::StreamExt as _;
//!
//! # #[derive(Debug)] struct Refused;
//! # async fn list(page: u32) -> Result<Vec<String>, Refused> {
//! #     Ok(if page < 3 { vec![format!("{page}a"), format!("{page}b")] } else { Vec::new() })
//! # }
//! # async fn size(name: String) -> usize { name.len() }
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let total = scope(async |n: &Nursery<Refused>| {
//!     let names = try_generator(async |mut y: Yielder<String>| {
//!         let mut page = 0;
//!         loop {
//!             let names = list(page).await?; // ends the stream with the error
//!             if names.is_empty() {
//!                 return Ok(());
//!             }
//!             for name in names {
//!                 y.emit(name).await;
//!             }
//!             page += 1;
//!         }
//!     });
//!     // Eight at once, on all cores; sizes in the order of the names, an error in its place.
//!     let sizes = names.par_map(8, async |name: Result<String, Refused>| Ok(size(name?).await));
//!     let mut sizes = sizes.ordered(n, "sizes").expect("the scope is open");
//!     let mut total = 0;
//!     while let Some(size) = sizes.next().await {
//!         total += size?;
//!     }
//!     Ok(total)
//! });
//! assert_eq!(total.await.unwrap(), 12);
//! # });
//! ```

mod broadcast;
mod buffer_ahead;
mod chunks_within;
mod combinators;
mod debounce;
mod generator;
mod pipe_to;
mod retry_source;
mod tasks;
mod until;

pub use broadcast::Broadcast;
pub use combinators::StreamCombinators;
pub use generator::{Yielder, generator, try_generator};
pub use pipe_to::PipeTo;
pub use retry_source::retry_source;
pub use tasks::{ParMap, ParMapBatched, Spawned};

use buffer_ahead::BufferAhead;
use chunks_within::ChunksWithin;
use debounce::Debounce;
use until::Until;
