use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::state::{PoolCounts, PoolPhase};
use crate::observe::{Stats, rounded};

/// The numbers of a pool, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// The minimum number of connections, which the pool keeps open.
    pub min: usize,
    /// The maximum number of connections.
    pub max: usize,
    /// Connections that are open and idle.
    pub idle: usize,
    /// Connections that are held by a caller, or being checked for one.
    pub in_use: usize,
    /// Connections that are being opened.
    pub connecting: usize,
    /// Connections that are being closed; each counts towards the maximum until it is closed.
    pub closing: usize,
    /// Callers that wait for a connection.
    pub waiting: usize,
    /// Callers that have held a connection for [too long](super::PoolBuilder::leak_after).
    pub overdue: usize,
    /// Connections that were opened since the pool was created.
    pub opened: u64,
    /// Connections that were closed since the pool was created.
    pub closed: u64,
    /// `true` if the last connect failed.
    pub is_down: bool,
    /// `true` if the pool is closed.
    pub is_closed: bool,
}

impl PoolStats {
    pub(super) fn new(counts: PoolCounts) -> Self {
        Self {
            min: counts.min,
            max: counts.max,
            idle: counts.idle,
            in_use: counts.live - counts.idle,
            connecting: counts.connecting,
            closing: counts.closing,
            waiting: counts.waiting,
            overdue: counts.overdue,
            opened: counts.made,
            closed: counts.closed,
            is_down: counts.down,
            is_closed: counts.phase != PoolPhase::Open,
        }
    }

    pub(super) fn show(&self) -> Stats {
        let state = match self {
            Self { is_closed: true, .. } => "closed",
            Self { is_down: true, .. } => "down",
            _ => "open",
        };
        Stats::new()
            .text("state", state)
            .count("idle", self.idle as u64)
            .count("in_use", self.in_use as u64)
            .count("connecting", self.connecting as u64)
            .count("closing", self.closing as u64)
            .count("waiting", self.waiting as u64)
            .count("overdue", self.overdue as u64)
            .count("max", self.max as u64)
            .total("opened", self.opened)
            .total("closed", self.closed)
    }
}

/// A holder of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Where the connection was acquired.
    pub site: &'static Location<'static>,
    /// How long the connection has been held.
    pub held_for: Duration,
}

impl Holder {
    pub(super) fn new((site, held_for): (&'static Location<'static>, Duration)) -> Self {
        Self { site, held_for }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}", self.site, rounded(self.held_for))
    }
}

/// The connections that were left when the time to close a pool had elapsed. See [`Pool::close`](super::Pool::close).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct CloseReport {
    /// Connections that are still held.
    pub in_use: usize,
    /// Connections that are being closed.
    pub closing: usize,
    /// The holders of these connections, if holders are [recorded](super::PoolBuilder::leak_after).
    pub holders: Vec<Holder>,
}

impl CloseReport {
    /// Returns `true` if every connection is closed.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.in_use + self.closing == 0
    }
}

impl fmt::Display for CloseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { in_use, closing, holders } = self;
        if self.is_complete() {
            return f.write_str("every connection is closed");
        }
        write!(f, "connections still in use: {in_use}, being closed: {closing}")?;
        holders.iter().try_for_each(|holder| write!(f, "; {holder}"))
    }
}

impl std::error::Error for CloseReport {}
