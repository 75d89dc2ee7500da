//! The endpoint, which answers 204, and records the first arrival of each event.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Receiver {
    book: Mutex<Book>,
    complete: Notify,
}

#[derive(Debug, Default)]
struct Book {
    arrived: Vec<Option<Instant>>,
    missing: usize,
}

impl Receiver {
    /// Prepares for the events 0 to `events`.
    pub(super) fn expect(&self, events: usize) {
        *self.book() = Book { arrived: vec![None; events], missing: events };
    }

    pub(super) async fn all_arrived(&self) {
        while self.book().missing > 0 {
            self.complete.notified().await;
        }
    }

    pub(super) fn arrivals(&self) -> Vec<Instant> {
        self.book().arrived.iter().map(|at| at.expect("all have arrived")).collect()
    }

    /// Listens, and answers until the runtime shuts down.
    pub(super) async fn listen(&'static self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket takes its options");
                let service = service_fn(|request| self.receive(request));
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        address
    }

    async fn receive(&self, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
        assert!(request.headers().contains_key("webhook-signature"), "an event came unsigned");
        let body = request.into_body().collect().await.expect("a whole body").to_bytes();
        self.arrived(number(&body));
        let mut response = Response::new(Empty::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }

    fn arrived(&self, event: usize) {
        let mut book = self.book();
        let at = &mut book.arrived[event];
        if at.replace(Instant::now()).is_none() {
            book.missing -= 1;
            if book.missing == 0 {
                self.complete.notify_one();
            }
        }
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(body: &[u8]) -> usize {
    let text = std::str::from_utf8(body).expect("JSON is text");
    let (_, from) = text.split_once(r#""n":"#).expect("an event of the driver");
    let (digits, _) = from.split_once(',').expect("an event of the driver");
    digits.parse().expect("a number")
}
