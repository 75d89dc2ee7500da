//! The settings of a batcher and of a loader.

use std::panic::Location;
use std::time::Duration;

use super::error::BuildError;
use super::state::Limits;
use crate::task::Name;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) name: Option<Name>,
    pub(super) site: &'static Location<'static>,
    pub(super) max_items: usize,
    pub(super) max_delay: Option<Duration>,
    pub(super) max_in_flight: usize,
    pub(super) max_waiting: Option<usize>,
    pub(super) max_in_line: usize,
    pub(super) eager: bool,
}

impl Settings {
    #[track_caller]
    pub(super) fn new() -> Self {
        Self {
            name: None,
            site: Location::caller(),
            max_items: 64,
            max_delay: Some(Duration::from_millis(1)),
            max_in_flight: 4,
            max_waiting: None,
            max_in_line: 10_000,
            eager: false,
        }
    }

    /// The default is large enough that callers seldom wait while all batches are in flight.
    fn max_waiting(&self) -> usize {
        self.max_waiting.unwrap_or_else(|| self.max_items.saturating_mul(16))
    }

    pub(super) fn check(&self, max_weight: u64) -> Result<(), BuildError> {
        match self {
            Self { max_items: 0, .. } => Err(BuildError::NoItems),
            Self { max_in_flight: 0, .. } => Err(BuildError::NoneInFlight),
            _ if max_weight == 0 => Err(BuildError::NoWeight),
            _ if self.max_waiting() < self.max_items => Err(BuildError::WaitingBelowBatch),
            _ => Ok(()),
        }
    }

    pub(super) fn limits(&self, max_weight: u64) -> Limits {
        Limits {
            max_items: self.max_items,
            max_weight,
            max_in_flight: self.max_in_flight,
            max_waiting: self.max_waiting(),
            max_in_line: self.max_in_line,
            eager: self.eager,
        }
    }
}
