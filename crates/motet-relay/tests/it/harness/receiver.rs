//! Receivers with a scripted behaviour.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::within;

/// A request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) at: Instant,
    /// The number of the request among those with its id, from 1.
    pub(crate) nth: usize,
}

impl Hit {
    pub(crate) fn id(&self) -> String {
        message_id(&self.headers).unwrap().to_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn message_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("webhook-id").or_else(|| headers.get("svix-id")).map(|id| id.to_str().unwrap())
}

/// The reaction to a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Answer(StatusCode),
    AnswerWith(StatusCode, &'static str, String),
    /// Respond after this time.
    Slow(Duration, StatusCode),
    /// Never respond.
    Hang,
    /// Close the connection without a response.
    Drop,
    /// Respond with 200, and then send one byte from time to time, without end.
    Drip,
    /// Respond with 200, and then send as many bytes as the client reads, without end.
    Flood,
}

pub(crate) const OK: Act = Act::Answer(StatusCode::OK);
pub(crate) const FAIL: Act = Act::Answer(StatusCode::INTERNAL_SERVER_ERROR);

/// A server on loopback that records the requests. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    hits: watch::Receiver<Vec<Hit>>,
    _server: JoinSet<()>,
}

struct Shared {
    hits: watch::Sender<Vec<Hit>>,
    act: Box<dyn Fn(&Hit) -> Deciding + Send + Sync>,
    nth: Mutex<HashMap<String, usize>>,
    /// Requests in flight by webhook-id, and the maximum for any of them.
    under_way: Mutex<(HashMap<String, usize>, usize)>,
    /// Number of body bytes sent by `Drip` and `Flood`.
    sent: watch::Sender<usize>,
    /// Number of `Drip` and `Flood` bodies that the client has given up.
    given_up: watch::Sender<usize>,
    connections: AtomicUsize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

type Deciding = Pin<Box<dyn Future<Output = Act> + Send>>;
type Body = BoxBody<Bytes, io::Error>;

impl Receiver {
    /// Accepts everything.
    pub(crate) async fn accepting() -> Self {
        Self::start(|_| OK).await
    }

    pub(crate) async fn start(act: impl Fn(&Hit) -> Act + Send + Sync + 'static) -> Self {
        Self::start_async(move |hit| std::future::ready(act(hit))).await
    }

    /// Responds to each request when the test sends a notification.
    pub(crate) async fn held(release: &Arc<Notify>, then: Act) -> Self {
        let release = Arc::clone(release);
        Self::start_async(move |_| {
            let (release, then) = (Arc::clone(&release), then.clone());
            async move {
                release.notified().await;
                then
            }
        })
        .await
    }

    /// Decides asynchronously.
    pub(crate) async fn start_async<F>(act: impl Fn(&Hit) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Act> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, hits) = watch::channel(Vec::new());
        let shared = Arc::new(Shared {
            hits: sender,
            act: Box::new(move |hit| Box::pin(act(hit))),
            nth: Mutex::default(),
            under_way: Mutex::default(),
            sent: watch::Sender::new(0),
            given_up: watch::Sender::new(0),
            connections: AtomicUsize::new(0),
        });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, hits, _server: server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Number of connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn hits(&self) -> Vec<Hit> {
        self.hits.borrow().clone()
    }

    /// Waits until at least `count` requests have arrived. Returns all of them.
    pub(crate) async fn hits_at_least(&self, count: usize) -> Vec<Hit> {
        self.hits_when(&format!("{count} requests"), |hits| hits.len() >= count).await
    }

    pub(crate) async fn hits_when(&self, what: &str, enough: impl FnMut(&Vec<Hit>) -> bool) -> Vec<Hit> {
        let mut hits = self.hits.clone();
        within(what, hits.wait_for(enough)).await.unwrap().clone()
    }

    /// Maximum number of requests with one webhook-id that were in flight at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.under_way.lock().unwrap().1
    }

    /// Waits until relay has given up `count` endless bodies. Returns the number of bytes sent.
    pub(crate) async fn bodies_given_up(&self, count: usize) -> usize {
        let mut given_up = self.shared.given_up.subscribe();
        within("relay to stop reading", given_up.wait_for(|n| *n >= count)).await.unwrap();
        *self.shared.sent.borrow()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| handle(Arc::clone(&shared), request));
            // An error is a connection that one side has dropped, as many tests intend.
            let _dropped = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Counts a request as in flight until it is dropped.
struct UnderWay {
    shared: Arc<Shared>,
    id: String,
}

impl UnderWay {
    fn new(shared: Arc<Shared>, id: String) -> Self {
        {
            let (now, most) = &mut *shared.under_way.lock().unwrap();
            let count = now.entry(id.clone()).or_default();
            *count += 1;
            *most = (*most).max(*count);
        }
        Self { shared, id }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        *self.shared.under_way.lock().unwrap().0.get_mut(&self.id).unwrap() -= 1;
    }
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let id = message_id(&head.headers).unwrap_or_default().to_owned();
    let nth = {
        let mut nth = shared.nth.lock().unwrap();
        let nth = nth.entry(id.clone()).or_default();
        *nth += 1;
        *nth
    };
    let under_way = UnderWay::new(Arc::clone(&shared), id);
    let hit = Hit { headers: head.headers, body, at: Instant::now(), nth };
    let act = (shared.act)(&hit);
    shared.hits.send_modify(|hits| hits.push(hit));
    let act = act.await;
    match act {
        Act::Answer(status) => Ok(answer(status)),
        Act::AnswerWith(status, name, value) => {
            let mut response = answer(status);
            response.headers_mut().insert(name, value.parse().unwrap());
            Ok(response)
        }
        Act::Slow(delay, status) => {
            sleep(delay).await;
            Ok(answer(status))
        }
        Act::Hang => std::future::pending().await,
        Act::Drop => Err(io::ErrorKind::ConnectionReset.into()),
        Act::Drip => Ok(endless(shared, under_way, Bytes::from_static(b"x"), Duration::from_millis(20))),
        Act::Flood => Ok(endless(shared, under_way, Bytes::from(vec![b'x'; 16 << 10]), Duration::ZERO)),
    }
}

fn answer(status: StatusCode) -> Response<Body> {
    let full = Full::new(Bytes::from_static(b"seen")).map_err(|never| match never {});
    Response::builder().status(status).body(BoxBody::new(full)).unwrap()
}

fn endless(shared: Arc<Shared>, under_way: UnderWay, chunk: Bytes, pause: Duration) -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(1);
    let mut feeding = JoinSet::new();
    feeding.spawn(async move {
        let _under_way = under_way;
        while sender.send_data(chunk.clone()).await.is_ok() {
            shared.sent.send_modify(|sent| *sent += chunk.len());
            sleep(pause).await;
        }
        shared.given_up.send_modify(|count| *count += 1);
    });
    // Ends when the body is dropped.
    feeding.detach_all();
    Response::new(BoxBody::new(body))
}
