use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http::StatusCode;

/// Whether a server should get requests: the answer of its `/readyz`.
///
/// It starts as not ready, and becomes ready when the program sets it. When a [`Server`](super::Server) with this
/// readiness stops, it becomes not ready for good. It is a handle: clones share the state.
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
    /// Creates a readiness that is not ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the server is ready. It has no effect after the stop.
    pub fn set(&self, ready: bool) {
        let (from, to) = if ready { (NOT_READY, READY) } else { (READY, NOT_READY) };
        // The value is the same already, or the server is stopping.
        let _unchanged = self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Makes it not ready for good.
    pub fn stop(&self) {
        self.0.store(STOPPING, Ordering::Relaxed);
    }

    /// Returns `true` if the server is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed) == READY
    }

    /// Returns `true` if the server is stopping.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.load(Ordering::Relaxed) == STOPPING
    }

    /// Returns the status to answer: 200 or 503.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        if self.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }
}
