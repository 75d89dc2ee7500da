// Two tasks on one thread: while one task waits, the event loop runs the other one.
// The scope owns both tasks, and returns when both have ended.
// Run it: cargo run -p motet-examples --example 02_event_loop

use std::time::Duration;

use motet::task::{Nursery, ScopeError, TaskError, scope};
use tokio::time::sleep;

async fn task(number: u32, duration: Duration) {
    println!("Task {number} started");
    sleep(duration).await;
    println!("Task {number} completed");
}

async fn two_tasks() -> Result<(), ScopeError<TaskError>> {
    scope(async |n: &Nursery<TaskError>| {
        let task1 = n.spawn("task 1", task(1, Duration::from_secs(1)));
        let task2 = n.spawn("task 2", task(2, Duration::from_secs(2)));
        task1.await?;
        task2.await
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError<TaskError>> {
    two_tasks().await
}
