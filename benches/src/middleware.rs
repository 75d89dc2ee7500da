//! Question: what do eight parts around a handler cost that only pass the call on?
//!
//! The parts of motet are eight `async fn(request, next)`, each with a boxed future, around an `async fn` from `u64` to a
//! `Result`. The parts of each other library are written as in its documentation:
//!
//! - axum, `from_fn`: the same shape, over HTTP requests. A call is a clone of the router and a `oneshot`. The cost of a
//!   router without parts is subtracted, in time and allocations; that of motet includes its handler.
//! - tower, a `BoxCloneService` around each of eight services that pass the call on without a future of their own. A call is a
//!   clone and a `oneshot`, as a shared service needs. Its readiness is checked on the clone that is called.
//! - A `Vec<Arc<dyn Middleware>>` with async_trait, as in reqwest-middleware and surf, without HTTP. Its `Next` borrows, so it
//!   cannot outlive the call, and a plain `async fn` cannot be a part.
//! - reqwest-middleware, over a last part that answers without a network; a client with only that part is subtracted.
//! - tower's services within each other, for scale: their types are known, no future is boxed, and the chain is fixed at
//!   compile time.
//!
//! If a handler waits once, all parts are polled twice.

use std::convert::Infallible;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn;
use axum::response::Response;
use axum::routing::get;
use motet::middleware::{BoxFuture, Chain, Handler, Middleware, Next};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use tower::util::BoxCloneService;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::measure::{Cost, both};
use crate::report::{Case, Cases};

type Answer = Result<u64, Infallible>;

const PARTS: usize = 8;

pub(crate) fn run(cases: &mut Cases) {
    let handler = ours(pass, answer);
    let mut ours_ready = || {
        black_box(ready(handler.call(black_box(1)))).expect("it cannot fail");
    };

    let bare = Router::new().route("/", get(ok));
    let mut bare = || call_router(&bare);
    let layers = one_by_one(Router::new().route("/", get(ok)));
    taken_off(
        cases,
        "8 parts",
        "axum from_fn, a layer each",
        &mut ours_ready,
        &mut || call_router(&layers),
        &mut bare,
    );
    let builder = in_one_builder(Router::new().route("/", get(ok)));
    taken_off(
        cases,
        "8 parts",
        "axum from_fn, one ServiceBuilder",
        &mut ours_ready,
        &mut || call_router(&builder),
        &mut bare,
    );

    let boxed = each_boxed(service_fn(answer));
    add(cases, "8 parts", "tower BoxCloneService each", &mut ours_ready, &mut || {
        black_box(ready(boxed.clone().oneshot(black_box(1)))).expect("it cannot fail");
    });
    let list = List::of(|_| Arc::new(Passing), answer);
    add(cases, "8 parts", "Vec<Arc<dyn>>, async_trait", &mut ours_ready, &mut || {
        black_box(ready(list.call(black_box(1)))).expect("it cannot fail");
    });
    let (client, terminal) = (reqwest_stack(PARTS), reqwest_stack(0));
    taken_off(
        cases,
        "8 parts",
        "reqwest-middleware",
        &mut ours_ready,
        &mut || call_client(&client),
        &mut || call_client(&terminal),
    );
    let mut known = fixed();
    add(cases, "8 parts", "tower, static types", &mut ours_ready, &mut || {
        black_box(ready(known.call(black_box(1)))).expect("it cannot fail");
    });

    let forwards = (0..PARTS).fold(Chain::new(), |chain, _| chain.with(Forward)).to(answer);
    let mut ours_forwards = || {
        black_box(ready(forwards.call(black_box(1)))).expect("it cannot fail");
    };
    add(cases, "8 parts that forward", "tower BoxCloneService each", &mut ours_forwards, &mut || {
        black_box(ready(boxed.clone().oneshot(black_box(1)))).expect("it cannot fail");
    });

    let handler = ours(pass, waits);
    let boxed = each_boxed(service_fn(waits));
    let list = List::of(|_| Arc::new(Passing), waits);
    let mut ours_waits = || {
        black_box(second_time(handler.call(black_box(1)))).expect("it cannot fail");
    };
    add(cases, "8 parts, waits once", "tower BoxCloneService each", &mut ours_waits, &mut || {
        black_box(second_time(boxed.clone().oneshot(black_box(1)))).expect("it cannot fail");
    });
    add(cases, "8 parts, waits once", "Vec<Arc<dyn>>, async_trait", &mut ours_waits, &mut || {
        black_box(second_time(list.call(black_box(1)))).expect("it cannot fail");
    });
}

fn add(cases: &mut Cases, case: &str, name: &'static str, ours: &mut dyn FnMut(), rival: &mut dyn FnMut()) {
    let (ours, rival) = both(ours, rival);
    cases.extend(Case::median_and_minimum(case, name, ours, rival));
}

/// Subtracts the cost of the other library without parts.
fn taken_off(
    cases: &mut Cases,
    case: &str,
    name: &'static str,
    ours: &mut dyn FnMut(),
    rival: &mut dyn FnMut(),
    bare: &mut dyn FnMut(),
) {
    let (ours, _) = both(ours, &mut *rival);
    let (rival, bare) = both(rival, bare);
    let rival = Cost {
        nanoseconds: rival.nanoseconds - bare.nanoseconds,
        minimum: rival.minimum - bare.minimum,
        allocations: rival.allocations - bare.allocations,
        ..rival
    };
    cases.extend(Case::median_and_minimum(case, name, ours, rival));
}

