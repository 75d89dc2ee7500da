//! A coroutine: a function that waits without holding a thread, and goes on where it stopped.
//!
//! `cargo run -p motet-examples --example 00_coroutine`

use std::fmt;
use std::time::Duration;

use motet_examples::Journal;
use tokio::time::sleep;

async fn simple_coroutine(journal: &Journal<Event>) -> &'static str {
    journal.note(Event::Started);
    sleep(Duration::from_secs(1)).await;
    journal.note(Event::Resumed);
    "Coroutine completed"
}

async fn program(journal: &Journal<Event>) {
    // The call makes a future and runs nothing of it; `await` runs it.
    let result = simple_coroutine(journal).await;
    journal.note(Event::Returned(result));
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    program(&Journal::on_terminal()).await;
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Started,
    Resumed,
    Returned(&'static str),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("Coroutine started"),
            Self::Resumed => f.write_str("Coroutine resumed"),
            Self::Returned(result) => write!(f, "Result: {result}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn coroutine_resumes_where_it_was_suspended() {
        let journal = Journal::in_memory();
        program(&journal).await;
        assert_eq!(
            journal.entries(),
            [
                (Duration::ZERO, Event::Started),
                (SECOND, Event::Resumed),
                (SECOND, Event::Returned("Coroutine completed")),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn coroutine_starts_when_it_is_awaited() {
        let journal = Journal::in_memory();
        let coroutine = simple_coroutine(&journal);
        sleep(SECOND * 2).await;
        assert_eq!(journal.events(), []);
        coroutine.await;
        assert_eq!(journal.entries()[0], (SECOND * 2, Event::Started));
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_coroutine_does_not_resume() {
        let journal = Journal::in_memory();
        assert!(timeout(SECOND / 2, program(&journal)).await.is_err());
        sleep(SECOND * 2).await;
        assert_eq!(journal.events(), [Event::Started]);
    }
}
