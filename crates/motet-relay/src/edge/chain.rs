//! What every request goes through before its handler, as chains, and their bridge to axum's routes.
//!
//! ```text
//! everything: count > catch_panic
//! /v1:                              require_bearer > refuse_when_closed > handler
//! ```

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use motet::middleware::{BoxFuture, Chain, Handler, Next, catch_panic_with, with_state};
use tower_layer::Layer;
use tower_service::Service;

use super::auth::require_bearer;
use super::problem::Problem;
use super::{Access, Intake};

/// Around every route.
pub(super) fn around_all() -> Chained {
    let bug = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a bug in relay; the log has the details");
    // A panic is counted as the answer that it becomes.
    Chained(Chain::new().with(count).with(catch_panic_with(move |panicked| bug(panicked).into_response())))
}

/// Around the routes of the API.
pub(super) fn around_api(access: Arc<Access>, intake: Arc<Intake>) -> Chained {
    Chained(
        Chain::new().with(with_state(access, require_bearer)).with(with_state(intake, refuse_when_closed)),
    )
}

/// During shutdown reads still work, and everything else is refused so that the client tries elsewhere.
async fn refuse_when_closed(
    intake: Arc<Intake>,
    request: Request,
    next: Next<Request, Response>,
) -> Response {
    if intake.is_closed() && request.method() != Method::GET {
        return Problem::unavailable("relay is shutting down; nothing was stored; try again").into_response();
    }
    next.run(request).await
}

async fn count(request: Request, next: Next<Request, Response>) -> Response {
    let method = known_method(request.method());
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("relay_http_requests_total", "method" => method, "path" => path, "status" => status)
        .increment(1);
    response
}

/// A client may invent methods, and each would be a time series for ever.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// A chain as a layer of a router.
#[derive(Debug, Clone)]
pub(super) struct Chained(Chain<Request, Response>);

impl<S> Layer<S> for Chained
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    type Service = Through;

    fn layer(&self, inside: S) -> Through {
        let handler = self.0.clone().to(move |request| {
            let mut inside = inside.clone();
            async move {
                let Ok(()) = poll_fn(|cx| inside.poll_ready(cx)).await;
                let Ok(response) = inside.call(request).await;
                response
            }
        });
        Through(handler)
    }
}

/// A service that is a chain with what it leads to.
#[derive(Debug, Clone)]
pub(super) struct Through(Handler<Request, Response>);

impl Service<Request> for Through {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    /// A chain has nothing to be ready for.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Answering {
        Answering(self.0.call(request))
    }
}

/// The call of a [`Through`].
pub(super) struct Answering(BoxFuture<Response>);

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_ends_its_connection() {
        async fn bug() {
            panic!("on purpose");
        }
        let mut router = Router::new().route("/bug", get(bug)).layer(around_all());
        let request = Request::builder().uri("/bug").body(Body::empty()).unwrap();
        let Ok(response) = Service::<Request>::call(&mut router, request).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body = to_bytes(response.into_body(), 1_000).await.unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("on purpose"), "it tells what is inside");
    }

    #[test]
    fn parts_are_left_out_or_in_another_order() {
        assert_eq!(format!("{:?}", around_all()), "Chained(Chain(count > catch_panic))");
        let access = Arc::new(Access::default());
        let api = around_api(access, Arc::new(Intake::default()));
        assert_eq!(format!("{api:?}"), "Chained(Chain(require_bearer > refuse_when_closed))");
    }
}
