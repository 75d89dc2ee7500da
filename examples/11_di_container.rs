// A dependency container: a database, a cache in front of it, and a service, started and stopped in order.
// The argument types of a factory are its dependencies: no names, and no lists beside them.
// Run it: cargo run -p motet-examples --example 11_di_container

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use motet::container::Container;
use motet::task::{Nursery, ScopeError, scope};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The part of the database that others need: a test brings another one.
trait Users: Send + Sync {
    fn find(&self, id: u64) -> Option<String>;
}

struct Database(HashMap<u64, String>);

impl Database {
    async fn open() -> io::Result<Self> {
        println!("Opening the database");
        Ok(Self(HashMap::from([(1, "Alice".to_owned()), (2, "Bob".to_owned())])))
    }
}

impl Users for Database {
    fn find(&self, id: u64) -> Option<String> {
        println!("Querying the database for user {id}");
        self.0.get(&id).cloned()
    }
}

struct Cache(Arc<dyn Users>, Mutex<HashMap<u64, Option<String>>>);

struct UserService(Arc<Cache>);

impl UserService {
    fn greet(&self, id: u64) -> String {
        let Cache(users, known) = &*self.0;
        let mut known = known.lock().expect("no holder panics");
        let name = known.entry(id).or_insert_with(|| users.find(id));
        format!("Hello, {}", name.as_deref().unwrap_or("stranger"))
    }
}

fn container() -> Container {
    let mut c = Container::new();
    c.provide(|cache: Arc<Cache>| async move { UserService(cache) });
    c.provide(|users: Arc<dyn Users>| async move { Cache(users, Mutex::default()) })
        .on_stop(|_| async { println!("Closing the cache") });
    c.try_provide(Database::open)
        .on_stop(|_| async { println!("Closing the database") })
        .bind::<dyn Users>(|database| database);
    c
}

async fn greetings() -> Result<(), ScopeError<Error>> {
    scope(async |n: &Nursery<Error>| {
        let running = container().start(n).await?;
        let service = running.get::<UserService>()?;
        for id in [1, 2, 1, 3] {
            println!("{}", service.greet(id));
        }
        println!("Health: {}", running.health().await.health());
        Ok(())
    })
    .await
}

#[tokio::main]
async fn main() -> Result<(), ScopeError<Error>> {
    greetings().await
}
