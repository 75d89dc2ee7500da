//! Question: what does a call of an HTTP API cost more than a call of the bare client, and beside reqwest?
//!
//! A `GET` of a small JSON document over a kept connection, decoded: one call at a time, and 16 at a time, on one thread. The
//! server has its own threads and allocates nothing, so that the counted allocations are those of the client. motet has its
//! defaults: the deadline of the call, timeouts of its phases, retry within a budget, a breaker and slots for the host, a limit
//! of the body, connections in a scope.
//!
//! The bare client is that of hyper-util, on which motet and reqwest are built; it has none of these guarantees. reqwest alone
//! has none of them either, and is measured without a timeout; with reqwest-middleware and reqwest-retry it has a retry, and
//! here a timeout. Breakers, a budget, limits of calls in flight to a host, and tasks that belong to a scope are guarantees of
//! motet only. The target is 10 % more than the bare client. With one call at a time, most of the time is the wake-up of the
//! other side, which takes 20 us or 60 us on two cores; 16 calls at a time are more meaningful.

#![allow(
    clippy::disallowed_methods,
    reason = "the bare client starts its tasks itself, and the server has threads"
)]

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use motet::task::{Nursery, Scope, scope};
use motet_http::ApiClient;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use reqwest_retry::RetryTransientMiddleware;
use reqwest_retry::policies::ExponentialBackoff;
use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::measure::both_of;
use crate::report::{Case, Cases};

const DOCUMENT: &str = r#"{"id":1,"name":"Ada"}"#;

/// In one write.
const CALLS: u32 = 64;

#[derive(Deserialize)]
struct User {
    id: u32,
    name: String,
}

/// Answers each request with the document, and allocates nothing.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            thread::spawn(move || {
                let length = DOCUMENT.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{DOCUMENT}");
                let mut request = [0; 4096];
                let mut filled = 0;
                loop {
                    match stream.read(&mut request[filled..]) {
                        Ok(0) | Err(_) => return,
                        Ok(read) => filled += read,
                    }
                    if request[..filled].ends_with(b"\r\n\r\n") {
                        filled = 0;
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

/// A client that can be called from many tasks.
trait Calls: Clone + Send + 'static {
    fn call(&self) -> impl Future<Output = User> + Send;
}

#[derive(Clone)]
struct Ours(ApiClient);

impl Calls for Ours {
    async fn call(&self) -> User {
        self.0.get("/users/1").fetch_json().await.expect("an answer")
    }
}

#[derive(Clone)]
struct Bare(Client<HttpConnector, Empty<Bytes>>, String);

impl Calls for Bare {
    async fn call(&self) -> User {
        let uri = self.1.parse().expect("a URL");
        let answer = self.0.get(uri).await.expect("an answer");
        assert!(answer.status().is_success());
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        serde_json::from_slice(&body).expect("a user")
    }
}

#[derive(Clone)]
struct Reqwest(reqwest::Client, String);

impl Calls for Reqwest {
    async fn call(&self) -> User {
        let answer = self.0.get(&self.1).send().await.expect("an answer");
        answer.error_for_status().expect("a success").json().await.expect("a user")
    }
}

#[derive(Clone)]
struct Retried(ClientWithMiddleware, String);

impl Calls for Retried {
    async fn call(&self) -> User {
        let answer = self.0.get(&self.1).send().await.expect("an answer");
        answer.error_for_status().expect("a success").json().await.expect("a user")
    }
}

/// Makes the calls of a round, `at_once` of them at a time.
fn run_calls(runtime: &Runtime, client: &impl Calls, at_once: u32) {
    runtime.block_on(async {
        if at_once == 1 {
            for _ in 0..CALLS {
                let user = client.call().await;
                black_box((user.id, user.name));
            }
            return;
        }
        let mut tasks = JoinSet::new();
        for _ in 0..at_once {
            let client = client.clone();
            tasks.spawn(async move {
                for _ in 0..CALLS / at_once {
                    let user = client.call().await;
                    black_box((user.id, user.name));
                }
            });
        }
        tasks.join_all().await;
    });
}

pub(crate) fn run(cases: &mut Cases) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let base = format!("http://{}", serve());
    let url = format!("{base}/users/1");
    let ours = ours(&runtime, base);
    let bare = Bare(Client::builder(TokioExecutor::new()).build_http(), url.clone());
    let alone = Reqwest(reqwest::Client::new(), url.clone());
    let timed = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client");
    let policy = ExponentialBackoff::builder().build_with_max_retries(2);
    let retry = RetryTransientMiddleware::new_with_policy(policy);
    let retried = Retried(ClientBuilder::new(timed).with(retry).build(), url);
    for at_once in [1, 16] {
        let case = format!("{at_once} at a time");
        cases.extend(case_of(&runtime, &case, at_once, &ours, "hyper-util (bare)", &bare));
        cases.extend(case_of(&runtime, &case, at_once, &ours, "reqwest", &alone));
        cases.extend(case_of(&runtime, &case, at_once, &ours, "reqwest + middleware + retry", &retried));
        let bare_case = format!("bare, {case}");
        cases.extend(case_of(&runtime, &bare_case, at_once, &bare, "reqwest", &alone));
    }
}

fn case_of(
    runtime: &Runtime,
    case: &str,
    at_once: u32,
    ours: &impl Calls,
    rival_name: &'static str,
    rival: &impl Calls,
) -> [Case; 2] {
    let (ours, theirs) =
        both_of(CALLS, || run_calls(runtime, ours, at_once), || run_calls(runtime, rival, at_once));
    Case::median_and_minimum(case, rival_name, ours, theirs)
}

/// The client of motet, in a scope that lives as long as the runtime.
fn ours(runtime: &Runtime, base: String) -> Ours {
    let (sender, made) = tokio::sync::oneshot::channel();
    runtime.spawn(async move {
        let lives = scope(async |n: &Nursery| {
            let scope: &Scope = n;
            let api = ApiClient::builder(scope).base_url(&base).build().expect("a client");
            drop(sender.send(api));
            std::future::pending::<()>().await;
            Ok(())
        });
        drop(lives.await);
    });
    Ours(runtime.block_on(made).expect("a client"))
}
