//! Two tasks on one thread: while one waits, the event loop runs the other.
//!
//! `cargo run -p motet-examples --example 01_event_loop`

use std::fmt;
use std::time::Duration;

use motet::task::{Nursery, ScopeError, TaskFailed, scope};
use motet_examples::Journal;
use tokio::time::sleep;

async fn task(number: u32, takes: Duration, journal: Journal<Event>) {
    journal.note(Event::Started(number));
    sleep(takes).await;
    journal.note(Event::Completed(number));
}

async fn program(journal: &Journal<Event>) -> Result<(), ScopeError<TaskFailed>> {
    scope(async |n: &Nursery<TaskFailed>| {
        let task1 = n.spawn("task 1", task(1, Duration::from_secs(1), journal.clone()));
        let task2 = n.spawn("task 2", task(2, Duration::from_secs(2), journal.clone()));
        // Both run from now on. What nobody awaits here, the scope waits for at its end.
        task1.await?;
        task2.await
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError<TaskFailed>> {
    program(&Journal::on_terminal()).await
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Started(u32),
    Completed(u32),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(number) => write!(f, "Task {number} started"),
            Self::Completed(number) => write!(f, "Task {number} completed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use motet_testkit::{cancel_everywhere, sim};
    use tokio::time::Instant;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn tasks_run_concurrently() {
        let begin = Instant::now();
        let journal = Journal::in_memory();
        program(&journal).await.unwrap();
        assert_eq!(
            journal.entries(),
            [
                (Duration::ZERO, Event::Started(1)),
                (Duration::ZERO, Event::Started(2)),
                (SECOND, Event::Completed(1)),
                (SECOND * 2, Event::Completed(2)),
            ]
        );
        // The longer of the two, not their sum.
        assert_eq!(begin.elapsed(), SECOND * 2);
    }

    #[test]
    fn order_of_starting_does_not_change_when_tasks_end() {
        let sweep = sim(|| async {
            let journal = Journal::in_memory();
            program(&journal).await.unwrap();
            let entries = journal.entries();
            assert_eq!(entries[2..], [(SECOND, Event::Completed(1)), (SECOND * 2, Event::Completed(2))]);
            motet::sometimes!(entries[0].1 == Event::Started(2), "task 2 starts first");
            motet::sometimes!(entries[0].1 == Event::Started(1), "task 1 starts first");
        })
        .run();
        assert!(sweep.runs() >= 1);
    }

    #[test]
    fn tasks_end_with_a_dropped_program() {
        cancel_everywhere(
            async || Journal::in_memory(),
            async |journal| program(journal).await.unwrap(),
            async |journal, _| {
                motet::drain().await;
                let before = journal.events();
                sleep(SECOND * 3).await;
                assert_eq!(journal.events(), before);
            },
        );
    }
}
