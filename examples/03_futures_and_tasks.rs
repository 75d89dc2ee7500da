// Several operations at once, twice: fetch all pages, then process all of them.
// `gather` runs futures concurrently in this task, and returns their results in order.
// Run it: cargo run -p motet-examples --example 03_futures_and_tasks

use std::time::Duration;

use motet::task::gather;
use tokio::time::sleep;

async fn fetch_data(url: String) -> String {
    println!("Fetching data from {url}");
    sleep(Duration::from_secs(1)).await;
    format!("Data from {url}")
}

async fn process_data(data: String) -> String {
    println!("Processing {data}");
    sleep(Duration::from_millis(500)).await;
    format!("Processed {data}")
}

async fn fetch_and_process() {
    let futures = (0..3).map(|i| fetch_data(format!("http://example{i}.com")));
    let pages = gather(futures).await;
    for result in gather(pages.into_iter().map(process_data)).await {
        println!("{result}");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    fetch_and_process().await;
}
