use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use motet::observe::Stats;

/// Statistics of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// The number of open connections.
    pub connections: usize,
    /// The number of connections that were accepted.
    pub accepted: u64,
    /// The number of connections that were refused because their address was at its limit and all its connections were
    /// busy.
    pub refused: u64,
}

impl ServerStats {
    pub(super) fn shown(self) -> Stats {
        Stats::new()
            .count("connections", self.connections as u64)
            .total("accepted", self.accepted)
            .total("refused", self.refused)
    }
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    open: AtomicUsize,
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Counts {
    pub(super) fn stats(&self) -> ServerStats {
        ServerStats {
            connections: self.open.load(Ordering::Relaxed),
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection, counted while this exists.
#[derive(Debug)]
pub(super) struct Counted(Arc<Counts>);

impl Counted {
    pub(super) fn new(counts: &Arc<Counts>) -> Self {
        counts.open.fetch_add(1, Ordering::Relaxed);
        counts.accepted.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counts))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
