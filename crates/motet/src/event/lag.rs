use std::error::Error;
use std::fmt;
use std::num::NonZeroUsize;

/// The policy of a stream that is full when an event arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lag {
    /// The emit waits until the stream has capacity. No event is missed, unless an emit waits for longer than the
    /// deadline of a listener: then its [`Emitted`](super::Emitted) reports the timeout.
    Wait(NonZeroUsize),
    /// The stream drops its oldest event, and reports at that position how many were missed.
    DropOldest(NonZeroUsize),
    /// The stream keeps only the latest event, and does not report the events that it replaced.
    Latest,
}

/// The number of events that a slow stream dropped at this position: see [`Lag::DropOldest`].
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
