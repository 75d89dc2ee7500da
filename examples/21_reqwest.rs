// Policies around the client of another library: reqwest, with a deadline, a retry and a circuit breaker.
// Run it: URL=http://localhost:8080 cargo run -p motet-examples --example 21_reqwest

use std::env;
use std::time::Duration;

use motet::resilience::{CircuitBreaker, Class, Error, Pipeline, Retry};
use reqwest::Client;

/// A 404 is the answer of a server that is well, to a mistake of the caller.
fn class(outcome: Result<&String, &reqwest::Error>) -> Class {
    match outcome {
        Ok(_) => Class::success(),
        Err(error) if error.status().is_some_and(|status| status.is_client_error()) => Class::ignore(),
        Err(_) => Class::retry(),
    }
}

async fn fetch(
    client: &Client,
    breaker: &CircuitBreaker,
    url: &str,
) -> Result<String, Error<reqwest::Error>> {
    let policies = Pipeline::new()
        .classify_by(class)
        .timeout(Duration::from_secs(10))
        .retry(Retry::new())
        .breaker(breaker.clone())
        .timeout(Duration::from_secs(2));
    let get = async || client.get(url).send().await?.error_for_status()?.text().await;
    policies.run(get).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = env::var("URL").unwrap_or_else(|_| "http://localhost:8080".to_owned());
    let breaker = CircuitBreaker::builder().name(url.clone()).build()?;
    println!("{}", fetch(&Client::new(), &breaker, &url).await?);
    Ok(())
}
