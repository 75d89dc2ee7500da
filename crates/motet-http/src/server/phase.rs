//! The phase of a connection: pure state, shared by the parts of the connection and by the registry.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use motet::task::CancelToken;
use tokio::time::Instant;

/// The phase of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A head is being read, within its timeout: the first one, or one whose first bytes have arrived.
    Head,
    /// The last request is answered, and no byte of another one has arrived.
    Idle,
    /// A request is being handled, or its response is being written.
    Busy,
}

/// The phase of a connection, and its start.
#[derive(Debug)]
pub(super) struct ConnectionState {
    /// The time from which the nanoseconds count.
    origin: Instant,
    /// Nanoseconds since `origin` (146 years), shifted left by two bits for the phase.
    word: AtomicU64,
    /// Set when the server closes the connection in favour of another one.
    pub(super) evicted: CancelToken,
}

const PHASES: [Phase; 3] = [Phase::Head, Phase::Idle, Phase::Busy];

impl ConnectionState {
    pub(super) fn new(origin: Instant) -> Self {
        let state = Self { origin, word: AtomicU64::new(0), evicted: CancelToken::new() };
        state.enter(Phase::Head);
        state
    }

    pub(super) fn enter(&self, phase: Phase) {
        let nanos = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX >> 2);
        self.word.store(nanos << 2 | phase as u64, Ordering::Relaxed);
    }

    /// Notes bytes from the client.
    pub(super) fn received(&self) {
        if self.phase().0 == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    pub(super) fn phase(&self) -> (Phase, Instant) {
        let word = self.word.load(Ordering::Relaxed);
        // The fourth value is never stored.
        let phase = PHASES.get((word & 3) as usize).copied().unwrap_or(Phase::Busy);
        (phase, self.origin + Duration::from_nanos(word >> 2))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_begin_a_request_head_only_on_an_idle_connection() {
        let state = ConnectionState::new(Instant::now());
        let begun = Instant::now();
        advance(Duration::from_secs(1)).await;
        state.received();
        assert_eq!(state.phase(), (Phase::Head, begun), "the first head is timed from the start");
        for phase in [Phase::Busy, Phase::Idle] {
            state.enter(phase);
            advance(Duration::from_secs(1)).await;
            state.received();
        }
        assert_eq!(state.phase(), (Phase::Head, begun + Duration::from_secs(3)));
        state.enter(Phase::Busy);
        state.received();
        assert_eq!(state.phase().0, Phase::Busy, "these are bytes of a body");
    }
}
