//! A future that is settled from outside and awaited by many: Python's `loop.create_future()`.
//!
//! `cargo run -p motet-examples --example 02_settled_from_outside`

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use motet::task::{Nursery, ScopeError, Shared, scope};
use motet_examples::Journal;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// A task that waits for the value; the error says that nobody will settle it.
type Answer = Shared<Result<u32, oneshot::error::RecvError>>;

async fn waiter(number: u32, answer: Answer, journal: Journal<Event>) {
    journal.note(Event::Waiting(number));
    let heard = match &*answer.await {
        Ok(Ok(value)) => Event::Heard(number, *value),
        Ok(Err(_)) | Err(_) => Event::Unsettled(number),
    };
    journal.note(heard);
}

async fn program(
    settle: impl AsyncFnOnce(oneshot::Sender<u32>),
    journal: &Journal<Event>,
) -> Result<(), ScopeError<Infallible>> {
    scope(async |n: &Nursery<Infallible>| {
        let (sender, settled) = oneshot::channel();
        let answer = n.spawn("answer", settled).shared();
        for number in 1..=3 {
            // Dropping the handle of a task leaves it to its scope, which waits for it.
            drop(n.spawn("waiter", waiter(number, answer.clone(), journal.clone())));
        }
        settle(sender).await;
        // Too late to wait: the value is there.
        waiter(4, answer, journal.clone()).await;
        Ok(())
    })
    .await
}

async fn after_a_second(sender: oneshot::Sender<u32>) {
    sleep(Duration::from_secs(1)).await;
    // Refused only when nobody waits any more.
    let _ = sender.send(42);
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError<Infallible>> {
    program(after_a_second, &Journal::on_terminal()).await
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Waiting(u32),
    Heard(u32, u32),
    Unsettled(u32),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting(number) => write!(f, "Waiter {number} waits"),
            Self::Heard(number, value) => write!(f, "Waiter {number} heard {value}"),
            Self::Unsettled(number) => write!(f, "Waiter {number} heard that there will be no answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use motet_testkit::sim;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn every_waiter_receives_the_value_once_it_is_set() {
        let journal = Journal::in_memory();
        program(after_a_second, &journal).await.unwrap();
        let entries = journal.entries();
        assert_eq!(entries[..3], [1, 2, 3].map(|number| (Duration::ZERO, Event::Waiting(number))));
        for number in 1..=4 {
            let heard = (SECOND, Event::Heard(number, 42));
            assert_eq!(entries.iter().filter(|entry| **entry == heard).count(), 1, "{entries:?}");
        }
        assert_eq!(entries.len(), 8);
    }

    #[test]
    fn waiters_end_when_the_sender_is_dropped() {
        sim(|| async {
            let journal = Journal::in_memory();
            program(async |sender| drop(sender), &journal).await.unwrap();
            let unsettled = |event: &Event| matches!(event, Event::Unsettled(_));
            assert_eq!(journal.events().iter().filter(|event| unsettled(event)).count(), 4);
        })
        .run();
    }

    #[test]
    fn every_order_of_waiting_and_settling_wakes_all_waiters() {
        sim(|| async {
            let journal = Journal::in_memory();
            let at_once = async |sender: oneshot::Sender<u32>| {
                tokio::task::yield_now().await;
                let _ = sender.send(7);
            };
            program(at_once, &journal).await.unwrap();
            let heard = journal.events().into_iter().filter(|event| matches!(event, Event::Heard(_, 7)));
            assert_eq!(heard.count(), 4);
        })
        .run();
    }
}
