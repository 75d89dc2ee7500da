//! Middleware: what is the same for every request stands around the handler, as plain async functions.
//!
//! The chain leads to a handler, so that the business logic is called, and its type says so. Authentication changes the
//! type of the request: what the handler is given has a user, and there is none without. A refusal is an error with a
//! name, a request that takes too long gets one too, and what is dropped half-way is in the log as well.
//!
//! `cargo run -p motet-examples --example 06_middleware`

use std::fmt;
use std::time::Duration;

use motet::middleware::{Chain, End, Ended, Handler, Next, PolicyError, timeout, watch, with_state};
use motet_examples::Journal;
use tokio::time::sleep;

#[derive(Debug, Clone, PartialEq)]
struct Request {
    id: u32,
    authenticated: bool,
}

/// A request of somebody who is known. Only [`authenticate`] makes one.
#[derive(Debug, Clone, PartialEq)]
struct Authenticated(Request);

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("unauthorized")]
    Unauthorized,
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

type Answer = Result<String, Refused>;

/// Notes what comes in; how it ended, [`log_end`] does.
async fn log(journal: Journal<Event>, request: Request, next: Next<Request, Answer>) -> Answer {
    journal.note(Event::Started(request.id));
    next.run(request).await
}

/// Notes every end, that of a request whose caller has gone included.
fn log_end(journal: Journal<Event>) -> impl Fn(&Ended<'_, Answer>) + Send + Sync + 'static {
    move |ended| match ended.how {
        End::Answered(Ok(_)) => journal.note(Event::Completed),
        End::Answered(Err(error)) => journal.note(Event::Failed(error.to_string())),
        End::Dropped | End::Panicked => journal.note(Event::Gone),
    }
}

async fn authenticate(request: Request, next: Next<Authenticated, Answer>) -> Answer {
    if !request.authenticated {
        return Err(Refused::Unauthorized);
    }
    next.run(Authenticated(request)).await
}

async fn business_logic(Authenticated(request): Authenticated) -> Answer {
    sleep(Duration::from_millis(100)).await;
    Ok(format!("Processed: request {}", request.id))
}

/// The first part is outermost.
fn application(journal: &Journal<Event>, within: Duration) -> Handler<Request, Answer> {
    Chain::new()
        .with(with_state(journal.clone(), log))
        .with(watch(log_end(journal.clone())))
        .with(timeout(within))
        .adapt(authenticate)
        .to(business_logic)
}

async fn program(journal: &Journal<Event>) {
    let application = application(journal, Duration::from_secs(1));
    for (id, authenticated) in [(1, true), (2, false)] {
        match application.call(Request { id, authenticated }).await {
            Ok(answer) => journal.note(Event::Answer(answer)),
            Err(error) => journal.note(Event::Error(error.to_string())),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    program(&Journal::on_terminal()).await;
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Started(u32),
    Completed,
    Failed(String),
    Gone,
    Answer(String),
    Error(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(id) => write!(f, "Request {id} started"),
            Self::Completed => f.write_str("Request completed"),
            Self::Failed(error) => write!(f, "Request failed: {error}"),
            Self::Gone => f.write_str("Request dropped by its caller"),
            Self::Answer(answer) => write!(f, "Final result: {answer}"),
            Self::Error(error) => write!(f, "Error: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use motet::resilience::{ErrorKind, Limited};
    use motet_testkit::cancel_everywhere;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn request(authenticated: bool) -> Request {
        Request { id: 1, authenticated }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_pass_through_the_chain_to_the_business_logic() {
        let journal = Journal::in_memory();
        program(&journal).await;
        let answered = MILLISECOND * 100;
        assert_eq!(
            journal.entries(),
            [
                (Duration::ZERO, Event::Started(1)),
                (answered, Event::Completed),
                (answered, Event::Answer("Processed: request 1".to_owned())),
                (answered, Event::Started(2)),
                (answered, Event::Failed("unauthorized".to_owned())),
                (answered, Event::Error("unauthorized".to_owned())),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn slow_request_times_out_and_is_logged() {
        let journal = Journal::in_memory();
        let answer = application(&journal, MILLISECOND * 10).call(request(true)).await;
        let Err(Refused::Policy(error)) = answer else { panic!("it has no time: {answer:?}") };
        assert_eq!(error.kind(), ErrorKind::TimedOut(Limited::Total));
        let failed = Event::Failed("time was up, in 1 attempt".to_owned());
        assert_eq!(journal.entries().pop(), Some((MILLISECOND * 10, failed)));
    }

    #[test]
    fn describe_shows_the_middleware_in_order() {
        let order = application(&Journal::in_memory(), MILLISECOND).describe().to_string();
        assert_eq!(order, "log > watch > timeout (total, within 1ms) > authenticate > business_logic");
    }

    #[test]
    fn dropped_request_is_logged() {
        cancel_everywhere(
            async || Journal::in_memory(),
            async |journal| drop(application(journal, MILLISECOND * 200).call(request(true)).await),
            async |journal, _| match journal.events().as_slice() {
                [] | [Event::Started(1), Event::Completed | Event::Gone] => {}
                other => panic!("{other:?}"),
            },
        );
    }
}
