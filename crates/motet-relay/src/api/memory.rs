//! A memory budget for the bytes that clients make relay hold: request bodies that are being read, and responses that
//! are being written.
//!
//! The size of each body is limited, and so is the number of connections, but their product exceeds the available
//! memory. So the sum is limited as well. No request waits for the budget: beyond it relay answers 503 with
//! `Retry-After`. A client that sends or reads slowly can make other requests fail, but cannot make them hang. The keys of
//! one tenant may use half of each budget, so that they cannot make the requests of other tenants fail.
//!
//! The response to a write is never refused: the write is done, and the client would repeat it. A write with a large
//! response reserves its memory first ([`MemoryBudget::for_answer`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{Extensions, Method};
use http_body_util::BodyExt as _;
use motet::middleware::Next;

use super::auth::Principal;
use super::problem::Problem;
use crate::store::TenantSeq;

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

    /// Returns an empty reservation for the body of the request with these extensions.
    pub(super) fn for_request(&self, extensions: &Extensions) -> ByteReservation {
        ByteReservation::new(&self.requests, extensions.get().and_then(Principal::tenant))
    }

    /// Reserves the memory of a large response before the request stores anything.
    ///
    /// # Errors
    /// 503 if there is no memory left.
    pub(super) fn for_answer(
        &self,
        tenant: Option<TenantSeq>,
        bytes: usize,
    ) -> Result<ByteReservation, Problem> {
        let mut reserved = ByteReservation::new(&self.answers, tenant);
        if bytes > UNCOUNTED && !reserved.grow(bytes) {
            return Err(Problem::unavailable(
                "too many responses are waiting for clients to read them; nothing was stored; try again",
            ));
        }
        Ok(reserved)
    }

    pub(super) fn used(&self) -> [(&'static str, usize); 2] {
        [("requests", self.requests.used()), ("answers", self.answers.used())]
    }
}

#[derive(Debug)]
struct ByteBudget {
    limit: usize,
    used: AtomicUsize,
    /// The bytes of the tenants that use any.
    of_tenants: Mutex<HashMap<TenantSeq, usize>>,
}

impl ByteBudget {
    fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), of_tenants: Mutex::default() })
    }

    fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Adds bytes of a tenant. Returns `false` if the tenant would have more than `limit`.
    fn add_of(&self, tenant: TenantSeq, more: usize, limit: usize) -> bool {
        let mut of_tenants = self.of_tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let used = of_tenants.get(&tenant).copied().unwrap_or(0);
        let fits = used.checked_add(more).filter(|used| *used <= limit);
        if let Some(used) = fits {
            of_tenants.insert(tenant, used);
        }
        fits.is_some()
    }

    fn remove_of(&self, tenant: TenantSeq, bytes: usize) {
        let mut of_tenants = self.of_tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let used = of_tenants.entry(tenant).or_default();
        *used = used.saturating_sub(bytes);
        if *used == 0 {
            of_tenants.remove(&tenant);
        }
    }
}

/// Reserved bytes of a budget, returned when they are dropped.
#[derive(Debug)]
pub(super) struct ByteReservation {
    budget: Arc<ByteBudget>,
    tenant: Option<TenantSeq>,
    bytes: usize,
}

impl ByteReservation {
    fn new(budget: &Arc<ByteBudget>, tenant: Option<TenantSeq>) -> Self {
        Self { budget: Arc::clone(budget), tenant, bytes: 0 }
    }

    /// Counts `more` bytes, also beyond the budget.
    fn grow_beyond(&mut self, more: usize) {
        self.budget.used.fetch_add(more, Ordering::Relaxed);
        if let Some(tenant) = self.tenant {
            // Cannot fail: no sum of sizes in memory overflows.
            self.budget.add_of(tenant, more, usize::MAX);
        }
        self.bytes += more;
    }

    /// Reserves `more` bytes. Returns `false` if the budget is exhausted.
    pub(super) fn grow(&mut self, more: usize) -> bool {
        let whole = self.bytes.saturating_add(more);
        let limit = if whole <= SMALL { self.budget.limit } else { self.budget.limit / 4 * 3 };
        if self.tenant.is_some_and(|tenant| !self.budget.add_of(tenant, more, limit / 2)) {
            return false;
        }
        let taken = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(more).filter(|used| *used <= limit)
        });
        match (taken, self.tenant) {
            (Ok(_), _) => self.bytes = whole,
            (Err(_), Some(tenant)) => self.budget.remove_of(tenant, more),
            (Err(_), None) => {}
        }
        taken.is_ok()
    }
}

impl Drop for ByteReservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some(tenant) = self.tenant {
            self.budget.remove_of(tenant, self.bytes);
        }
    }
}

/// The tenant of the key of a request, in the extensions of its response.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerOf(pub(super) TenantSeq);

/// Middleware: counts a response of a known size until the connection has written it or has ended.
pub(super) async fn bound_answers(
    memory: Arc<MemoryBudget>,
    request: Request,
    next: Next<Request, Response>,
) -> Response {
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    let response = next.run(request).await;
    let Some(size) = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok()) else {
        // A feed, which holds a bounded part at a time.
        return response;
    };
    if size <= UNCOUNTED {
        return response;
    }
    let tenant = response.extensions().get::<AnswerOf>().map(|AnswerOf(tenant)| *tenant);
    let mut reserved = ByteReservation::new(&memory.answers, tenant);
    if !is_read {
        reserved.grow_beyond(size);
    } else if !reserved.grow(size) {
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
        ByteReservation::new(budget, None)
    }

    #[test]
    fn tenant_leaves_half_of_the_memory_to_the_others() {
        let budget = ByteBudget::new(REQUESTS);
        let [one, two] = [1, 2].map(|number| Some(TenantSeq::numbered(number)));
        let small = |tenant| {
            let mut reserved = ByteReservation::new(&budget, tenant);
            reserved.grow(SMALL).then_some(reserved)
        };
        let held: Vec<_> = std::iter::from_fn(|| small(one)).collect();
        assert_eq!(held.len(), REQUESTS / 2 / SMALL);
        assert!(small(two).is_some() && small(None).is_some());
        drop(held);
        assert!(small(one).is_some());
        assert!(budget.of_tenants.lock().unwrap().is_empty());
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn answer_of_a_write_is_not_refused_for_lack_of_memory() {
        let memory = Arc::new(MemoryBudget::new());
        let _all = std::iter::from_fn(|| memory.for_answer(None, SMALL).ok()).collect::<Vec<_>>();
        assert!(memory.for_answer(None, SMALL).unwrap_err().detail.contains("nothing was stored"));
        assert!(memory.for_answer(None, UNCOUNTED).is_ok());
        let chain = motet::middleware::Chain::new()
            .with(motet::middleware::with_state(Arc::clone(&memory), bound_answers))
            .to(|_: Request| async { Response::new(Body::from(vec![7_u8; 1 << 20])) });
        for (method, status) in [(Method::GET, 503), (Method::POST, 200), (Method::PATCH, 200)] {
            let request = Request::builder().method(method.clone()).body(Body::empty()).unwrap();
            let response = motet::middleware::Handler::call(&chain, request).await;
            assert_eq!(response.status().as_u16(), status, "{method}");
        }
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
