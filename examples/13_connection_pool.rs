// A connection pool: ten requests over at most five sessions.
// The manager opens, checks and closes sessions; the guard returns a session when it is dropped.
// Run it: cargo run -p motet-examples --example 13_connection_pool

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use motet::pool::{AcquireError, Manager, Pool, Recycle};
use motet::task::{Nursery, Scope, ScopeError, scope, try_gather};
use tokio::time::sleep;

#[derive(Default)]
struct Server {
    is_down: Arc<AtomicBool>,
    opened: AtomicUsize,
}

struct Session {
    number: usize,
    is_dead: bool,
}

impl Manager for Server {
    type Connection = Session;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<Session> {
        sleep(Duration::from_millis(50)).await;
        if self.is_down.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        println!("Opened session {number}");
        Ok(Session { number, is_dead: false })
    }

    fn recycle(&self, session: &mut Session) -> Recycle {
        if session.is_dead { Recycle::Discard } else { Recycle::Keep }
    }

    async fn close(&self, session: Session) {
        println!("Closed session {}", session.number);
    }
}

fn pool(scope: &Scope, server: Server) -> Pool<Server> {
    let builder = Pool::builder(scope, server).name("api").max(5).connects(5);
    builder.acquire_timeout(Duration::from_secs(2)).build().expect("the settings are valid")
}

async fn fetch(pool: &Pool<Server>, path: &str) -> Result<usize, AcquireError<io::Error>> {
    let mut session = pool.acquire().await?;
    sleep(Duration::from_millis(100)).await;
    session.is_dead = path == "/hang-up";
    println!("Fetched {path} over session {}", session.number);
    Ok(session.number)
}

async fn ten_requests() -> Result<(), ScopeError<AcquireError<io::Error>>> {
    scope(async |n: &Nursery<_>| {
        let pool = pool(n, Server::default());
        try_gather((0..10).map(|_| fetch(&pool, "/api/users"))).await.map(drop)
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    Ok(ten_requests().await?)
}
