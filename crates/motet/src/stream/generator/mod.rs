//! Streams of what an async function emits.

mod course;
mod fallible;
mod plain;
mod slot;
mod yielder;

pub use fallible::try_generator;
pub use plain::generator;
pub use yielder::Yielder;
