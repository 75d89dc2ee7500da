//! The smallest program that accepts events and delivers them durably.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rusqlite::Connection;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, oneshot};

const SECRET: &[u8] = b"a secret of thirty-two bytes....";

/// The default of relay for an endpoint.
const CONNECTIONS: usize = 16;

/// The value of relay.
const MOST_ROWS: usize = 256;

enum Row {
    Event(Bytes, oneshot::Sender<i64>),
    Attempt { event: i64, at: i64, status: u16 },
}

/// Serves until the runtime shuts down.
pub(super) async fn serve(database: &Path, endpoint: String) -> SocketAddr {
    let connection = open(database).expect("a database");
    let (rows, inbox) = sync_channel(4_096);
    let (owed, deliveries) = mpsc::unbounded_channel();
    thread::spawn(move || write(connection, &inbox, &owed).expect("the disk takes it"));
    let deliveries = Arc::new(Mutex::new(deliveries));
    let client = Client::builder(TokioExecutor::new()).build_http();
    for _ in 0..CONNECTIONS {
        tokio::spawn(deliver(client.clone(), endpoint.clone(), Arc::clone(&deliveries), rows.clone()));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("a socket takes its options");
            let rows = rows.clone();
            let service = service_fn(move |request| take(request, rows.clone()));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move { drop(connection.await) });
        }
    });
    address
}

fn open(database: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(database)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         CREATE TABLE events (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
         CREATE TABLE attempts (event INTEGER NOT NULL, at INTEGER NOT NULL, status INTEGER NOT NULL);",
    )?;
    Ok(connection)
}

/// Commits the rows that arrived during the previous commit. Ends when all senders are dropped.
fn write(
    connection: Connection,
    inbox: &Receiver<Row>,
    owed: &mpsc::UnboundedSender<(i64, Bytes)>,
) -> rusqlite::Result<()> {
    let mut answers = Vec::new();
    while let Ok(first) = inbox.recv() {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for row in std::iter::once(first).chain(inbox.try_iter().take(MOST_ROWS - 1)) {
            match row {
                Row::Event(data, answer) => {
                    let mut insert = connection.prepare_cached("INSERT INTO events (data) VALUES (?1)")?;
                    answers.push((insert.insert([&data[..]])?, data, answer));
                }
                Row::Attempt { event, at, status } => {
                    let insert = "INSERT INTO attempts (event, at, status) VALUES (?1, ?2, ?3)";
                    connection.prepare_cached(insert)?.execute((event, at, status))?;
                }
            }
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        for (event, data, answer) in answers.drain(..) {
            let _gone = answer.send(event);
            drop(owed.send((event, data)));
        }
    }
    Ok(())
}

async fn take(
    request: Request<Incoming>,
    rows: SyncSender<Row>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.expect("a whole body").to_bytes();
    let (answer, stored) = oneshot::channel();
    rows.try_send(Row::Event(body, answer)).expect("the capacity is one row per client");
    let event = stored.await.expect("the disk takes it");
    let mut response = Response::new(Full::from(format!(r#"{{"id":"{event}"}}"#)));
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

async fn deliver(
    client: Client<HttpConnector, Full<Bytes>>,
    endpoint: String,
    deliveries: Arc<Mutex<mpsc::UnboundedReceiver<(i64, Bytes)>>>,
    rows: SyncSender<Row>,
) {
    loop {
        let Some((event, data)) = deliveries.lock().await.recv().await else { return };
        let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set").as_secs() as i64;
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).expect("a key of any length");
        mac.update(format!("{event}.{at}.").as_bytes());
        mac.update(&data);
        let request = Request::post(&endpoint)
            .header("content-type", "application/json")
            .header("webhook-id", event)
            .header("webhook-timestamp", at)
            .header("webhook-signature", format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
            .body(Full::new(data))
            .expect("a request");
        let response = client.request(request).await.expect("an answer");
        let status = response.status().as_u16();
        response.into_body().collect().await.expect("the whole answer");
        rows.try_send(Row::Attempt { event, at, status }).expect("the capacity is one row per connection");
    }
}
