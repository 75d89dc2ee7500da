// A batch processor: items are collected, and handled three at a time or two seconds after the first one.
// Each caller waits for the result of its own item; an item that fails leaves the rest of its batch intact.
// Run it: cargo run -p motet-examples --example 12_batch_processor

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use motet::batch::Batcher;
use motet::task::{Nursery, Scope, ScopeError, scope};
use tokio::time::sleep;

fn process(item: String) -> io::Result<String> {
    match item.as_str() {
        "item_4" => Err(io::Error::other("rejected")),
        _ => Ok(format!("processed_{item}")),
    }
}

async fn process_batch(batch: Vec<String>) -> Vec<io::Result<String>> {
    println!("Processing batch of {}: {}", batch.len(), batch.join(", "));
    sleep(Duration::from_millis(100)).await;
    batch.into_iter().map(process).collect()
}

fn processor(scope: &Scope) -> Batcher<String, String, io::Error> {
    let builder = Batcher::builder(scope).name("processor").max_items(3).max_delay(Duration::from_secs(2));
    builder.build(process_batch).expect("the settings are valid")
}

async fn ten_items() -> Result<(), ScopeError<Infallible>> {
    scope(async |n: &Nursery<Infallible>| {
        let processor = processor(n);
        for number in 0..10 {
            let processor = processor.clone();
            n.spawn("caller", async move {
                match processor.submit(format!("item_{number}")).await {
                    Ok(result) => println!("Item {number}: {result}"),
                    Err(error) => println!("Item {number}: {error}"),
                }
            });
            sleep(Duration::from_millis(100)).await;
        }
        Ok(()) // the scope waits for the callers, and the last one for its batch
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError<Infallible>> {
    ten_items().await
}
