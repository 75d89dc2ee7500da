use std::fmt;
use std::time::Duration;

use tokio::sync::watch;

use super::child::{Child, Restart};
use super::error::SupervisorError;
use super::machine::Machine;
use super::shell;
use super::watch::{Seen, SupervisorWatch};
use crate::Backoff;
use crate::sim::Site;
use crate::sync::Class;
use crate::task::child::Fallible;
use crate::task::outcome::IntoResult;
use crate::task::{CancelToken, Name, Nursery, Task};

/// Starts children in order, restarts them when they fail, and stops them in reverse order.
///
/// A child is started when the child before it has been ready or has ended for good. A child that fails before it is ready
/// is restarted like any other, and the children after it wait.
///
/// A failed child is restarted after the delay of the [`Backoff`], which starts again with its first delay for a child that
/// was ready for the whole window of the [`intensity`](Self::intensity). If all children together need more restarts than
/// the intensity allows, the supervisor stops the children and returns an error. When no child is left to run, it
/// returns `Ok`.
///
/// # Defaults
/// An intensity of 5 restarts in 60 s; the default [`Backoff`]: with it a child that fails at once uses them up
/// in about two seconds.
#[must_use = "a supervisor does nothing until it is started"]
pub struct Supervisor {
    name: Name,
    max_restarts: u32,
    within: Duration,
    backoff: Backoff,
    children: Vec<Child>,
    statuses: watch::Sender<Seen>,
}

impl Supervisor {
    /// Creates a supervisor without children.
    #[allow(clippy::new_without_default, reason = "a supervisor without children is no useful default")]
    pub fn new() -> Self {
        Self {
            name: Name::from("supervisor"),
            max_restarts: 5,
            within: Duration::from_secs(60),
            backoff: Backoff::default(),
            children: Vec::new(),
            statuses: watch::Sender::default(),
        }
    }

    /// Sets the name in snapshots, errors and logs; `supervisor` unless set.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Allows at most `max_restarts` restarts, of all children together, in any period of the length `within`. With
    /// [`Duration::MAX`] the limit holds for the whole run; with zero, and a `max_restarts` of at least 1, there is no
    /// limit.
    pub fn intensity(mut self, max_restarts: u32, within: Duration) -> Self {
        self.max_restarts = max_restarts;
        self.within = within;
        self
    }

    /// Sets the delay between the failure of a child and its restart.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Adds a child that is ready as soon as it is started. To stop it, the supervisor drops it at its next await.
    ///
    /// `child` is called for its start and every restart.
    #[track_caller]
    pub fn child<F, Fut>(self, name: impl Into<Name>, restart: Restart, child: F) -> Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        self.with_child(Child::plain(name.into(), restart, child))
    }

    /// Adds a child that reports when it is ready, and sees when it has to stop.
    pub fn with_child(mut self, child: Child) -> Self {
        self.children.push(child);
        let children = self.machine().statuses();
        self.statuses.send_modify(|seen| seen.children = children);
        self
    }

    /// Returns a view of the children, which can outlive the supervisor.
    #[must_use]
    pub fn watch(&self) -> SupervisorWatch {
        SupervisorWatch::new(self.statuses.subscribe())
    }

    /// Starts the supervisor as a child of a scope, which receives its error.
    ///
    /// When the scope is cancelled, the children are stopped in reverse order. Their stop timeouts limit how long that
    /// takes; the grace period of the scope does not. The scope waits until the supervisor ends by itself; to end the
    /// supervisor with the scope, use [`serve`](Self::serve).
    #[allow(clippy::must_use_candidate, reason = "its scope awaits the task")]
    #[track_caller]
    pub fn spawn<E>(self, nursery: &Nursery<E>) -> Task<(), E>
    where
        E: From<SupervisorError> + Send + 'static,
    {
        self.start(nursery, Class::Work)
    }

    /// Starts the supervisor as a service of a scope: like [`spawn`](Self::spawn), but it is stopped when the
    /// body of the scope and all other children have ended.
    #[allow(clippy::must_use_candidate, reason = "its scope awaits the task")]
    #[track_caller]
    pub fn serve<E>(self, nursery: &Nursery<E>) -> Task<(), E>
    where
        E: From<SupervisorError> + Send + 'static,
    {
        self.start(nursery, Class::Service)
    }

    #[track_caller]
    fn start<E>(self, nursery: &Nursery<E>, class: Class) -> Task<(), E>
    where
        E: From<SupervisorError> + Send + 'static,
    {
        let (name, token) = (self.name.clone(), CancelToken::new());
        let run = self.run(token.clone());
        let run = async move { run.await.map_err(E::from) };
        // The token has no grace period of the scope: the stop timeouts of the children bound the end of the supervisor.
        nursery.launch::<_, _, _, Fallible<E>>(name, class, Some(token), run)
    }

    /// Runs the supervisor until no child is left, it fails, or `stop` is cancelled and all children have
    /// been stopped.
    ///
    /// # Drop
    /// The tokens of all children are cancelled at once. The children are handed to the enclosing scope, which waits for them;
    /// each is dropped when its stop timeout is over.
    ///
    /// # Cancel safety
    /// No child is abandoned (see Drop), but the order of the stop is lost. To stop in order, cancel `stop`.
    ///
    /// # Errors
    /// [`SupervisorError`]: there were more restarts than the intensity allows.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[track_caller]
    pub fn run(self, stop: CancelToken) -> impl Future<Output = Result<(), SupervisorError>> + Send {
        let site = Site::named("supervisor", "run", || Some(self.name.to_string()));
        let machine = self.machine();
        site.of(shell::run(self.name, machine, self.children, self.statuses, stop))
    }

    fn machine(&self) -> Machine {
        let mut machine =
            Machine::new(self.name.clone(), self.max_restarts, self.within, self.backoff.clone());
        for child in &self.children {
            machine.add(child.name.clone(), child.restart);
        }
        machine
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("name", &self.name)
            .field("max_restarts", &self.max_restarts)
            .field("within", &self.within)
            .field("backoff", &self.backoff)
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}
