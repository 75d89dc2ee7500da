// Retry and circuit breaker, around an operation that fails seven times in ten.
// The breaker sees each attempt, and opens for five seconds after three failures in a row.
// Run it: cargo run -p motet-examples --example 16_retry_and_breaker

use std::io;
use std::time::Duration;

use motet::resilience::{
    CircuitBreaker, Error, Pipeline, PolicyConfigError, PolicyEvent, PolicyEventKind, Retry, StateChange,
};
use motet::{Backoff, rng};

async fn unreliable_operation() -> io::Result<&'static str> {
    if rng::with(|rng| rng.unit()) < 0.7 { Err(io::Error::other("random failure")) } else { Ok("Success") }
}

fn circuit_breaker() -> Result<CircuitBreaker, PolicyConfigError> {
    CircuitBreaker::builder()
        .consecutive_failures(3)
        .open_for(Backoff::constant(Duration::from_secs(5)))
        .on_change(|change: &StateChange| println!("The circuit breaker is {}", change.to))
        .build()
}

fn print_event(event: &PolicyEvent<'_>) {
    match event.kind {
        PolicyEventKind::RetryScheduled { delay, .. } => {
            println!("Attempt {} failed, retrying in {delay:.1?}...", event.attempts);
        }
        PolicyEventKind::GaveUp { .. } => println!("All {} attempts failed", event.attempts),
        _ => {}
    }
}

async fn call(
    breaker: &CircuitBreaker,
    operation: impl AsyncFn() -> io::Result<&'static str>,
) -> Result<&'static str, Error<io::Error>> {
    let backoff =
        Backoff::exponential(Duration::from_secs(1), Duration::from_secs(20)).expect("1 s is below 20 s");
    let pipeline = Pipeline::new()
        .on_event(print_event)
        .retry(Retry::new().attempts(3).expect("3 is at least 1").backoff(backoff))
        .breaker(breaker.clone());
    pipeline.run(|| operation()).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), PolicyConfigError> {
    match call(&circuit_breaker()?, unreliable_operation).await {
        Ok(result) => println!("Result: {result}"),
        Err(error) => println!("Final error: {error}"),
    }
    Ok(())
}
