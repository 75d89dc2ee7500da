//! A server in memory that follows a script and records its requests.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use motet::task::{Nursery, Reason, Scope, drain, scope, unscoped};
use motet_http::{ApiClient, ApiClientBuilder, Connections, Host};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::millis;
use crate::harness::Connection;

/// An answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Well,
    /// Well, and the connection is closed after it without a word.
    Last,
    Status(u16),
    /// 503, and when to come back, in seconds.
    Busy(u64),
    /// A redirect to a host of this letter.
    Elsewhere(char),
    /// Nothing, ever.
    Silence,
    /// Half of the body, and then nothing.
    Stall,
    /// The body, a byte at a time.
    Drip,
    /// Half of the body, and the end of the connection.
    Cut,
    /// The end of the connection.
    Close,
    /// A body above every limit, with or without a length.
    Large {
        says_so: bool,
    },
}

/// How a connection comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connect {
    Well,
    Refuse,
    Hang,
}

/// How long the server waits between two pieces of an answer.
const PAUSE: Duration = millis(3);

/// The body of `Large`.
pub(super) const LARGE: usize = 1_000;

#[derive(Clone)]
pub(super) struct Backend(Arc<Shared>);

/// The answer for a path.
type Answers = Box<dyn FnMut(&str) -> Answer + Send>;

struct Shared {
    scope: Scope,
    connect: Mutex<Connect>,
    answer: Mutex<Answers>,
    opened: AtomicUsize,
    open: AtomicUsize,
    inside: AtomicUsize,
    most_inside: AtomicUsize,
    came: Mutex<HashMap<String, Vec<Came>>>,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Came {
    pub(super) at: Instant,
    pub(super) head: String,
    pub(super) answer: Answer,
}

/// Counts down at its end.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn count(counter: &AtomicUsize) -> (usize, Counted<'_>) {
    (counter.fetch_add(1, Ordering::SeqCst) + 1, Counted(counter))
}

/// The document of a path, as JSON.
pub(super) fn document(path: &str) -> String {
    format!("\"{path} {}\"", "x".repeat(40))
}

impl Backend {
    fn new(scope: &Scope) -> Self {
        Self(Arc::new(Shared {
            scope: scope.clone(),
            connect: Mutex::new(Connect::Well),
            answer: Mutex::new(Box::new(|_| Answer::Well)),
            opened: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            most_inside: AtomicUsize::new(0),
            came: Mutex::new(HashMap::new()),
        }))
    }

    /// Answers each request according to its path.
    pub(super) fn answer(&self, answer: impl FnMut(&str) -> Answer + Send + 'static) {
        *self.0.answer.lock().unwrap() = Box::new(answer);
    }

    pub(super) fn connect(&self, connect: Connect) {
        *self.0.connect.lock().unwrap() = connect;
    }

    pub(super) fn opened(&self) -> usize {
        self.0.opened.load(Ordering::SeqCst)
    }

    /// The maximum number of concurrent requests, each to the end of its response body.
    pub(super) fn most_inside(&self) -> usize {
        self.0.most_inside.load(Ordering::SeqCst)
    }

    /// The requests for a path, in order.
    pub(super) fn came(&self, path: &str) -> Vec<Came> {
        self.0.came.lock().unwrap().get(path).cloned().unwrap_or_default()
    }

    pub(super) fn came_at_all(&self) -> usize {
        self.0.came.lock().unwrap().values().map(Vec::len).sum()
    }

    /// Counts the connections that are open.
    fn open(&self) -> usize {
        self.0.open.load(Ordering::SeqCst)
    }

    async fn dial(self, _: Host) -> io::Result<DuplexStream> {
        let connect = *self.0.connect.lock().unwrap();
        match connect {
            Connect::Well => {}
            Connect::Refuse => return Err(io::ErrorKind::ConnectionRefused.into()),
            Connect::Hang => pending().await,
        }
        sleep(PAUSE).await;
        // So small that most writes are in pieces.
        let (theirs, ours) = duplex(128);
        let number = self.0.opened.fetch_add(1, Ordering::SeqCst);
        let backend = self.clone();
        let serving = async move { backend.serve(Connection::new(ours, number)).await };
        self.0.scope.service("connection", serving).map(|_| theirs).map_err(io::Error::other)
    }

    async fn serve(&self, mut connection: Connection<DuplexStream>) {
        let (_, _open) = count(&self.0.open);
        while let Some(head) = connection.request().await {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let answer = (self.0.answer.lock().unwrap())(&path);
            let came = Came { at: Instant::now(), head, answer };
            self.0.came.lock().unwrap().entry(path.clone()).or_default().push(came);
            if !self.answers(&mut connection, answer, &path).await {
                return;
            }
        }
    }

