//! The load, which sends the same requests to both sides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::receiver::Receiver;

/// The size of the body of an event.
const EVENT_BYTES: usize = 300;

/// The clients of the paced load: enough that an event never waits for a client.
const PACED_CLIENTS: usize = 64;

/// The path to which events are posted.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) path: &'static str,
    pub(super) key: String,
}

/// The result of a round.
#[derive(Debug)]
pub(super) struct Measured {
    /// The time until the last 202.
    pub(super) acknowledged: Duration,
    /// The time until the last event arrived.
    pub(super) delivered: Duration,
    /// The time of each event from its planned send until its arrival.
    pub(super) waits: Vec<Duration>,
    pub(super) allocations: u64,
}

/// Runs `clients` clients, each with one request at a time.
pub(super) async fn closed_loop(
    target: &Target,
    receiver: &'static Receiver,
    clients: usize,
    events: usize,
) -> Measured {
    let connections = connections(target, clients).await;
    let next = Arc::new(AtomicUsize::new(0));
    receiver.expect(events);
    let started = Instant::now();
    let done = each(connections, |_, mut connection| {
        let (next, target) = (Arc::clone(&next), target.clone());
        async move {
            loop {
                let event = next.fetch_add(1, Ordering::Relaxed);
                if event >= events {
                    return;
                }
                post(&mut connection, &target, event).await;
            }
        }
    });
    done.await;
    let acknowledged = started.elapsed();
    receiver.all_arrived().await;
    Measured { acknowledged, delivered: started.elapsed(), waits: Vec::new(), allocations: 0 }
}

/// Sends an event at each tick, without waiting for earlier responses.
pub(super) async fn paced(
    target: &Target,
    receiver: &'static Receiver,
    per_second: u32,
    events: usize,
) -> Measured {
    let connections = connections(target, PACED_CLIENTS).await;
    receiver.expect(events);
    let started = Instant::now() + Duration::from_millis(10);
    let due = move |event: usize| started + Duration::from_secs(1) * event as u32 / per_second;
    // The events are distributed over the clients. The next event of a client is a sixth of a second later, so it is never
    // late.
    let done = each(connections, |client, mut connection| {
        let target = target.clone();
        async move {
            for event in (client..events).step_by(PACED_CLIENTS) {
                tokio::time::sleep_until(due(event).into()).await;
                post(&mut connection, &target, event).await;
            }
        }
    });
    done.await;
    let acknowledged = started.elapsed();
    receiver.all_arrived().await;
    let delivered = started.elapsed();
    let arrivals = receiver.arrivals().into_iter().enumerate();
    let waits = arrivals.map(|(event, at)| at.saturating_duration_since(due(event))).collect();
    Measured { acknowledged, delivered, waits, allocations: 0 }
}

type Connection = SendRequest<Full<Bytes>>;

async fn connections(target: &Target, count: usize) -> Vec<Connection> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(connect(target).await);
    }
    connections
}

/// Runs a client on each connection, and waits for all clients.
async fn each<F>(connections: Vec<Connection>, client: impl Fn(usize, Connection) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let connections = connections.into_iter().enumerate();
    let clients: Vec<_> =
        connections.map(|(number, connection)| tokio::spawn(client(number, connection))).collect();
    for client in clients {
        client.await.expect("no client panics");
    }
}

async fn connect(target: &Target) -> Connection {
    let stream = TcpStream::connect(target.address).await.expect("the server listens");
    stream.set_nodelay(true).expect("a socket takes its options");
    let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
    tokio::spawn(async move { drop(connection.await) });
    sender
}

async fn post(connection: &mut Connection, target: &Target, event: usize) {
    let request = Request::post(target.path)
        .header("host", "bench")
        .header("content-type", "application/json")
        .header("authorization", &target.key)
        .body(Full::new(Bytes::from(body(event))))
        .expect("a request");
    connection.ready().await.expect("the connection stands");
    let response = connection.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::ACCEPTED, "an event was refused");
    response.into_body().collect().await.expect("the whole answer");
}

/// The receiver searches for `"n":`, and reads the number up to the comma.
fn body(event: usize) -> String {
    let mut body = format!(r#"{{"type":"bench.counted","data":{{"n":{event},"padding":""#);
    let end = r#""}}"#;
    body.extend(std::iter::repeat_n('x', EVENT_BYTES - body.len() - end.len()));
    body + end
}
