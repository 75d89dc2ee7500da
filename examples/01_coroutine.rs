// A coroutine is a function that waits without holding a thread, and resumes where it stopped.
// Calling an `async fn` makes a future and runs nothing; `await` runs it.
// Run it: cargo run -p motet-examples --example 01_coroutine

use std::time::Duration;

use tokio::time::sleep;

async fn simple_coroutine() -> &'static str {
    println!("Coroutine started");
    sleep(Duration::from_secs(1)).await;
    println!("Coroutine resumed");
    "Coroutine completed"
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let result = simple_coroutine().await;
    println!("Result: {result}");
}
