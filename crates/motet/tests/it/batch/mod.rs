//! Tests of batchers and loaders: the answers, the time at which a batch runs, and the items that are left when it ends.

mod ending;
mod failing;
mod forming;
mod loading;
mod waiting;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::batch::{Batcher, BatcherBuilder};
use motet::task::{Nursery, scope};
use tokio::time::{Instant, sleep};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const HOUR: Duration = Duration::from_secs(3600);

/// The items that the handler got, batch by batch, with the time.
#[derive(Clone)]
struct Batches(Arc<Mutex<Vec<Noted>>>, Instant);

type Noted = (Duration, Vec<u32>);

impl Batches {
    fn new() -> Self {
        Self(Arc::default(), Instant::now())
    }

    fn note(&self, items: &[u32]) {
        self.0.lock().unwrap().push((self.1.elapsed(), items.to_vec()));
    }

    fn seen(&self) -> Vec<Vec<u32>> {
        self.0.lock().unwrap().iter().map(|batch| batch.1.clone()).collect()
    }

    fn times(&self) -> Vec<u128> {
        self.0.lock().unwrap().iter().map(|batch| batch.0.as_millis()).collect()
    }
}

/// Answers each item with ten times its value, after `time`.
fn tenfold(builder: BatcherBuilder<u32>, batches: &Batches, time: u64) -> Batcher<u32, u32, &'static str> {
    let batches = batches.clone();
    let handler = move |items: Vec<u32>| {
        batches.note(&items);
        async move {
            sleep(ms(time)).await;
            items.into_iter().map(|item| Ok(item * 10)).collect::<Vec<_>>()
        }
    };
    builder.build(handler).unwrap()
}

/// Runs a body in a scope in which no task fails.
async fn within(body: impl AsyncFnOnce(&Nursery)) {
    scope(async |n: &Nursery| {
        body(n).await;
        Ok(())
    })
    .await
    .unwrap();
}

fn submit(n: &Nursery, batcher: &Batcher<u32, u32, &'static str>, item: u32) -> motet::task::Task<String> {
    let batcher = batcher.clone();
    n.spawn("caller", async move {
        match batcher.submit(item).await {
            Ok(answer) => answer.to_string(),
            Err(error) => format!("{error:?}"),
        }
    })
}
