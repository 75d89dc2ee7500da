//! A connection pool: ten requests over at most five sessions.
//!
//! `cargo run -p motet-examples --example 10_connection_pool`

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use motet::pool::{AcquireError, Manager, Pool, Recycle};
use motet::task::{Nursery, Scope, ScopeError, gather, scope};
use motet_examples::Journal;
use tokio::time::sleep;

/// A server, and the sessions with it.
struct Server {
    is_up: Arc<AtomicBool>,
    opened: AtomicUsize,
    journal: Journal<Event>,
}

impl Server {
    fn new(journal: &Journal<Event>) -> Self {
        let is_up = Arc::new(AtomicBool::new(true));
        Self { is_up, opened: AtomicUsize::new(0), journal: journal.clone() }
    }
}

struct Session {
    number: usize,
    /// The server has hung up.
    is_dead: bool,
}

#[derive(Debug)]
struct Unreachable;

impl Manager for Server {
    type Connection = Session;
    type Error = Unreachable;

    async fn connect(&self) -> Result<Session, Unreachable> {
        sleep(Duration::from_millis(50)).await;
        if !self.is_up.load(Ordering::Relaxed) {
            return Err(Unreachable);
        }
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        self.journal.note(Event::Opened(number));
        Ok(Session { number, is_dead: false })
    }

    fn recycle(&self, session: &mut Session) -> Recycle {
        if session.is_dead { Recycle::Discard } else { Recycle::Keep }
    }

    async fn close(&self, session: Session) {
        self.journal.note(Event::Closed(session.number));
    }
}

/// What uses the pool; as cheap to clone as that.
#[derive(Clone)]
struct ApiClient {
    pool: Pool<Server>,
}

impl ApiClient {
    /// The session goes back when its guard is dropped: after an error, a panic or a cancelled caller, too.
    async fn fetch(&self, endpoint: String) -> Result<String, AcquireError<Unreachable>> {
        let mut session = self.pool.acquire().await?;
        sleep(Duration::from_millis(100)).await;
        session.is_dead = endpoint == "/hang-up";
        Ok(format!("{endpoint} over session {}", session.number))
    }
}

fn client(scope: &Scope, server: Server) -> ApiClient {
    let pool = Pool::builder(scope, server).named("api").max(5).connects(5);
    let pool = pool.acquire_timeout(Duration::from_secs(2)).build().expect("the numbers fit");
    ApiClient { pool }
}

