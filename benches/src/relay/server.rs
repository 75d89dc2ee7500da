//! Both servers, each with its own directory.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use motet_relay::{Config, Relay};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot};

use super::driver::{Measured, Target};
use super::floor;
use super::receiver::Receiver;

/// relay as its program runs it, except that it may deliver to the local network.
pub(super) fn with_relay<F>(runtime: &Runtime, drive: impl FnOnce(Target, &'static Receiver) -> F) -> Measured
where
    F: Future<Output = Measured>,
{
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = Config::new(directory.path().to_owned(), "127.0.0.1:0".parse().expect("an address"));
    config.allow_net = vec!["127.0.0.1/32".parse().expect("a network")];
    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    let (ready, running) = oneshot::channel();
    let relay = runtime.spawn(async move {
        let ready = |relay: &Relay| {
            let key = relay.new_api_key().expect("a new store").to_owned();
            ready.send((relay.address(), key)).expect("the bench waits");
        };
        Relay::run(config, ready, async move { stopped.notified().await }).await
    });
    let measured = runtime.block_on(async {
        let receiver: &'static Receiver = Box::leak(Box::default());
        let endpoint = receiver.listen().await;
        let (address, key) = running.await.expect("relay starts");
        let target = Target { address, path: "/v1/events", key: format!("Bearer {key}") };
        let create = Request::post(format!("http://{address}/v1/endpoints"))
            .header("content-type", "application/json")
            .header("authorization", &target.key)
            .body(Full::new(Bytes::from(format!(r#"{{"url":"http://{endpoint}/"}}"#))))
            .expect("a request");
        let client = Client::builder(TokioExecutor::new()).build_http();
        let created = client.request(create).await.expect("an answer");
        assert_eq!(created.status(), StatusCode::CREATED, "the endpoint was refused");
        created.into_body().collect().await.expect("the whole answer");
        drive(target, receiver).await
    });
    stop.notify_one();
    runtime.block_on(relay).expect("relay does not panic").expect("relay ends in order");
    measured
}

pub(super) fn with_floor<F>(runtime: &Runtime, drive: impl FnOnce(Target, &'static Receiver) -> F) -> Measured
where
    F: Future<Output = Measured>,
{
    let directory = tempfile::tempdir().expect("a directory");
    runtime.block_on(async {
        let receiver: &'static Receiver = Box::leak(Box::default());
        let endpoint = receiver.listen().await;
        let address = floor::serve(&directory.path().join("floor.db"), format!("http://{endpoint}/")).await;
        drive(Target { address, path: "/", key: "Bearer none".to_owned() }, receiver).await
    })
}
