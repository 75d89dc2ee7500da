//! Middleware of the client, and chains among services of tower.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body as AxumBody;
use axum::routing::get;
use http::{HeaderMap, Request as HttpRequest, Response as HttpResponse, StatusCode};
use motet::middleware::{Chain, Handler, Next};
use motet_http::{Error, ErrorKind, Request, Response, ResponseBody, TimeLimit, bridge};
use tower_layer::Layer as _;
use tower_service::Service;

use crate::harness::{builder, scripted, serve, test};

type Answer = Result<Response, Error>;

async fn sign(mut request: Request, next: Next<Request, Answer>) -> Answer {
    request.headers_mut().insert("x-signature", "s".parse().unwrap());
    let mut response = next.run(request).await?;
    response.headers_mut().insert("x-seen", "yes".parse().unwrap());
    Ok(response)
}

/// Calls once more, by itself, whatever it is.
async fn twice(request: Request, next: Next<Request, Answer>) -> Answer {
    let again = request.try_clone().unwrap();
    next.clone().run(request).await?;
    next.run(again).await
}

#[tokio::test]
async fn middleware_runs_outside_of_the_retries_of_a_call() {
    test(async |n| {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let handler = get(async move |headers: HeaderMap| {
            assert_eq!(headers["x-signature"], "s");
            let status = [StatusCode::BAD_GATEWAY, StatusCode::OK][count.fetch_add(1, Ordering::SeqCst) % 2];
            (status, "hello")
        });
        let base = serve(n, Router::new().route("/", handler)).await;
        let chain = Chain::new().with(twice).with(sign);
        let api = builder(n, &base).middleware(chain).build().unwrap();
        let answer = api.get("/").fetch().await.unwrap();
        assert_eq!(answer.headers()["x-seen"], "yes");
        assert_eq!(answer.text().await.unwrap(), "hello");
        assert_eq!(calls.load(Ordering::SeqCst), 4, "two calls of two attempts each");
    })
    .await;
}

#[tokio::test]
async fn total_timeout_covers_middleware() {
    test(async |n| {
        let (base, connections) = scripted(n, async |mut connection| connection.closed().await).await;
        let hang = |_: Request, _: Next<Request, Answer>| std::future::pending::<Answer>();
        let builder = builder(n, &base).timeout(Duration::from_millis(50));
        let api = builder.middleware(Chain::new().with(hang)).build().unwrap();
        let error = api.get("/").fetch().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut(TimeLimit::Total)), "{error:?}");
        assert_eq!(connections.load(Ordering::SeqCst), 0);
    })
    .await;
}

async fn stamp(
    request: HttpRequest<AxumBody>,
    next: Next<HttpRequest<AxumBody>, HttpResponse<AxumBody>>,
) -> HttpResponse<AxumBody> {
    if request.uri().path() == "/refused" {
        return HttpResponse::builder().status(StatusCode::FORBIDDEN).body(AxumBody::empty()).unwrap();
    }
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-stamp", "here".parse().unwrap());
    response
}

#[tokio::test]
async fn chain_as_an_axum_layer_changes_or_replaces_the_response() {
    test(async |n| {
        let routes = Router::new().route("/", get(async || "hello")).route("/refused", get(async || "never"));
        let base = serve(n, routes.layer(bridge::layer(Chain::new().with(stamp)))).await;
        let api = builder(n, &base).build().unwrap();
        let answer = api.get("/").fetch().await.unwrap();
        assert_eq!(answer.headers()["x-stamp"], "here");
        assert_eq!(answer.text().await.unwrap(), "hello");
        assert_eq!(api.get("/refused").send().await.unwrap().status(), StatusCode::FORBIDDEN);
    })
    .await;
}

/// Panics, as tower allows, when it is called without having been ready; its clones never are, until they were asked.
struct Strict {
    is_ready: bool,
    reserved: Arc<AtomicUsize>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { is_ready: false, reserved: Arc::clone(&self.reserved) }
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        if self.is_ready {
            self.reserved.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Service<u32> for Strict {
    type Response = u32;
    type Error = Infallible;
    type Future = Ready<Result<u32, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if !std::mem::replace(&mut self.is_ready, true) {
            self.reserved.fetch_add(1, Ordering::SeqCst);
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u32) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called without having been ready");
        self.reserved.fetch_sub(1, Ordering::SeqCst);
        ready(Ok(n + 1))
    }
}

#[tokio::test]
async fn bridge_calls_only_a_ready_service_and_frees_its_reservation() {
    let reserved = Arc::new(AtomicUsize::new(0));
    let strict = Strict { is_ready: false, reserved: Arc::clone(&reserved) };
    let handler: Handler<u32, Result<u32, Infallible>> = bridge::handler(strict);
    // There and back, twice over.
    let handler: Handler<u32, Result<u32, Infallible>> = bridge::handler(bridge::service(handler));
    let mut service = bridge::service(Chain::new().to(handler));
    for n in 0..3 {
        let calls = (service.call(n), service.clone().call(n));
        let (a, b) = tokio::join!(calls.0, calls.1);
        assert_eq!((a, b), (Ok(n + 1), Ok(n + 1)));
    }
    drop(service.call(9));
    assert_eq!(reserved.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn client_is_a_service_of_tower() {
    type Called = Result<HttpResponse<ResponseBody>, Error>;

    async fn count(
        request: HttpRequest<&'static str>,
        next: Next<HttpRequest<&'static str>, Called>,
    ) -> Called {
        let mut response = next.run(request).await?;
        response.headers_mut().insert("x-seen", "yes".parse().unwrap());
        Ok(response)
    }

    test(async |n| {
        let answer = async |headers: HeaderMap, body: String| {
            (StatusCode::IM_A_TEAPOT, format!("{body} {}", headers["x-own"].to_str().unwrap()))
        };
        let base = serve(n, Router::new().route("/v1/tea", axum::routing::post(answer))).await;
        let api = builder(n, &format!("{base}/v1")).header("x-own", "yes").build().unwrap();
        let mut service = bridge::layer(Chain::new().with(count)).layer(api.clone());
        for uri in ["/tea".to_owned(), format!("{base}/v1/tea")] {
            let mut response = service.call(HttpRequest::post(uri).body("milk").unwrap()).await.unwrap();
            assert_eq!(
                (response.status(), &response.headers()["x-seen"]),
                (StatusCode::IM_A_TEAPOT, &"yes".parse().unwrap())
            );
            assert_eq!(response.body_mut().chunk().await.unwrap().unwrap(), "milk yes");
        }
        let elsewhere = HttpRequest::get(format!("{base}/v2")).body("").unwrap();
        let error = service.call(elsewhere).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Request(_)), "{error:?}");
        assert_eq!((error.attempts(), api.stats().in_flight), (0, 0));
    })
    .await;
}