    /// Returns `true` if the connection continues.
    async fn answers(&self, connection: &mut Connection<DuplexStream>, answer: Answer, path: &str) -> bool {
        let (inside, _inside) = count(&self.0.inside);
        self.0.most_inside.fetch_max(inside, Ordering::SeqCst);
        let body = document(path);
        let (half, rest) = body.split_at(body.len() / 2);
        let head = |length| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        sleep(PAUSE).await;
        match answer {
            Answer::Well | Answer::Last => {
                connection.write(&(head(body.len()) + half)).await;
                sleep(PAUSE).await;
                connection.write(rest).await;
                return answer == Answer::Well;
            }
            Answer::Status(code) => connection.answer(&format!("{code} So"), &body).await,
            Answer::Busy(after) => {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 503 So\r\nretry-after: {after}\r\ncontent-length: {length}\r\n\r\n");
                connection.write(&(head + half)).await;
                sleep(PAUSE).await;
                connection.write(rest).await;
            }
            Answer::Elsewhere(host) => {
                connection.answer(&format!("307 So\r\nlocation: http://{host}{path}{host}"), &body).await;
            }
            Answer::Silence => connection.closed().await,
            Answer::Stall => {
                connection.write(&(head(body.len()) + half)).await;
                connection.closed().await;
            }
            Answer::Drip => {
                connection.write(&head(body.len())).await;
                for byte in body.chars() {
                    sleep(millis(100)).await;
                    connection.write(byte.encode_utf8(&mut [0; 4])).await;
                }
            }
            Answer::Cut => connection.write(&(head(body.len()) + half)).await,
            Answer::Close => {}
            Answer::Large { says_so: true } => {
                connection.write(&(head(LARGE) + &"x".repeat(LARGE))).await;
            }
            Answer::Large { says_so: false } => {
                connection.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                connection.write(&format!("{LARGE:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(LARGE))).await;
            }
        }
        matches!(
            answer,
            Answer::Status(_) | Answer::Busy(_) | Answer::Elsewhere(_) | Answer::Drip | Answer::Large { .. }
        )
    }
}

/// A client and its server, whose scopes go on when what uses them is dropped.
pub(super) struct Home {
    pub(super) backend: Backend,
    pub(super) api: ApiClient,
    /// Creates a client without policies.
    pub(super) connections: Connections,
    client: Scope,
    server: Scope,
}

impl Home {
    pub(super) async fn new(settings: impl FnOnce(ApiClientBuilder) -> ApiClientBuilder) -> Self {
        let (client, server) = (open("client").await, open("server").await);
        let backend = Backend::new(&server);
        let dials = backend.clone();
        let builder = ApiClient::builder(&client).base_url("http://a").tls(no_tls());
        let dial = move |host| dials.clone().dial(host);
        let api = settings(builder).connect_by(dial.clone()).build().unwrap();
        let connections = Connections::builder(&client).tls(no_tls()).connect_by(dial).build().unwrap();
        Self { backend, api, connections, client, server }
    }

    /// Checks that no call is in flight and all slots are free; then ends, and checks that all connections are closed.
    pub(super) async fn whole(&self) {
        self.backend.connect(Connect::Well);
        self.backend.answer(|_| Answer::Well);
        let stats = self.api.stats();
        assert_eq!((stats.in_flight, stats.waiting), (0, 0), "a place is lost");
        let answer: String = self.api.get("/after").once().fetch_json().await.unwrap();
        assert_eq!(format!("{answer:?}"), document("/after"));
        self.ends().await;
    }

    pub(super) async fn ends(&self) {
        self.client.cancel(Reason::requested("enough"));
        // Its connections go with the client's scope; the server sees that when it is through with what it writes.
        let begun = Instant::now();
        while self.backend.open() > 0 {
            assert!(begun.elapsed() < millis(10_000), "a connection is open still");
            sleep(millis(1)).await;
        }
        self.server.cancel(Reason::requested("enough"));
        drain().await;
        assert_eq!(unscoped(), 0);
    }
}

/// A scope that lives until it is cancelled.
async fn open(name: &'static str) -> Scope {
    let (sender, opened) = oneshot::channel();
    motet::task::detach(name, async move {
        let lives = scope(async |n: &Nursery| {
            drop(sender.send(Scope::clone(n)));
            pending::<()>().await;
            Ok(())
        });
        assert!(lives.await.unwrap_err().is_cancelled());
    });
    opened.await.unwrap()
}

/// Trusts no certificate, so that no run reads those of the system.
pub(super) fn no_tls() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let make = || {
        Arc::new(ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    };
    Arc::clone(CONFIG.get_or_init(make))
}
