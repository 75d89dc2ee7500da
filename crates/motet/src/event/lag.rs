use std::error::Error;
use std::fmt;
use std::num::NonZeroUsize;

/// What becomes of an event when a stream has no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lag {
    /// The emit waits until there is room: nothing is missed, unless it waits for longer than the deadline of a
    /// listener, which its [`Emitted`](super::Emitted) says then.
    Wait(NonZeroUsize),
    /// The oldest event goes; the stream says in its place how many were missed.
    DropOldest(NonZeroUsize),
    /// Only the latest event counts; what it replaced is not spoken of.
    Latest,
}

/// Says that a stream was too slow and so many events were dropped, here in their order: see [`Lag::DropOldest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed(pub u64);

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("an event was missed"),
            count => write!(f, "{count} events were missed"),
        }
    }
}

impl Error for Missed {}
