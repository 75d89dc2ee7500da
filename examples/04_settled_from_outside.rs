// A future that is set from outside and awaited by several tasks: Python's `loop.create_future()`.
// A oneshot channel is the future; `shared` lets many tasks wait for it.
// Run it: cargo run -p motet-examples --example 04_settled_from_outside

use std::convert::Infallible;
use std::time::Duration;

use motet::task::{Nursery, ScopeError, SharedTask, scope};
use tokio::sync::oneshot;
use tokio::time::sleep;

/// A task that waits for the value. The inner error means that the sender was dropped.
type Answer = SharedTask<Result<u32, oneshot::error::RecvError>>;

async fn waiter(number: u32, answer: Answer) {
    println!("Waiter {number} waits");
    match &*answer.await {
        Ok(Ok(value)) => println!("Waiter {number} received {value}"),
        Ok(Err(_)) | Err(_) => println!("Waiter {number} received no value"),
    }
}

async fn four_waiters(set: impl AsyncFnOnce(oneshot::Sender<u32>)) -> Result<(), ScopeError<Infallible>> {
    scope(async |n: &Nursery<Infallible>| {
        let (sender, receiver) = oneshot::channel();
        let answer = n.spawn("answer", receiver).shared();
        for number in 1..=3 {
            n.spawn("waiter", waiter(number, answer.clone()));
        }
        set(sender).await;
        // The value is there already: this waiter does not wait.
        waiter(4, answer).await;
        Ok(())
    })
    .await
}

async fn set_after_a_second(sender: oneshot::Sender<u32>) {
    sleep(Duration::from_secs(1)).await;
    // An error means that all receivers are gone.
    let _ = sender.send(42);
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError<Infallible>> {
    four_waiters(set_after_a_second).await
}
