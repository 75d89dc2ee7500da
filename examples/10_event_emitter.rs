// An event emitter: a service reports events, and does not know the listeners.
// Listeners run concurrently; a listener that fails or hangs affects neither the others nor the service.
// Run it: cargo run -p motet-examples --example 10_event_emitter

use std::sync::Arc;
use std::time::Duration;

use motet::event::{Emitter, Event, Subscription};
use motet::task::{Nursery, ScopeError, scope};
use tokio::time::sleep;

struct UserCreated {
    name: &'static str,
    email: &'static str,
}

impl Event for UserCreated {
    const NAME: &'static str = "user.created";
}

async fn create_user(emitter: &Emitter, name: &'static str, email: &'static str) {
    println!("Creating user: {name}");
    sleep(Duration::from_millis(100)).await;
    let emitted = emitter.emit(UserCreated { name, email }).await.expect("the emitter is open");
    for failed in emitted.failed() {
        println!("{failed}");
    }
    println!("User created: {name}");
}

async fn send_welcome_email(user: Arc<UserCreated>) -> Result<(), &'static str> {
    println!("Sending welcome email to {}", user.email);
    sleep(Duration::from_millis(200)).await;
    if !user.email.contains('@') {
        return Err("the address has no @");
    }
    println!("Welcome email sent to {}", user.email);
    Ok(())
}

async fn log_user_activity(user: Arc<UserCreated>) {
    sleep(Duration::from_millis(100)).await;
    println!("Activity logged for {}", user.name);
}

/// A listener is removed when its subscription is dropped.
fn listen(emitter: &Emitter) -> [Subscription; 3] {
    [
        emitter.on_async("welcome email", send_welcome_email).expect("the emitter is open"),
        emitter.on_async("activity log", log_user_activity).expect("the emitter is open"),
        emitter.on("console", |user: &UserCreated| println!("New user {}", user.name)).expect("it is open"),
    ]
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError> {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let _subscriptions = listen(&emitter);
        create_user(&emitter, "Alice", "alice@example.com").await;
        Ok(())
    })
    .await
}
