use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Without an attempt for so long nothing is known any more. Longer than the longest wait after an attempt that relay failed.
const KNOWN_FOR: Duration = Duration::from_secs(120);

/// What keeps relay itself from attempting anything: the error of the last attempt, if that was charged to relay.
#[derive(Debug, Default)]
pub(super) struct OwnTrouble(Mutex<Option<(Instant, String)>>);

impl OwnTrouble {
    /// An attempt failed, and it was relay's own fault.
    pub(super) fn failed(&self, error: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), error.to_owned()));
    }

    /// An attempt came further than that.
    pub(super) fn passed(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn known(&self) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(at, _)| at.elapsed() < KNOWN_FOR).map(|(_, error)| error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trouble_ends_with_an_attempt_or_after_its_time() {
        let trouble = OwnTrouble::default();
        assert_eq!(trouble.known(), None);
        trouble.failed("no descriptors");
        assert_eq!(trouble.known().as_deref(), Some("no descriptors"));
        trouble.passed();
        assert_eq!(trouble.known(), None);
        trouble.failed("no route");
        tokio::time::advance(KNOWN_FOR).await;
        assert_eq!(trouble.known(), None);
    }
}