async fn program(journal: &Journal<Event>) -> Result<(), ScopeError> {
    scope(async |n: &Nursery<Infallible>| {
        let client = client(n, Server::new(journal));
        for fetched in gather((0..10).map(|user| client.fetch(format!("/api/users/{user}")))).await {
            journal.note(fetched.map_or_else(Event::failed, Event::Success));
        }
        Ok(())
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError> {
    let done = program(&Journal::on_terminal()).await;
    motet::drain().await;
    done
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Opened(usize),
    Success(String),
    Failed(String),
    Closed(usize),
}

impl Event {
    #[allow(clippy::needless_pass_by_value, reason = "it maps an error")]
    fn failed(error: AcquireError<Unreachable>) -> Self {
        Self::Failed(error.to_string())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened(session) => write!(f, "opened session {session}"),
            Self::Success(answer) => write!(f, "Success: {answer}"),
            Self::Failed(error) => write!(f, "Error: {error}"),
            Self::Closed(session) => write!(f, "closed session {session}"),
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server cannot be reached")
    }
}

impl std::error::Error for Unreachable {}

#[cfg(test)]
mod tests {
    use motet::task::timeout;
    use motet_testkit::cancel_everywhere;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn count(journal: &Journal<Event>, what: fn(&Event) -> bool) -> usize {
        journal.events().iter().filter(|event| what(event)).count()
    }

    /// Runs a body with a client, and sees that each session was closed.
    async fn with_client(server: Server, body: impl AsyncFnOnce(ApiClient)) {
        let journal = server.journal.clone();
        let done = scope(async |n: &Nursery<Infallible>| {
            body(client(n, server)).await;
            Ok(())
        });
        done.await.unwrap();
        let opened = count(&journal, |event| matches!(event, Event::Opened(_)));
        assert_eq!(count(&journal, |event| matches!(event, Event::Closed(_))), opened);
    }

    #[tokio::test(start_paused = true)]
    async fn ten_callers_share_five_sessions_and_all_are_answered() {
        let journal = Journal::in_memory();
        program(&journal).await.unwrap();
        let mut expected = Vec::from_iter((0..5).map(|session| (ms(50), Event::Opened(session))));
        // Two turns over five sessions; a session goes to whoever has waited longest.
        expected.extend(
            (0..10).map(|user| {
                (ms(250), Event::Success(format!("/api/users/{user} over session {}", user % 5)))
            }),
        );
        let entries = journal.entries();
        assert_eq!(entries[..15], expected);
        assert_eq!(entries[15..].len(), 5, "each is closed: {entries:?}");
        assert!(entries[15..].iter().all(|(_, event)| matches!(event, Event::Closed(_))));
    }

    #[test]
    fn caller_dropped_anywhere_leaves_no_session_open() {
        cancel_everywhere(
            async || Journal::in_memory(),
            async |journal| {
                let only =
                    async |client: ApiClient| drop(client.fetch("/api/users/1".to_owned()).await.unwrap());
                with_client(Server::new(journal), only).await;
            },
            async |journal, _| {
                motet::drain().await;
                let opened = count(journal, |event| matches!(event, Event::Opened(_)));
                assert_eq!(count(journal, |event| matches!(event, Event::Closed(_))), opened);
            },
        );
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_callers_return_their_sessions() {
        let journal = Journal::in_memory();
        with_client(Server::new(&journal), async |client| {
            for patience in 0..200 {
                drop(timeout(ms(patience), client.fetch("/slow".to_owned())).await);
            }
            let answers = gather((0..5).map(|_| timeout(ms(200), client.fetch("/api".to_owned())))).await;
            assert!(answers.iter().all(|answer| matches!(answer, Ok(Ok(_)))), "{answers:?}");
        })
        .await;
        assert_eq!(count(&journal, |event| matches!(event, Event::Opened(_))), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn dead_session_is_replaced() {
        let journal = Journal::in_memory();
        with_client(Server::new(&journal), async |client| {
            assert_eq!(client.fetch("/hang-up".to_owned()).await.unwrap(), "/hang-up over session 0");
            assert_eq!(client.fetch("/api".to_owned()).await.unwrap(), "/api over session 1");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_fails_after_its_timeout() {
        with_client(Server::new(&Journal::in_memory()), async |client| {
            let held = gather((0..5).map(|_| client.pool.acquire())).await;
            let begin = tokio::time::Instant::now();
            let late = client.fetch("/api".to_owned()).await.unwrap_err();
            assert_eq!(late.to_string(), "no connection of the pool came free in time");
            assert_eq!(begin.elapsed(), Duration::from_secs(2));
            drop(held);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn pool_recovers_when_the_server_comes_up() {
        let server = Server::new(&Journal::in_memory());
        let is_up = Arc::clone(&server.is_up);
        is_up.store(false, Ordering::Relaxed);
        with_client(server, async |client| {
            let answers = gather((0..10).map(|_| client.fetch("/api".to_owned()))).await;
            assert!(answers.iter().all(|answer| matches!(answer, Err(AcquireError::Unavailable(_)))));
            assert_eq!(client.pool.stats().in_use, 0);
            is_up.store(true, Ordering::Relaxed);
            sleep(Duration::from_secs(1)).await;
            client.fetch("/api".to_owned()).await.unwrap();
            assert!(gather((0..10).map(|_| client.fetch("/api".to_owned()))).await.iter().all(Result::is_ok));
        })
        .await;
    }
}
