//! Streams of the items that an async function emits.

mod fallible;
mod plain;
mod slot;
mod state;
mod yielder;

pub use fallible::try_generator;
pub use plain::generator;
pub use yielder::Yielder;
