//! A memory budget for the bytes that clients make relay hold: request bodies that are being read, and responses that
//! are being written.
//!
//! The size of each body is limited, and so is the number of connections, but their product exceeds the available
//! memory. So the sum is limited as well. No request waits for the budget: beyond it relay answers 503 with
//! `Retry-After`. A client that sends or reads slowly can make other requests fail, but cannot make them hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use motet::middleware::Next;

use super::problem::Problem;

/// Budget of request bodies, which are counted until their request is done.
const REQUESTS: usize = 64 << 20;

/// Budget of responses, which are counted until the client has received them.
const ANSWERS: usize = 64 << 20;

/// Bodies up to this size may use the last quarter of the budget, so that large bodies leave space for single events.
const SMALL: usize = 512 << 10;

/// Responses up to this size are not counted: with the maximum number of connections all of them together are as large
/// as the budget.
const UNCOUNTED: usize = 16 << 10;

/// The two budgets of the API.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    requests: Arc<ByteBudget>,
    answers: Arc<ByteBudget>,
}

impl MemoryBudget {
    pub(crate) fn new() -> Self {
        Self { requests: ByteBudget::new(REQUESTS), answers: ByteBudget::new(ANSWERS) }
    }

    /// Returns an empty reservation for a request body.
    pub(super) fn for_request(&self) -> ByteReservation {
        ByteReservation { budget: Arc::clone(&self.requests), bytes: 0 }
    }

    pub(super) fn used(&self) -> [(&'static str, usize); 2] {
        [("requests", self.requests.used()), ("answers", self.answers.used())]
    }
}

#[derive(Debug)]
struct ByteBudget {
    limit: usize,
    used: AtomicUsize,
}

impl ByteBudget {
    fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// Reserved bytes of a budget, returned when they are dropped.
#[derive(Debug)]
pub(super) struct ByteReservation {
    budget: Arc<ByteBudget>,
    bytes: usize,
}

impl ByteReservation {
    /// Reserves `more` bytes. Returns `false` if the budget is exhausted.
    pub(super) fn grow(&mut self, more: usize) -> bool {
        let whole = self.bytes.saturating_add(more);
        let limit = if whole <= SMALL { self.budget.limit } else { self.budget.limit / 4 * 3 };
        let taken = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(more).filter(|used| *used <= limit)
        });
        if taken.is_ok() {
            self.bytes = whole;
        }
        taken.is_ok()
    }
}

impl Drop for ByteReservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Middleware: counts a response of a known size until the connection has written it or has ended.
pub(super) async fn bound_answers(
    memory: Arc<MemoryBudget>,
    request: Request,
    next: Next<Request, Response>,
) -> Response {
    let response = next.run(request).await;
    let Some(size) = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok()) else {
        // A feed, which holds a bounded part at a time.
        return response;
    };
    if size <= UNCOUNTED {
        return response;
    }
    let mut reserved = ByteReservation { budget: Arc::clone(&memory.answers), bytes: 0 };
    if !reserved.grow(size) {
        return Problem::unavailable("too many responses are waiting for clients to read them; try again")
            .into_response();
    }
    let reserved = Arc::new(reserved);
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            frame.map_data(|bytes| Bytes::from_owner(CountedBytes { bytes, _held: Arc::clone(&reserved) }))
        }))
    })
}

/// Bytes that are counted until their last handle is dropped.
struct CountedBytes {
    bytes: Bytes,
    _held: Arc<ByteReservation>,
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved(budget: &Arc<ByteBudget>) -> ByteReservation {
        ByteReservation { budget: Arc::clone(budget), bytes: 0 }
    }

    #[test]
    fn large_bodies_leave_a_quarter_of_the_memory_to_small_ones() {
        let budget = ByteBudget::new(REQUESTS);
        let mut large = reserved(&budget);
        assert!(large.grow(REQUESTS / 4 * 3));
        assert!(!large.grow(1));
        let mut small: Vec<_> = (0..=REQUESTS / 4 / SMALL).map(|_| reserved(&budget)).collect();
        let refused = small.iter_mut().position(|small| !small.grow(SMALL));
        assert_eq!(refused, Some(REQUESTS / 4 / SMALL));
        assert_eq!(budget.used(), REQUESTS);
    }

    #[test]
    fn reservation_cannot_overflow_and_frees_its_bytes_on_drop() {
        let budget = ByteBudget::new(10 << 20);
        let mut part = reserved(&budget);
        assert!(part.grow(100) && part.grow(50));
        assert!(!part.grow(usize::MAX), "the sum does not overflow");
        assert_eq!(budget.used(), 150);
        drop(part);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn memory_of_an_answer_is_counted_until_its_bytes_are_dropped() {
        let memory = Arc::new(MemoryBudget::new());
        let chain = motet::middleware::Chain::new()
            .with(motet::middleware::with_state(Arc::clone(&memory), bound_answers))
            .to(|_: Request| async { Response::new(Body::from(vec![7_u8; 1 << 20])) });
        let response = motet::middleware::Handler::call(&chain, Request::new(Body::empty())).await;
        let answers = || memory.answers.used();
        assert_eq!(answers(), 1 << 20);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        // As in the buffer of a connection whose client does not read.
        assert_eq!((bytes.len(), answers()), (1 << 20, 1 << 20));
        drop(bytes);
        assert_eq!(answers(), 0);
    }
}
