// A service that is tested without its network: its client is a trait, and the test brings a mock.
// This program runs the service; its tests are in `examples/tests/it/testing.rs`.
// Run it: cargo run -p motet-examples --example 17_testing

use std::time::Duration;

use motet::task::gather;
use tokio::time::sleep;

/// The part of an API client that the service uses.
trait ApiClient {
    async fn get(&self, path: String) -> Result<User, NotFound>;
}

#[derive(Debug, Clone, PartialEq)]
struct User {
    id: u64,
    name: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
struct NotFound(String);

struct AsyncService<C> {
    client: C,
}

impl<C: ApiClient> AsyncService<C> {
    async fn user_data(&self, id: u64) -> Result<User, NotFound> {
        self.client.get(format!("/users/{id}")).await
    }

    /// Fetches all users concurrently, with a result for each, in the order of the ids.
    async fn process_users(&self, ids: &[u64]) -> Vec<Result<User, NotFound>> {
        gather(ids.iter().map(|&id| self.user_data(id))).await
    }
}

/// A client that knows two users.
struct Directory;

impl ApiClient for Directory {
    async fn get(&self, path: String) -> Result<User, NotFound> {
        sleep(Duration::from_millis(100)).await;
        match path.as_str() {
            "/users/1" => Ok(User { id: 1, name: "Alice" }),
            "/users/2" => Ok(User { id: 2, name: "Bob" }),
            _ => Err(NotFound(path)),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for result in (AsyncService { client: Directory }).process_users(&[1, 2, 3]).await {
        match result {
            Ok(user) => println!("User {} is {}", user.id, user.name),
            Err(error) => println!("Error: {error:?}"),
        }
    }
}
