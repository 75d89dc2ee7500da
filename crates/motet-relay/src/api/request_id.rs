//! The id of a request, which a client can find again in the log: `x-request-id`.
//!
//! A client may choose it; otherwise relay makes one. It is in the response, in the problem that a response describes,
//! and in the lines that the request logs.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};
use motet::middleware::Next;
use tracing::Instrument as _;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum length of an id that a client chooses.
const MAX_LENGTH: usize = 64;

tokio::task_local! {
    /// The id of the request that the task works on.
    static CURRENT: HeaderValue;
}

/// Middleware: accepts or makes the id of a request, and adds it to the response.
pub(super) async fn identify(request: Request, next: Next<Request, Response>) -> Response {
    let id = chosen(request.headers()).unwrap_or_else(new_id);
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    let mut response = CURRENT.scope(id.clone(), next.run(request)).instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Returns the id of the request that the current task works on, if it works on one.
pub(super) fn current() -> Option<String> {
    CURRENT.try_with(|id| id.to_str().ok().map(str::to_owned)).ok().flatten()
}

/// Returns the id that a client has chosen: 1 to 64 characters of `[A-Za-z0-9_.-]`. Another id is ignored, because it may
/// forge lines of a log.
fn chosen(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let id = headers.get(REQUEST_ID)?;
    let fits = (1..=MAX_LENGTH).contains(&id.len()) && id.as_bytes().iter().all(is_allowed);
    fits.then(|| id.clone())
}

/// Creates an id of 128 bits: a count under two keys that are drawn when the process starts. It is no secret.
fn new_id() -> HeaderValue {
    static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let [high, low] = KEYS.each_ref().map(|key| key.hash_one(count));
    HeaderValue::try_from(format!("{high:016x}{low:016x}")).expect("hexadecimal digits are a header")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_that_could_forge_a_log_line_are_not_accepted() {
        let given = |id: &[u8]| {
            chosen(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_bytes(id).unwrap())]))
                .map(|id| id.to_str().unwrap().to_owned())
        };
        for id in ["a", "7f3c-0.A_z", &"a".repeat(64)] {
            assert_eq!(given(id.as_bytes()).as_deref(), Some(id));
        }
        for id in ["", "a b", "a\tb", "a\"", "a=b", "{a}", &"a".repeat(65)] {
            assert_eq!(given(id.as_bytes()), None, "{id:?}");
        }
        assert_eq!(given("\u{e9}".as_bytes()), None);
        assert_eq!(chosen(&HeaderMap::new()), None);
    }

    #[test]
    fn new_ids_differ_and_would_be_accepted() {
        let ids: HashSet<_> = (0..1_000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1_000);
        for id in ids {
            assert_eq!(chosen(&HeaderMap::from_iter([(REQUEST_ID, id.clone())])), Some(id));
        }
    }
}
