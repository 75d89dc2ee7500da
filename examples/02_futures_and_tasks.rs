//! Several things at once, twice: fetch all, then process all.
//!
//! `cargo run -p motet-examples --example 02_futures_and_tasks`

use std::fmt;
use std::time::Duration;

use motet::task::gather;
use motet_examples::Journal;
use tokio::time::sleep;

async fn fetch_data(url: String, journal: &Journal<Event>) -> String {
    journal.note(Event::Fetching(url.clone()));
    sleep(Duration::from_secs(1)).await;
    format!("Data from {url}")
}

async fn process_data(data: String, journal: &Journal<Event>) -> String {
    journal.note(Event::Processing(data.clone()));
    sleep(Duration::from_millis(500)).await;
    format!("Processed {data}")
}

async fn program(journal: &Journal<Event>) {
    // Futures: nothing of them runs yet.
    let futures = (0..3).map(|i| fetch_data(format!("http://example{i}.com"), journal));
    // Runs them side by side in this task; the results come in the order of the futures.
    let results = gather(futures).await;
    let processed = gather(results.into_iter().map(|data| process_data(data, journal))).await;
    processed.into_iter().for_each(|result| journal.note(Event::Processed(result)));
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    program(&Journal::on_terminal()).await;
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Fetching(String),
    Processing(String),
    Processed(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetching(url) => write!(f, "Fetching data from {url}"),
            Self::Processing(data) => write!(f, "Processing {data}"),
            Self::Processed(result) => f.write_str(result),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    /// Each event as (milliseconds, kind, site).
    fn table(journal: &Journal<Event>) -> Vec<(u128, &'static str, usize)> {
        let row = |(at, event): (Duration, Event)| {
            let (kind, text) = match event {
                Event::Fetching(text) => ("fetching", text),
                Event::Processing(text) => ("processing", text),
                Event::Processed(text) => ("processed", text),
            };
            let site = (0..3).find(|i| text.contains(&format!("example{i}."))).unwrap();
            (at.as_millis(), kind, site)
        };
        journal.entries().into_iter().map(row).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn fetches_run_concurrently_and_results_keep_their_order() {
        let begin = Instant::now();
        let journal = Journal::in_memory();
        program(&journal).await;
        assert_eq!(
            table(&journal),
            [
                (0, "fetching", 0),
                (0, "fetching", 1),
                (0, "fetching", 2),
                (1000, "processing", 0),
                (1000, "processing", 1),
                (1000, "processing", 2),
                (1500, "processed", 0),
                (1500, "processed", 1),
                (1500, "processed", 2),
            ]
        );
        assert_eq!(begin.elapsed(), Duration::from_millis(1500));
    }

    #[tokio::test(start_paused = true)]
    async fn futures_end_with_a_dropped_program() {
        let journal = Journal::in_memory();
        assert!(timeout(Duration::from_millis(1200), program(&journal)).await.is_err());
        sleep(Duration::from_secs(3)).await;
        assert_eq!(table(&journal).last(), Some(&(1000, "processing", 2)));
        assert_eq!(motet::task::unscoped(), 0, "futures in a task leave nothing behind");
    }
}
