//! A backend in memory that counts the calls of a pool and detects when the pool breaks a rule.

use std::error::Error;
use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::pool::{Manager, Recycle};
use tokio::task::yield_now;
use tokio::time::sleep;

/// The behaviour of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Well,
    Fail,
    Hang,
    Panic,
}

/// The current behaviour of the backend.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behaviour {
    pub(crate) connect: Answer,
    pub(crate) connect_takes: Duration,
    pub(crate) check: Answer,
    pub(crate) check_takes: Duration,
    pub(crate) recycle: Answer,
    pub(crate) close: Answer,
    pub(crate) close_takes: Duration,
    /// The largest number of connections that may be alive at any instant.
    pub(crate) limit: usize,
}

#[derive(Clone)]
pub(crate) struct Backend(Arc<Counts>);

struct Counts {
    behaviour: Mutex<Behaviour>,
    attempts: AtomicUsize,
    connecting: AtomicUsize,
    connecting_peak: AtomicUsize,
    opened: AtomicUsize,
    alive: AtomicUsize,
    peak: AtomicUsize,
    checked: AtomicUsize,
    closed: AtomicUsize,
    closed_twice: AtomicBool,
    /// Connections that were dropped without being closed by the pool.
    dropped: AtomicUsize,
}

impl Default for Backend {
    fn default() -> Self {
        let behaviour = Behaviour {
            connect: Answer::Well,
            connect_takes: Duration::ZERO,
            check: Answer::Well,
            check_takes: Duration::ZERO,
            recycle: Answer::Well,
            close: Answer::Well,
            close_takes: Duration::ZERO,
            limit: usize::MAX,
        };
        Self(Arc::new(Counts {
            behaviour: Mutex::new(behaviour),
            attempts: AtomicUsize::new(0),
            connecting: AtomicUsize::new(0),
            connecting_peak: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            alive: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            checked: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            closed_twice: AtomicBool::new(false),
            dropped: AtomicUsize::new(0),
        }))
    }
}

impl Backend {
    pub(crate) fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.0.behaviour.lock().unwrap());
    }

    pub(crate) fn limited_to(limit: usize) -> Self {
        let backend = Self::default();
        backend.behave(|behaviour| behaviour.limit = limit);
        backend
    }

    fn now(&self) -> Behaviour {
        *self.0.behaviour.lock().unwrap()
    }

    /// Connects that were started.
    pub(crate) fn attempts(&self) -> usize {
        self.0.attempts.load(SeqCst)
    }

    /// Connects in flight.
    pub(crate) fn connecting(&self) -> usize {
        self.0.connecting.load(SeqCst)
    }

    /// The largest number of concurrent connects.
    pub(crate) fn connecting_peak(&self) -> usize {
        self.0.connecting_peak.load(SeqCst)
    }

    pub(crate) fn opened(&self) -> usize {
        self.0.opened.load(SeqCst)
    }

    pub(crate) fn peak(&self) -> usize {
        self.0.peak.load(SeqCst)
    }

    pub(crate) fn checked(&self) -> usize {
        self.0.checked.load(SeqCst)
    }

    pub(crate) fn closed(&self) -> usize {
        self.0.closed.load(SeqCst)
    }

    pub(crate) fn dropped(&self) -> usize {
        self.0.dropped.load(SeqCst)
    }

    pub(crate) fn alive(&self) -> usize {
        self.0.alive.load(SeqCst)
    }

    /// Checks that each opened connection was closed exactly once.
    #[track_caller]
    pub(crate) fn assert_settled(&self) {
        assert!(!self.0.closed_twice.load(SeqCst), "a connection was closed twice");
        let ended = self.closed() + self.dropped();
        assert_eq!(
            (self.opened(), self.alive()),
            (ended, 0),
            "each opened connection ended, and none is alive"
        );
        assert_eq!(self.dropped(), 0, "connections were dropped without being closed");
    }

    async fn answer<T>(&self, answer: Answer, takes: Duration, well: T) -> Result<T, Refused> {
        yield_now().await;
        if !takes.is_zero() {
            sleep(takes).await;
        }
        match answer {
            Answer::Well => Ok(well),
            Answer::Fail => Err(Refused(self.attempts())),
            Answer::Hang => pending().await,
            Answer::Panic => panic!("the driver has a bug"),
        }
    }
}

/// A connection counts as alive from before its connect until it has ended.
struct Alive(Backend);

impl Alive {
    fn begin(backend: &Backend) -> Self {
        let alive = backend.0.alive.fetch_add(1, SeqCst) + 1;
        backend.0.peak.fetch_max(alive, SeqCst);
        assert!(alive <= backend.now().limit, "{alive} connections are alive at once");
        Self(backend.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.alive.fetch_sub(1, SeqCst);
    }
}

pub(crate) struct Link {
    pub(crate) id: usize,
    pub(crate) is_broken: bool,
    /// The number of uses so far.
    pub(crate) uses: usize,
    is_closed: bool,
    alive: Alive,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.id)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.is_closed {
            self.alive.0.0.dropped.fetch_add(1, SeqCst);
        }
    }
}

/// The number of a connection is that of its attempt.
#[derive(Debug, PartialEq)]
pub(crate) struct Refused(pub(crate) usize);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attempt {} was refused", self.0)
    }
}

impl Error for Refused {}

struct Connecting<'a>(&'a Backend);

impl<'a> Connecting<'a> {
    fn begin(backend: &'a Backend) -> Self {
        backend.0.attempts.fetch_add(1, SeqCst);
        let connecting = backend.0.connecting.fetch_add(1, SeqCst) + 1;
        backend.0.connecting_peak.fetch_max(connecting, SeqCst);
        Self(backend)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.0.connecting.fetch_sub(1, SeqCst);
    }
}

impl Manager for Backend {
    type Connection = Link;
    type Error = Refused;

    async fn connect(&self) -> Result<Link, Refused> {
        let (_connecting, alive) = (Connecting::begin(self), Alive::begin(self));
        let Behaviour { connect, connect_takes, .. } = self.now();
        self.answer(connect, connect_takes, ()).await?;
        let id = self.0.opened.fetch_add(1, SeqCst);
        Ok(Link { id, is_broken: false, uses: 0, is_closed: false, alive })
    }

    async fn check(&self, link: &mut Link) -> Result<(), Refused> {
        self.0.checked.fetch_add(1, SeqCst);
        let Behaviour { check, check_takes, .. } = self.now();
        self.answer(check, check_takes, ()).await?;
        if link.is_broken { Err(Refused(link.id)) } else { Ok(()) }
    }

    fn recycle(&self, link: &mut Link) -> Recycle {
        assert!(!link.is_closed, "a closed connection was returned");
        link.uses += 1;
        match self.now().recycle {
            Answer::Panic => panic!("the driver has a bug"),
            Answer::Well if !link.is_broken => Recycle::Keep,
            _ => Recycle::Discard,
        }
    }

    async fn close(&self, mut link: Link) {
        if std::mem::replace(&mut link.is_closed, true) {
            self.0.closed_twice.store(true, SeqCst);
        }
        self.0.closed.fetch_add(1, SeqCst);
        let Behaviour { close, close_takes, .. } = self.now();
        drop(self.answer(close, close_takes, ()).await);
    }
}
