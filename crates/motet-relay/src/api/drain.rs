//! The bodies of refused requests.
//!
//! A request can be refused before its body is read. HTTP/1 then has to close the connection, and a client that is still
//! sending, or sends its next request at once, sees an error of the connection in place of the response. So relay reads the
//! rest of a small body before it responds.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use motet::middleware::Next;
use motet::task::timeout;

/// Maximum number of bytes that are read of the body of a refused request.
const MAX_DRAINED: u64 = 64 << 10;

/// How long a client has to send them.
const PATIENCE: Duration = Duration::from_secs(1);

/// The body of a request, of which the middleware keeps a handle.
#[derive(Debug, Clone)]
struct SharedBody(Arc<Mutex<Body>>);

impl SharedBody {
    fn lock(&self) -> MutexGuard<'_, Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.lock()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().size_hint()
    }
}

/// Middleware: reads the rest of the body of a refused request, if it is small. Otherwise the response announces that the
/// connection will be closed, so that the client sends no request on it.
pub(super) async fn drain_refused(request: Request, next: Next<Request, Response>) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Such a client sends its body only if relay begins to read it.
    let waits = request.headers().contains_key(EXPECT);
    let is_http_1 = request.version() < Version::HTTP_2;
    let (head, body) = request.into_parts();
    let body = SharedBody(Arc::new(Mutex::new(body)));
    let mut response = next.run(Request::from_parts(head, Body::new(body.clone()))).await;
    let is_refused = response.status().is_client_error() || response.status().is_server_error();
    if !is_refused || body.is_end_stream() {
        return response;
    }
    let is_read = !waits && timeout(PATIENCE, drain(body)).await.unwrap_or(false);
    if !is_read && is_http_1 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads a body to its end. Returns `false` if it is too large or fails.
async fn drain(mut body: SharedBody) -> bool {
    let mut left = MAX_DRAINED;
    while body.size_hint().lower() <= left {
        match body.frame().await {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => {
                let read = frame.data_ref().map_or(0, Bytes::len) as u64;
                let Some(rest) = left.checked_sub(read) else { return false };
                left = rest;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::response::IntoResponse as _;
    use http::StatusCode;
    use motet::middleware::Chain;
    use motet::stream::{Yielder, try_generator};

    use super::*;

    /// Sends a request with a body of frames of 16 KiB to a handler that responds without reading it. Returns the number of
    /// frames that were read, and whether the connection stays open.
    async fn respond(frames: usize, ends: bool, status: StatusCode, header: Option<&str>) -> (usize, bool) {
        let read = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&read);
        let body = try_generator(async move |mut y: Yielder<Bytes>| {
            for _ in 0..frames {
                y.emit(Bytes::from(vec![b'x'; 16 << 10])).await;
                counter.fetch_add(1, Ordering::Relaxed);
            }
            if !ends {
                std::future::pending::<()>().await;
            }
            Ok::<(), Infallible>(())
        });
        let mut request = Request::builder();
        if let Some(expect) = header {
            request = request.header(EXPECT, expect);
        }
        let chain =
            Chain::new().with(drain_refused).to(move |_: Request| async move { status.into_response() });
        let response = chain.call(request.body(Body::from_stream(body)).unwrap()).await;
        assert_eq!(response.status(), status);
        (read.load(Ordering::Relaxed), !response.headers().contains_key(CONNECTION))
    }

    #[tokio::test(start_paused = true)]
    async fn small_body_of_a_refused_request_is_read_to_its_end() {
        for (frames, ends, status, expect, read, stays_open) in [
            (4, true, StatusCode::UNAUTHORIZED, None, 4, true),
            (1, true, StatusCode::NOT_IMPLEMENTED, None, 1, true),
            (5, true, StatusCode::FORBIDDEN, None, 4, false),
            (1, false, StatusCode::FORBIDDEN, None, 1, false),
            (1, true, StatusCode::FORBIDDEN, Some("100-continue"), 0, false),
            (1, true, StatusCode::OK, None, 0, true),
        ] {
            let found = respond(frames, ends, status, expect).await;
            assert_eq!(found, (read, stays_open), "{frames} frames, {status}, {expect:?}");
        }
    }
}