async fn answer(n: u64) -> Answer {
    Ok(black_box(n) + 1)
}

async fn waits(n: u64) -> Answer {
    let mut waited = false;
    std::future::poll_fn(
        |_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending },
    )
    .await;
    answer(n).await
}

/// The output of a future that is ready at its first poll.
fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing waits here"),
    }
}

/// The output of a future that is ready at its second poll.
fn second_time<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut cx).is_pending(), "it waits once");
    match future.poll(&mut cx) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits once"),
    }
}

// motet.

async fn pass(request: u64, next: Next<u64, Answer>) -> Answer {
    next.run(black_box(request)).await
}

struct Forward;

impl Middleware<u64, Answer> for Forward {
    fn handle(self: Arc<Self>, request: u64, next: Next<u64, Answer>) -> BoxFuture<Answer> {
        next.run(black_box(request))
    }
}

fn ours<P, E, F>(part: P, endpoint: E) -> Handler<u64, Answer>
where
    P: Middleware<u64, Answer> + Copy,
    E: Fn(u64) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    (0..PARTS).fold(Chain::new(), |chain, _| chain.with(part)).to(endpoint)
}

// axum.

async fn ok() -> &'static str {
    "ok"
}

async fn axum_pass(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    next.run(black_box(request)).await
}

fn one_by_one(router: Router) -> Router {
    (0..PARTS).fold(router, |router, _| router.layer(from_fn(axum_pass)))
}

fn in_one_builder(router: Router) -> Router {
    let layers = ServiceBuilder::new()
        .layer(from_fn(axum_pass))
        .layer(from_fn(axum_pass))
        .layer(from_fn(axum_pass))
        .layer(from_fn(axum_pass))
        .layer(from_fn(axum_pass))
        .layer(from_fn(axum_pass))
        .layer(from_fn(axum_pass))
        .layer(from_fn(axum_pass));
    router.layer(layers)
}

fn call_router(router: &Router) {
    let request = axum::extract::Request::new(Body::empty());
    let response = ready(router.clone().oneshot(request)).expect("it cannot fail");
    assert!(black_box(response).status().is_success());
}

// tower.

/// Passes the call on without its own future.
#[derive(Clone)]
struct Inner<S>(S);

impl<S: Service<u64>> Service<u64> for Inner<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: u64) -> S::Future {
        self.0.call(black_box(request))
    }
}

fn each_boxed<S>(service: S) -> BoxCloneService<u64, u64, Infallible>
where
    S: Service<u64, Response = u64, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    (0..PARTS).fold(BoxCloneService::new(service), |inner, _| BoxCloneService::new(Inner(inner)))
}

fn fixed() -> impl Service<u64, Response = u64, Error = Infallible> {
    Inner(Inner(Inner(Inner(Inner(Inner(Inner(Inner(service_fn(answer)))))))))
}

// A list of trait objects.

#[async_trait]
trait Part: Send + Sync {
    async fn handle(&self, request: u64, next: Rest<'_>) -> Answer;
}

/// The rest of the chain, borrowed.
struct Rest<'a> {
    parts: &'a [Arc<dyn Part>],
    endpoint: &'a Endpoint,
}

type Endpoint = dyn Fn(u64) -> BoxFuture<Answer> + Send + Sync;

impl<'a> Rest<'a> {
    fn run(mut self, request: u64) -> std::pin::Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        match self.parts.split_first() {
            Some((part, rest)) => {
                self.parts = rest;
                part.handle(request, self)
            }
            None => (self.endpoint)(request),
        }
    }
}

struct Passing;

#[async_trait]
impl Part for Passing {
    async fn handle(&self, request: u64, next: Rest<'_>) -> Answer {
        next.run(black_box(request)).await
    }
}

struct List {
    parts: Vec<Arc<dyn Part>>,
    endpoint: Box<Endpoint>,
}

impl List {
    fn of<F>(
        part: impl Fn(usize) -> Arc<Passing>,
        endpoint: impl Fn(u64) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let parts = (0..PARTS).map(|at| part(at) as Arc<dyn Part>).collect();
        Self { parts, endpoint: Box::new(move |request| Box::pin(endpoint(request))) }
    }

    async fn call(&self, request: u64) -> Answer {
        Rest { parts: &self.parts, endpoint: &*self.endpoint }.run(request).await
    }
}

// reqwest-middleware.

struct ReqwestPass;

#[async_trait]
impl reqwest_middleware::Middleware for ReqwestPass {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut http::Extensions,
        next: reqwest_middleware::Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        next.run(black_box(request), extensions).await
    }
}

/// Answers in place of the network.
struct ReqwestTerminal;

#[async_trait]
impl reqwest_middleware::Middleware for ReqwestTerminal {
    async fn handle(
        &self,
        request: reqwest::Request,
        _: &mut http::Extensions,
        _: reqwest_middleware::Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        black_box(&request);
        Ok(http::Response::new("").into())
    }
}

fn reqwest_stack(parts: usize) -> ClientWithMiddleware {
    let builder = ClientBuilder::new(reqwest::Client::new());
    (0..parts).fold(builder, |builder, _| builder.with(ReqwestPass)).with(ReqwestTerminal).build()
}

fn call_client(client: &ClientWithMiddleware) {
    let url = reqwest::Url::parse("http://localhost/").expect("a URL");
    let request = reqwest::Request::new(reqwest::Method::GET, url);
    let response = ready(client.execute(request)).expect("it cannot fail");
    assert!(black_box(response).status().is_success());
}
