//! A batch processor: items are collected, and handled three at a time or two seconds after the first.
//!
//! `cargo run -p motet-examples --example 09_batch_processor`

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use motet::batch::{Batcher, Builder};
use motet::task::{Nursery, Scope, ScopeError, scope};
use motet_examples::Journal;
use tokio::time::sleep;

/// The processor: what a batch costs is paid once for three items, and each has its own result.
fn processor(scope: &Scope, journal: &Journal<Event>) -> Batcher<String, String, Rejected> {
    let journal = journal.clone();
    let handler = move |batch: Vec<String>| {
        let journal = journal.clone();
        async move {
            journal.note(Event::Batch(batch.clone()));
            sleep(Duration::from_millis(100)).await;
            let process = |item: String| match item.as_str() {
                "item_4" => Err(Rejected(item)),
                _ => Ok(format!("processed_{item}")),
            };
            batch.into_iter().map(process).collect::<Vec<_>>()
        }
    };
    let builder = Builder::new(scope).named("processor").max_items(3).max_delay(Duration::from_secs(2));
    builder.build(handler).expect("these limits make sense")
}

async fn program(journal: &Journal<Event>) -> Result<(), ScopeError<Infallible>> {
    scope(async |n: &Nursery<Infallible>| {
        let processor = processor(n, journal);
        for number in 0..10 {
            let (processor, journal) = (processor.clone(), journal.clone());
            // Each waits for its own result, in a task of its own.
            drop(n.spawn("caller", async move {
                journal.note(match processor.submit(format!("item_{number}")).await {
                    Ok(result) => Event::Result(number, result),
                    Err(error) => Event::Failed(number, error.to_string()),
                });
            }));
            sleep(Duration::from_millis(100)).await;
        }
        // Nothing to stop: the last item goes two seconds after it came, its caller is a task of this scope.
        Ok(())
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError<Infallible>> {
    program(&Journal::on_terminal()).await
}

/// The error of one item; the others of its batch have their results.
#[derive(Debug)]
struct Rejected(String);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is rejected", self.0)
    }
}

impl std::error::Error for Rejected {}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Batch(Vec<String>),
    Result(u32, String),
    Failed(u32, String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(items) => write!(f, "Processing batch of {} items", items.len()),
            Self::Result(number, result) => write!(f, "Item {number}: {result}"),
            Self::Failed(number, error) => write!(f, "Item {number}: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use motet::task::{Reason, drain};
    use motet_testkit::cancel::Outcome;
    use motet_testkit::cancel_everywhere;
    use tokio::time::Instant;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn items(numbers: impl IntoIterator<Item = u32>) -> Event {
        Event::Batch(numbers.into_iter().map(|number| format!("item_{number}")).collect())
    }

    fn batches(journal: &Journal<Event>) -> Vec<(Duration, Event)> {
        let entries = journal.entries().into_iter();
        entries.filter(|(_, event)| matches!(event, Event::Batch(_))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_item_gets_its_own_result_or_error() {
        let journal = Journal::in_memory();
        program(&journal).await.unwrap();
        let events = journal.events();
        for number in (0..10).filter(|number| *number != 4) {
            let result = Event::Result(number, format!("processed_item_{number}"));
            assert_eq!(events.iter().filter(|event| **event == result).count(), 1, "{number}");
        }
        assert!(events.contains(&Event::Failed(4, "the item failed".to_owned())), "{events:?}");
        assert_eq!(events.len(), 14, "four batches and ten answers");
    }

    /// The first three at 0.2 s, as the third comes; the last alone, two seconds after it came.
    #[tokio::test(start_paused = true)]
    async fn batches_go_out_when_full_or_at_the_max_delay() {
        let journal = Journal::in_memory();
        program(&journal).await.unwrap();
        let seen = batches(&journal);
        let events: Vec<_> = seen.iter().map(|(_, event)| event.clone()).collect();
        assert_eq!(events, [items(0..3), items(3..6), items(6..9), items([9])]);
        let times: Vec<_> = seen.iter().map(|(at, _)| at.as_millis()).collect();
        assert_eq!(times[..3], [200, 500, 800]);
        assert!((2_900..=2_901).contains(&times[3]), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn close_processes_the_buffer_and_ends_the_task() {
        let journal = Journal::in_memory();
        let begin = Instant::now();
        scope(async |n: &Nursery| {
            let processor = processor(n, &journal);
            for number in 0..4 {
                processor.post(format!("item_{number}")).await.unwrap();
            }
            processor.close().await;
            assert_eq!(batches(&journal).len(), 2, "closed means drained");
            let back = processor.post("late".to_owned()).await.unwrap_err();
            assert_eq!(back.into_item(), "late");
            assert!(n.snapshot().tasks.iter().all(|task| task.name != "processor"), "a loop that goes on");
            Ok(())
        })
        .await
        .unwrap();
        assert!(begin.elapsed() < ms(300), "no deadline was waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_program_leaves_no_task() {
        let journal = Journal::in_memory();
        let ended = scope(async |n: &Nursery| {
            let processor = processor(n, &journal);
            drop(processor.post("item_1".to_owned()).await);
            n.cancel(Reason::requested("enough"));
            std::future::pending::<Result<(), Infallible>>().await
        });
        assert!(ended.await.unwrap_err().is_cancelled());
        assert_eq!((batches(&journal).len(), motet::task::unscoped()), (0, 0));
    }

    #[test]
    fn program_dropped_anywhere_handles_no_item_twice() {
        cancel_everywhere(
            async || Journal::in_memory(),
            async |journal| program(journal).await.unwrap(),
            async |journal, outcome| {
                drain().await;
                let mut seen: Vec<String> = Vec::new();
                for (_, event) in batches(journal) {
                    let Event::Batch(items) = event else { unreachable!("only batches are asked for") };
                    seen.extend(items);
                }
                let count = seen.len();
                seen.sort_unstable();
                seen.dedup();
                assert_eq!(seen.len(), count, "an item is in two batches");
                assert!(count == 10 || outcome != Outcome::Completed(()), "an item is lost");
            },
        );
    }
}
