//! The part of a shared limit that the keys of one tenant may use, so that a tenant does not use it up for the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::Method;
use motet::middleware::Next;
use motet::resilience::{Bulkhead, BulkheadPermit, RejectedError};

use super::auth::Principal;
use super::problem::Problem;
use crate::store::{READS_PER_TENANT, TenantSeq};

/// Number of tenants whose bulkheads are kept although they are not in use.
const KEPT: usize = 1_024;

/// A bulkhead for each tenant.
#[derive(Debug)]
pub(crate) struct TenantBulkheads {
    limit: usize,
    /// Number of requests of a tenant that may wait, and how long.
    queue: Option<(usize, Duration)>,
    of: Mutex<HashMap<TenantSeq, Bulkhead>>,
}

impl TenantBulkheads {
    /// Admits `limit` uses of a tenant at once, and refuses further ones.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, queue: None, of: Mutex::default() }
    }

    /// The bulkheads of reads: the lists of a tenant leave a part of the store's readers to the others.
    pub(crate) fn of_reads() -> Self {
        Self { queue: Some((64, Duration::from_secs(30))), ..Self::new(READS_PER_TENANT) }
    }

    fn of(&self, tenant: TenantSeq) -> Bulkhead {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() >= KEPT && !of.contains_key(&tenant) {
            of.retain(|_, bulkhead| {
                let stats = bulkhead.stats();
                stats.in_flight > 0 || stats.waiting > 0
            });
        }
        let made = || {
            let builder = Bulkhead::builder(self.limit);
            let builder = match self.queue {
                Some((waiting, time)) => builder.queue(waiting, time),
                None => builder,
            };
            builder.build().expect("the limit is above zero")
        };
        of.entry(tenant).or_insert_with(made).clone()
    }

    pub(super) fn try_acquire(&self, tenant: TenantSeq) -> Result<BulkheadPermit<'static>, RejectedError> {
        self.of(tenant).try_acquire().map(BulkheadPermit::into_owned)
    }

    /// Waits for a permit of the tenant.
    ///
    /// # Cancel safety
    /// Safe: a dropped future has taken no permit.
    async fn acquire(&self, tenant: TenantSeq) -> Result<BulkheadPermit<'static>, RejectedError> {
        self.of(tenant).acquire().await.map(BulkheadPermit::into_owned)
    }
}

/// Middleware: limits the reads of a key of one tenant that run at once.
pub(super) async fn share_reads(
    reads: Arc<TenantBulkheads>,
    request: Request,
    next: Next<Request, Response>,
) -> Response {
    let tenant = request.extensions().get::<Principal>().and_then(Principal::tenant);
    let Some(tenant) = tenant.filter(|_| reads_many_rows(&request)) else {
        return next.run(request).await;
    };
    match reads.acquire(tenant).await {
        Ok(_permit) => next.run(request).await,
        Err(_) => {
            Problem::unavailable("too many reads of this tenant are waiting; try again").into_response()
        }
    }
}

/// Paths of requests that read many rows although they are no reads of HTTP.
const READING: [&str; 5] = ["/replays", "/precheck/active", "/recover", "/replay-missing", "/bulk-replay"];

fn reads_many_rows(request: &Request) -> bool {
    let path = request.uri().path().trim_end_matches('/');
    // HEAD has the handler of GET.
    matches!(*request.method(), Method::GET | Method::HEAD) || READING.iter().any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::StatusCode;
    use http::header::{AUTHORIZATION, HOST};
    use tower_service::Service as _;

    use super::*;
    use crate::access::KeyScope::Read;
    use crate::api::matrix::{World, run};

    #[test]
    fn keys_of_a_tenant_open_at_most_a_quarter_of_all_feeds() {
        run(&async |world: &World| {
            let keys = [
                world.key(&[Read], Some("acme"), None).await,
                world.key(&[Read], Some("globex"), None).await,
                world.admin.clone(),
            ];
            let open = async |key: &str| {
                let request = Request::builder().uri("/v1/events/feed").header(HOST, "relay");
                let request = request.header(AUTHORIZATION, format!("Bearer {key}")).body(Body::empty());
                let Ok(response) = world.router.clone().call(request.unwrap()).await;
                response
            };
            let mut held = Vec::new();
            loop {
                let response = open(&keys[0]).await;
                if response.status() != StatusCode::OK {
                    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
                    break;
                }
                held.push(response);
            }
            assert_eq!(held.len(), 25);
            for key in &keys[1..] {
                assert_eq!(open(key).await.status(), StatusCode::OK);
            }
            held.pop();
            assert_eq!(open(&keys[0]).await.status(), StatusCode::OK);
        });
    }

    #[test]
    fn reads_are_shared_whatever_their_method_is() {
        let reads = |method, path: &str| {
            reads_many_rows(&Request::builder().method(method).uri(path).body(Body::empty()).unwrap())
        };
        for (method, path) in [
            (Method::GET, "/v1/events"),
            (Method::HEAD, "/v1/events"),
            (Method::POST, "/v1/tenants/acme/replays?dry_run=true"),
            (Method::POST, "/api/v1/app/acme/endpoint/e/recover/"),
            (Method::POST, "//api/v1/app/acme/msg/precheck/active"),
        ] {
            assert!(reads(method, path), "{path}");
        }
        assert!(!reads(Method::POST, "/v1/events"));
    }

    #[tokio::test]
    async fn each_tenant_has_a_limit_of_its_own() {
        let shares = TenantBulkheads::new(2);
        let [one, two] = [1, 2].map(TenantSeq::numbered);
        let held = [shares.try_acquire(one).unwrap(), shares.try_acquire(one).unwrap()];
        assert!(shares.try_acquire(one).is_err());
        assert!(shares.try_acquire(two).is_ok());
        // Unused bulkheads are dropped, and used ones are kept.
        for other in 0..3 * KEPT as i64 {
            drop(shares.try_acquire(TenantSeq::numbered(10 + other)));
        }
        assert!(shares.of.lock().unwrap().len() <= KEPT);
        assert!(shares.try_acquire(one).is_err());
        drop(held);
        assert!(shares.try_acquire(one).is_ok());
    }
}
