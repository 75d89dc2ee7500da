//! An async context manager: acquired, used, and released however the use ends.
//!
//! `cargo run -p motet-examples --example 04_context_manager`

use std::fmt;
use std::io;
use std::time::Duration;

use motet::resource::{Exit, ResourceError, resource};
use motet_examples::Journal;
use tokio::time::sleep;

struct Database {
    name: &'static str,
    journal: Journal<Event>,
}

impl Database {
    async fn acquire(name: &'static str, journal: Journal<Event>) -> io::Result<Self> {
        journal.note(Event::Acquiring(name));
        sleep(Duration::from_millis(100)).await;
        Ok(Self { name, journal })
    }

    /// `exit` tells how the use ended: a transaction would commit or roll back.
    async fn release(self, exit: Exit) {
        self.journal.note(Event::Releasing(self.name, exit));
        sleep(Duration::from_millis(100)).await;
    }
}

/// The context manager: what takes a piece of work is what Python's `async with` begins.
async fn with_database<T>(
    journal: Journal<Event>,
    work: impl AsyncFnOnce(&mut Database) -> io::Result<T>,
) -> Result<T, ResourceError<io::Error>> {
    resource(Database::acquire("database", journal))
        .named("database")
        .release(Database::release)
        .with(work)
        .await
}

async fn program(journal: &Journal<Event>) -> Result<(), ResourceError<io::Error>> {
    with_database(journal.clone(), async |database| {
        journal.note(Event::Using(database.name));
        sleep(Duration::from_millis(500)).await;
        Ok(())
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ResourceError<io::Error>> {
    let done = program(&Journal::on_terminal()).await;
    // Waits for releases that a dropped program would have left; there are none here.
    motet::drain().await;
    done
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Acquiring(&'static str),
    Using(&'static str),
    Releasing(&'static str, Exit),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acquiring(name) => write!(f, "Acquiring {name}"),
            Self::Using(name) => write!(f, "Using Resource-{name}"),
            Self::Releasing(name, _) => write!(f, "Releasing {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use motet::task::{Nursery, Policy, Scope, TaskFailed};
    use motet_testkit::cancel::Outcome;
    use motet_testkit::cancel_everywhere;
    use tokio::time::{Instant, timeout};

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A journal with the time of its beginning.
    fn journal() -> (Journal<Event>, Instant) {
        (Journal::in_memory(), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn resource_is_acquired_then_used_then_released() {
        let (journal, begin) = journal();
        program(&journal).await.unwrap();
        assert_eq!(
            journal.entries(),
            [
                (ms(0), Event::Acquiring("database")),
                (ms(100), Event::Using("database")),
                (ms(600), Event::Releasing("database", Exit::Ok)),
            ]
        );
        assert_eq!(begin.elapsed(), ms(700), "the release is over");
    }

    #[tokio::test(start_paused = true)]
    async fn error_is_returned_after_the_release() {
        let (journal, begin) = journal();
        let failed = with_database(journal.clone(), async |_| {
            sleep(ms(200)).await;
            Err::<(), _>(io::Error::other("no such table"))
        });
        assert_eq!(failed.await.unwrap_err().into_error().unwrap().to_string(), "no such table");
        assert_eq!(
            journal.entries(),
            [(ms(0), Event::Acquiring("database")), (ms(300), Event::Releasing("database", Exit::Err))]
        );
        assert_eq!(begin.elapsed(), ms(400));
    }

    #[tokio::test(start_paused = true)]
    async fn panic_is_reported_after_the_release() {
        let (journal, begin) = journal();
        let used = with_database(journal.clone(), async |_| -> io::Result<()> { panic!("a bug") });
        Scope::options()
            .policy(Policy::Isolate)
            .run(async |n: &Nursery<Infallible>| {
                let Err(TaskFailed::Panicked { message, .. }) = n.spawn("user", used).await else { panic!() };
                assert_eq!(message, "a bug");
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(
            journal.entries(),
            [(ms(0), Event::Acquiring("database")), (ms(100), Event::Releasing("database", Exit::Panic))]
        );
        assert_eq!(begin.elapsed(), ms(200));
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_program_completes_the_release() {
        let (journal, begin) = journal();
        assert!(timeout(ms(300), program(&journal)).await.is_err());
        motet::drain().await;
        assert_eq!(
            journal.entries(),
            [
                (ms(0), Event::Acquiring("database")),
                (ms(100), Event::Using("database")),
                (ms(300), Event::Releasing("database", Exit::Cancelled)),
            ]
        );
        assert_eq!(begin.elapsed(), ms(400));
    }

    #[test]
    fn resource_is_released_wherever_the_program_is_dropped() {
        let report = cancel_everywhere(
            async || journal(),
            async |(journal, _)| program(journal).await.unwrap(),
            async |(journal, begin), outcome| {
                motet::drain().await;
                let entries = journal.entries();
                if outcome == (Outcome::Dropped { suspensions: 0 }) {
                    assert_eq!(entries, [], "it was never polled");
                    return;
                }
                let releases = entries.iter().filter(|(_, event)| matches!(event, Event::Releasing(..)));
                assert_eq!(releases.count(), 1);
                let Some((at, Event::Releasing(..))) = entries.last() else {
                    panic!("used after it was released")
                };
                assert_eq!(begin.elapsed(), *at + ms(100), "the release is over");
            },
        );
        assert!(report.points() >= 4, "before, and while it is acquired, used and released: {report:?}");
    }
}
