// Middleware: plain async functions around a handler, for every request.
// Authentication changes the type of the request, so the handler cannot be called without a user.
// Run it: cargo run -p motet-examples --example 09_middleware

use std::time::Duration;

use motet::middleware::{CallEnd, Chain, Handler, Next, timeout, watch};
use tokio::time::sleep;

#[derive(Debug)]
struct Request {
    id: u32,
    authenticated: bool,
}

/// A request of a known user. Only [`authenticate`] makes one.
struct Authenticated(Request);

type Answer = Result<String, Box<dyn std::error::Error + Send + Sync>>;

async fn log(request: Request, next: Next<Request, Answer>) -> Answer {
    println!("Request {} started", request.id);
    next.run(request).await
}

/// Also called for a request whose caller is dropped.
fn log_end(end: CallEnd<'_, Answer>, _took: Duration) {
    match end {
        CallEnd::Answered(Ok(_)) => println!("Request completed"),
        CallEnd::Answered(Err(error)) => println!("Request failed: {error}"),
        CallEnd::Dropped | CallEnd::Panicked => println!("Request dropped by its caller"),
    }
}

async fn authenticate(request: Request, next: Next<Authenticated, Answer>) -> Answer {
    if !request.authenticated {
        return Err("unauthorized".into());
    }
    next.run(Authenticated(request)).await
}

async fn business_logic(Authenticated(request): Authenticated) -> Answer {
    sleep(Duration::from_millis(100)).await;
    Ok(format!("Processed: request {}", request.id))
}

/// The first part is outermost.
fn application(limit: Duration) -> Handler<Request, Answer> {
    Chain::new().with(log).with(watch(log_end)).with(timeout(limit)).adapt(authenticate).to(business_logic)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let application = application(Duration::from_secs(1));
    for (id, authenticated) in [(1, true), (2, false)] {
        match application.call(Request { id, authenticated }).await {
            Ok(answer) => println!("Final result: {answer}"),
            Err(error) => println!("Error: {error}"),
        }
    }
}
