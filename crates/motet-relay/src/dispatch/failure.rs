//! Failures: what a failed attempt is charged to, whether relay itself can attempt anything, and panics of the
//! dispatcher's tasks.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use motet::resilience::Verdict;
use motet_http::Fault;
use tokio::time::Instant;
use url::Url;

use crate::outbound::{ReceiverResponse, SendError};
use crate::store::FailureClass;

/// The text of an error is cut to this length, because every list of attempts contains it.
const MAX_ERROR_BYTES: usize = 1 << 10;

/// Returns what a failed attempt is charged to; `None` for a success.
pub(super) fn class(sent: &Result<ReceiverResponse, SendError>) -> Option<FailureClass> {
    match sent {
        Ok(ReceiverResponse { status: 200..=299, .. }) => None,
        Ok(_) => Some(FailureClass::Receiver),
        Err(error) => Some(match error.fault() {
            Fault::Local => FailureClass::Relay,
            Fault::Settings => FailureClass::Config,
            _ => FailureClass::Receiver,
        }),
    }
}

/// Returns the verdict of the attempt for the endpoint's breaker. A 4xx is ignored: a receiver that rejects one event
/// may accept the next.
pub(super) fn breaker_verdict(sent: &Result<ReceiverResponse, SendError>) -> Verdict {
    match sent {
        Ok(ReceiverResponse { status: 200..=299, .. }) => Verdict::Success,
        Ok(ReceiverResponse { status: 408 | 429 | 500.., .. }) => Verdict::Failure,
        Err(_) if class(sent) == Some(FailureClass::Receiver) => Verdict::Failure,
        Ok(_) | Err(_) => Verdict::Ignore,
    }
}

/// Cuts the text of an error to [`MAX_ERROR_BYTES`].
pub(super) fn cut(mut text: String) -> String {
    if text.len() > MAX_ERROR_BYTES {
        text.truncate(text.floor_char_boundary(MAX_ERROR_BYTES - 3));
        text.push_str("...");
    }
    text
}

/// A failure is forgotten after this time without an attempt. Longer than the longest delay after an attempt that relay
/// failed.
const KNOWN_FOR: Duration = Duration::from_secs(120);

/// Failures at this number of hosts, without an attempt that got further in between, show that relay itself fails: a host
/// alone may be the reason, and it is chosen by a tenant.
const FAILING_HOSTS: usize = 3;

/// The extent of the failure of an attempt that is charged to relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LocalCause {
    /// Resources that every attempt needs.
    Machine,
    /// Possibly this host alone: no route to it, or no answer of a name server.
    Host(String),
}

impl LocalCause {
    pub(super) fn of(error: &SendError, url: &str) -> Self {
        match error {
            SendError::Failed { lacks_resources: true, .. } => Self::Machine,
            _ => Self::at(url),
        }
    }

    /// The host of a URL.
    pub(super) fn at(url: &str) -> Self {
        let host = Url::parse(url).ok().and_then(|url| url.host_str().map(ToOwned::to_owned));
        Self::Host(host.unwrap_or_default())
    }
}

/// The error that keeps relay itself from attempting anything: that of the last attempts, if they were charged to relay.
#[derive(Debug, Default)]
pub(super) struct LocalFailure(Mutex<LocalFailures>);

#[derive(Debug, Default)]
struct LocalFailures {
    machine: Option<Instant>,
    /// The latest failures at different hosts, at most [`FAILING_HOSTS`].
    hosts: Vec<(Instant, String)>,
    error: String,
}

impl LocalFailures {
    fn is_failing(&self) -> bool {
        let is_known = |at: &Instant| at.elapsed() < KNOWN_FOR;
        let hosts = self.hosts.iter().filter(|(at, _)| is_known(at)).count();
        self.machine.as_ref().is_some_and(is_known) || hosts >= FAILING_HOSTS
    }
}

impl LocalFailure {
    /// Notes that an attempt failed because of relay itself.
    pub(super) fn set(&self, error: &str, cause: LocalCause) {
        let mut failures = self.lock();
        let was_failing = failures.is_failing();
        match cause {
            LocalCause::Machine => failures.machine = Some(Instant::now()),
            LocalCause::Host(host) => {
                failures.hosts.retain(|(_, known)| *known != host);
                if failures.hosts.len() == FAILING_HOSTS {
                    failures.hosts.remove(0);
                }
                failures.hosts.push((Instant::now(), host));
            }
        }
        error.clone_into(&mut failures.error);
        if !was_failing && failures.is_failing() {
            tracing::error!(error, "deliveries cannot be attempted; relay is not ready");
        }
    }

    /// Notes that an attempt got past the point at which relay itself can fail.
    pub(super) fn clear(&self) {
        *self.lock() = LocalFailures::default();
    }

    /// The current error, if there is one.
    pub(super) fn current(&self) -> Option<String> {
        let failures = self.lock();
        failures.is_failing().then(|| failures.error.clone())
    }

    fn lock(&self) -> MutexGuard<'_, LocalFailures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a future to its end. Returns the message of the panic if the future panics.
///
/// # Cancel safety
/// The same as that of the future.
pub(super) async fn catch_panic<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    let polled = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(message(&*panic))),
    });
    polled.await
}

/// Logs and counts the panic of a task of the dispatcher. The caller returns the slot and the delivery of the task.
pub(super) fn log_panic(task: &'static str, message: &str) {
    tracing::error!(task, message, "a task of the dispatcher panicked because of a bug");
    metrics::counter!("relay_tasks_died_total", "task" => task).increment(1);
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_errors_are_cut_between_characters() {
        assert_eq!(cut("short".to_owned()), "short");
        for text in ["x".repeat(51_000), "\u{20ac}".repeat(17_000), format!("x{}", "\u{20ac}".repeat(17_000))]
        {
            let text = cut(text);
            assert!((MAX_ERROR_BYTES - 6..=MAX_ERROR_BYTES).contains(&text.len()), "{}", text.len());
            assert!(text.ends_with("..."));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn local_failure_is_forgotten_when_cleared_or_after_its_time() {
        let failure = LocalFailure::default();
        assert_eq!(failure.current(), None);
        failure.set("no descriptors", LocalCause::Machine);
        assert_eq!(failure.current().as_deref(), Some("no descriptors"));
        failure.clear();
        assert_eq!(failure.current(), None);
        failure.set("no memory", LocalCause::Machine);
        tokio::time::advance(KNOWN_FOR - Duration::from_millis(1)).await;
        assert_eq!(failure.current().as_deref(), Some("no memory"));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(failure.current(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_at_one_host_are_not_taken_for_those_of_relay() {
        let failure = LocalFailure::default();
        let fail = |host: &str| {
            failure.set("no route", LocalCause::at(&format!("http://{host}:8080/a")));
            failure.current().is_some()
        };
        assert!(!fail("a") && !fail("a") && !fail("b") && !fail("b") && !fail("a"));
        assert!(fail("c") && fail("a"));
        failure.clear();
        assert!(!fail("a") && !fail("b"));
        tokio::time::advance(KNOWN_FOR).await;
        assert!(!fail("c") && !fail("d") && fail("e"));
    }

    #[tokio::test]
    async fn panic_of_a_future_becomes_an_error_with_its_message() {
        assert_eq!(catch_panic(async { 1 }).await, Ok(1));
        for (number, message) in [(2, "no 2"), (3, "a constant")] {
            let panics = async move {
                tokio::task::yield_now().await;
                if number == 2 { panic!("no {number}") } else { panic!("a constant") }
            };
            assert_eq!(catch_panic(panics).await, Err::<(), _>(message.to_owned()));
        }
    }
}
