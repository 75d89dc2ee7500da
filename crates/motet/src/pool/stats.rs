use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::state::{Counts, Phase};
use crate::observe::Stats;

/// How a pool is, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// How many connections are kept open.
    pub min: usize,
    /// How many there may be.
    pub max: usize,
    /// Open and free.
    pub idle: usize,
    /// Open and held by somebody, or being checked for somebody.
    pub in_use: usize,
    /// Being opened.
    pub connecting: usize,
    /// Being closed; each has its place in the pool until that is done.
    pub closing: usize,
    /// Those who wait for a connection.
    pub waiting: usize,
    /// Those who have held one for [too long](super::Builder::leak_after).
    pub overdue: usize,
    /// Connections that were opened, ever.
    pub opened: u64,
    /// Connections that were closed, ever.
    pub closed: u64,
    /// Whether the last connect failed.
    pub is_down: bool,
    /// Whether it refuses newcomers.
    pub is_closed: bool,
}

impl PoolStats {
    pub(super) fn new(counts: Counts) -> Self {
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
            is_closed: counts.phase != Phase::Open,
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
            .count("in use", self.in_use as u64)
            .count("connecting", self.connecting as u64)
            .count("closing", self.closing as u64)
            .count("waiting", self.waiting as u64)
            .count("overdue", self.overdue as u64)
            .count("max", self.max as u64)
            .count("opened", self.opened)
            .count("closed", self.closed)
    }
}

/// Somebody who holds a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Where the connection was acquired.
    pub site: &'static Location<'static>,
    /// How long ago.
    pub held_for: Duration,
}

impl Holder {
    pub(super) fn new((site, held_for): (&'static Location<'static>, Duration)) -> Self {
        Self { site, held_for }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}", self.site, self.held_for)
    }
}

/// What was left of a pool when the time to close it was up: see [`Pool::close`](super::Pool::close).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct CloseReport {
    /// Connections that are still held.
    pub in_use: usize,
    /// Connections that are being closed.
    pub closing: usize,
    /// Who holds them, as far as that is [kept](super::Builder::leak_after).
    pub holders: Vec<Holder>,
}

impl CloseReport {
    /// Asks whether everything is closed.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.in_use + self.closing == 0
    }
}

impl fmt::Display for CloseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { in_use, closing, holders } = self;
        write!(f, "{in_use} connections are still in use, {closing} still being closed")?;
        holders.iter().try_for_each(|holder| write!(f, "; {holder}"))
    }
}

impl std::error::Error for CloseReport {}
