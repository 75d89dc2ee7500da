//! Streams of what an async function emits.

mod course;
mod fallible;
mod plain;
mod slot;
mod yielder;

pub use fallible::{TryGenerator, try_generator};
pub use plain::{Generator, generator};
pub use yielder::{Emit, Yielder};
