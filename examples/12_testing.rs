//! A service that is tested without its network: its client is a trait, and the test brings a mock.
//!
//! `cargo run -p motet-examples --example 12_testing` runs the service; what this example is about are its tests:
//! `cargo test -p motet-examples --example 12_testing`.

use std::fmt;
use std::time::Duration;

use motet::task::gather;
use motet_examples::Journal;
use tokio::time::sleep;

/// What the service needs of an API client.
trait ApiClient {
    async fn get(&self, path: String) -> Result<User, ApiError>;
}

#[derive(Debug, Clone, PartialEq)]
struct User {
    id: u64,
    name: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
enum ApiError {
    NotFound(String),
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(path) => write!(f, "there is no {path}"),
        }
    }
}

struct AsyncService<C> {
    client: C,
}

impl<C: ApiClient> AsyncService<C> {
    fn new(client: C) -> Self {
        Self { client }
    }

    async fn user_data(&self, id: u64) -> Result<User, ApiError> {
        self.client.get(format!("/users/{id}")).await
    }

    /// Asks for all at once. Each has a result, in the order of the ids: one that fails harms no other.
    async fn process_users(&self, ids: &[u64]) -> Vec<Result<User, ApiError>> {
        gather(ids.iter().map(|&id| self.user_data(id))).await
    }
}

/// A client that knows two users.
struct Directory;

impl ApiClient for Directory {
    async fn get(&self, path: String) -> Result<User, ApiError> {
        sleep(Duration::from_millis(100)).await;
        match path.as_str() {
            "/users/1" => Ok(User { id: 1, name: "Alice" }),
            "/users/2" => Ok(User { id: 2, name: "Bob" }),
            _ => Err(ApiError::NotFound(path)),
        }
    }
}

async fn program(client: impl ApiClient, journal: &Journal<Event>) {
    for result in AsyncService::new(client).process_users(&[1, 2, 3]).await {
        journal.note(match result {
            Ok(user) => Event::Found(user),
            Err(error) => Event::Missing(error),
        });
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    program(Directory, &Journal::on_terminal()).await;
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Found(User),
    Missing(ApiError),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(User { id, name }) => write!(f, "User {id} is {name}"),
            Self::Missing(why) => write!(f, "A user is missing: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use motet_testkit::mock::{after, call, err, ok};
    use motet_testkit::{MockFn, sim};
    use tokio::time::Instant;

    use super::*;

    /// The mock is the client: what it is called with is what the service asked for.
    type MockClient = MockFn<(String,), Result<User, ApiError>>;

    impl ApiClient for MockClient {
        async fn get(&self, path: String) -> Result<User, ApiError> {
            self.call((path,)).await
        }
    }

    const ALICE: User = User { id: 1, name: "Alice" };
    const BOB: User = User { id: 2, name: "Bob" };
    const DELAY: Duration = Duration::from_millis(100);

    fn paths(ids: impl IntoIterator<Item = u64>) -> Vec<(String,)> {
        ids.into_iter().map(|id| (format!("/users/{id}"),)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn user_is_fetched_once_from_its_path() {
        let get = MockClient::new("get");
        get.script([ok(ALICE)]);
        assert_eq!(AsyncService::new(get.clone()).user_data(1).await, Ok(ALICE));
        get.assert_called_with(&paths([1]));
    }

    #[tokio::test(start_paused = true)]
    async fn failed_user_leaves_the_others_intact() {
        let get = MockClient::new("get");
        let not_found = ApiError::NotFound("/users/3".into());
        get.script([ok(ALICE), err(not_found.clone()), ok(BOB)]);
        let results = AsyncService::new(get.clone()).process_users(&[1, 3, 2]).await;
        assert_eq!(results, [Ok(ALICE), Err(not_found), Ok(BOB)]);
        get.assert_called_with(&paths([1, 3, 2]));
    }

    #[tokio::test(start_paused = true)]
    async fn users_are_fetched_concurrently() {
        let begin = Instant::now();
        let get = MockClient::new("get");
        get.script([after(DELAY, ok(ALICE))]).then_repeat_last();
        let ids: Vec<_> = (0..100).collect();
        assert_eq!(AsyncService::new(get.clone()).process_users(&ids).await.len(), 100);
        get.assert_max_concurrent(100);
        assert_eq!(begin.elapsed(), DELAY);
    }

    #[test]
    fn results_keep_the_order_of_the_ids_in_any_order_of_answers() {
        sim(|| async {
            let get = MockClient::new("get");
            // The later it is asked, the sooner it answers.
            get.script([3, 2, 1].map(|delays| {
                after(DELAY * delays, call(async |(path,): (String,)| Directory.get(path).await))
            }));
            let journal = Journal::in_memory();
            program(get.clone(), &journal).await;
            let not_found = ApiError::NotFound("/users/3".into());
            assert_eq!(journal.events(), [Event::Found(ALICE), Event::Found(BOB), Event::Missing(not_found)]);
            get.assert_called_with(&paths([1, 2, 3]));
        })
        .run();
    }
}
