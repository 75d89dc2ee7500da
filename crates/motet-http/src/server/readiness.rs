use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http::StatusCode;

/// Whether a server is to be sent requests: what its `/readyz` answers.
///
/// Not ready at first; ready when the program says so; not ready any more from when a [`Server`](super::Server) that has
/// it is told to stop, and that is final. A handle: clones are one.
///
/// # Examples
/// ```
/// use http::StatusCode;
/// use motet_http::Readiness;
///
/// let readiness = Readiness::new();
/// assert_eq!(readiness.status(), StatusCode::SERVICE_UNAVAILABLE);
/// readiness.set(true);
/// assert_eq!(readiness.status(), StatusCode::OK);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicU8>);

const NOT_READY: u8 = 0;
const READY: u8 = 1;
const STOPPING: u8 = 2;

impl Readiness {
    /// Begins not ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to be ready, or is so no more for a while; after the stop it changes nothing.
    pub fn set(&self, ready: bool) {
        let (from, to) = if ready { (NOT_READY, READY) } else { (READY, NOT_READY) };
        // It is so already, or stopping.
        let _unchanged = self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Is ready no more, for good.
    pub fn stop(&self) {
        self.0.store(STOPPING, Ordering::Relaxed);
    }

    /// Asks whether it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed) == READY
    }

    /// Asks whether it is stopping.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.load(Ordering::Relaxed) == STOPPING
    }

    /// Gives what to answer: 200 or 503.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        if self.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }
}
