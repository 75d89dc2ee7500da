//! A dependency container: a database, a cache before it, and a service that uses both, started and stopped in order.
//!
//! `cargo run -p motet-examples --example 08_di_container`

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use motet::container::Container;
use motet::task::{Nursery, ScopeError, scope};
use motet_examples::Journal;
use rusqlite::{Connection, OptionalExtension};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What the service needs of a database: a test may bring another.
trait Users: Send + Sync {
    fn find(&self, id: u64) -> Result<Option<String>, rusqlite::Error>;
}

/// SQLite, in memory. A connection is for one thread at a time.
struct Database {
    connection: Mutex<Connection>,
    journal: Journal<Event>,
}

impl Database {
    async fn open(journal: Arc<Journal<Event>>) -> Result<Self, rusqlite::Error> {
        journal.note(Event::Opened("database"));
        Ok(Self { connection: Mutex::new(Connection::open_in_memory()?), journal: Journal::clone(&journal) })
    }

    /// The second phase: the connection is there, and before anybody uses it the schema is.
    async fn migrate(&self) -> Result<(), rusqlite::Error> {
        self.journal.note(Event::Migrated);
        self.connection().execute_batch(
            "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
             INSERT INTO users VALUES (1, 'Alice'), (2, 'Bob');",
        )
    }

    async fn is_healthy(&self) -> Result<(), rusqlite::Error> {
        self.connection().query_row("SELECT 1", [], |_| Ok(()))
    }

    fn connection(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users for Database {
    fn find(&self, id: u64) -> Result<Option<String>, rusqlite::Error> {
        self.journal.note(Event::Queried(id));
        let id = i64::try_from(id).unwrap_or(i64::MAX);
        self.connection().query_row("SELECT name FROM users WHERE id = ?1", [id], |row| row.get(0)).optional()
    }
}

/// Remembers what the database said.
struct Cache {
    users: Arc<dyn Users>,
    known: Mutex<HashMap<u64, Option<String>>>,
}

impl Cache {
    fn new(users: Arc<dyn Users>) -> Self {
        Self { users, known: Mutex::default() }
    }

    fn find(&self, id: u64) -> Result<Option<String>, rusqlite::Error> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&id) {
            return Ok(found.clone());
        }
        let found = self.users.find(id)?;
        known.insert(id, found.clone());
        Ok(found)
    }
}

struct UserService {
    cache: Arc<Cache>,
}

impl UserService {
    fn greet(&self, id: u64) -> Result<String, rusqlite::Error> {
        Ok(match self.cache.find(id)? {
            Some(name) => format!("Hello, {name}"),
            None => "Hello, whoever you are".to_owned(),
        })
    }
}

/// Who needs whom is in the arguments: no names, no lists of dependencies beside them.
fn container(journal: &Journal<Event>) -> Container {
    let closed = |what| {
        let journal = journal.clone();
        move || {
            journal.note(Event::Closed(what));
            std::future::ready(())
        }
    };
    let (of_database, of_cache) = (closed("database"), closed("cache"));
    let mut c = Container::new();
    c.named("users");
    c.value(journal.clone());
    c.provide(|cache: Arc<Cache>| async move { UserService { cache } });
    c.provide(|users: Arc<dyn Users>, journal: Arc<Journal<Event>>| async move {
        journal.note(Event::Opened("cache"));
        Cache::new(users)
    })
    .on_stop(move |_| of_cache());
    c.try_provide(Database::open)
        .on_start(|database| async move { database.migrate().await })
        .on_stop(move |_| of_database())
        .health(|database| async move { database.is_healthy().await })
        .bind::<dyn Users>(|database| database);
    c
}

async fn program(journal: &Journal<Event>) -> Result<(), ScopeError<Error>> {
    scope(async |n: &Nursery<Error>| {
        let running = container(journal).start(n).await?;
        let service = running.get::<UserService>().expect("it was started");
        for id in [1, 2, 1, 3] {
            journal.note(Event::Greeted(service.greet(id)?));
        }
        journal.note(Event::Health(running.health().await.health().to_string()));
        Ok(())
    })
    .await
}

#[tokio::main]
async fn main() -> Result<(), ScopeError<Error>> {
    let done = program(&Journal::on_terminal()).await;
    motet::drain().await;
    done
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Opened(&'static str),
    Migrated,
    Queried(u64),
    Greeted(String),
    Health(String),
    Closed(&'static str),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened(what) => write!(f, "Opening the {what}"),
            Self::Migrated => f.write_str("Creating the table"),
            Self::Queried(id) => write!(f, "Asking the database for user {id}"),
            Self::Greeted(words) => f.write_str(words),
            Self::Health(health) => write!(f, "All of it is {health}"),
            Self::Closed(what) => write!(f, "Closing the {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use motet::container::{Problem, StartFailed};
    use motet::task::gather;
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn components_start_before_use_and_stop_in_reverse_order() {
        let journal = Journal::in_memory();
        program(&journal).await.unwrap();
        let greeted = |name: &str| Event::Greeted(format!("Hello, {name}"));
        assert_eq!(
            journal.events(),
            [
                Event::Opened("database"),
                Event::Migrated,
                Event::Opened("cache"),
                Event::Queried(1),
                greeted("Alice"),
                Event::Queried(2),
                greeted("Bob"),
                greeted("Alice"),
                Event::Queried(3),
                greeted("whoever you are"),
                Event::Health("healthy".into()),
                Event::Closed("cache"),
                Event::Closed("database"),
            ]
        );
    }

    /// The origin's first `get` started everything, which called `get`, without end.
    #[tokio::test(start_paused = true)]
    async fn get_starts_nothing() {
        let journal = Journal::in_memory();
        scope(async |n: &Nursery<Error>| {
            let running = container(&journal).start(n).await?;
            let before = journal.events();
            assert!(running.get::<UserService>().is_ok() && running.get::<dyn Users>().is_ok());
            assert_eq!(journal.events(), before);
            Ok(())
        })
        .await
        .unwrap();
    }

    /// The origin found out when the stack was full.
    #[tokio::test]
    async fn cycle_is_found_before_anything_starts() {
        let journal = Journal::in_memory();
        let mut c = container(&journal);
        // The database asks the service whose database it is.
        c.overrides(|c| {
            let open = |_: Arc<UserService>, journal: Arc<Journal<Event>>| Database::open(journal);
            c.try_provide(open).bind::<dyn Users>(|database| database);
        });
        let failed = c.check().unwrap_err();
        let [Problem::Cycle(circle)] = failed.problems() else { panic!("{failed}") };
        let mut names: Vec<_> = circle.iter().map(|place| place.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["Cache", "Database", "UserService"]);
        assert!(circle.iter().all(|place| place.site.file() == file!()));
        assert_eq!(journal.events(), []);
    }

    /// In the origin two first calls at once each built their own.
    #[tokio::test(start_paused = true)]
    async fn concurrent_first_gets_share_one_instance() {
        let made = Arc::new(Mutex::new(0));
        let count = Arc::clone(&made);
        scope(async |n: &Nursery<Error>| {
            let mut c = Container::new();
            c.provide_scoped(move || async move {
                sleep(Duration::from_millis(100)).await;
                *count.lock().unwrap() += 1;
                7_u32
            });
            let scoped = c.start(n).await?.within(n).unwrap();
            let all = gather((0..10).map(|_| scoped.get::<u32>())).await;
            let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
            assert!(all.iter().all(|one| Arc::ptr_eq(one, &all[0])));
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(*made.lock().unwrap(), 1);
    }

    /// The origin began with one when the one before was done.
    #[tokio::test(start_paused = true)]
    async fn independent_components_start_concurrently() {
        struct Mail;
        struct Metrics;
        let begin = Instant::now();
        scope(async |n: &Nursery<Error>| {
            let mut c = Container::new();
            let slow = || sleep(Duration::from_millis(100));
            c.provide(move || async move {
                slow().await;
                Mail
            });
            c.provide(move || async move {
                slow().await;
                Metrics
            });
            drop(c.start(n).await?);
            assert_eq!(begin.elapsed(), Duration::from_millis(100));
            Ok(())
        })
        .await
        .unwrap();
    }

    /// The origin stopped nothing, whatever failed.
    #[tokio::test(start_paused = true)]
    async fn failed_start_stops_what_has_started() {
        struct Broken;
        let journal = Journal::in_memory();
        let failed = scope(async |n: &Nursery<Error>| {
            let mut c = container(&journal);
            c.try_provide(|_: Arc<UserService>| async { Err::<Broken, _>("port in use") });
            drop(c.start(n).await?);
            Ok(())
        })
        .await
        .unwrap_err();
        let failed = failed.into_error().unwrap();
        let Some(StartFailed::Build { first, .. }) = failed.downcast_ref() else { panic!("{failed}") };
        assert_eq!(first.component(), "Broken");
        assert_eq!(journal.events()[3..], [Event::Closed("cache"), Event::Closed("database")]);
    }

    #[tokio::test(start_paused = true)]
    async fn override_keeps_the_original_from_starting() {
        struct Nobody;
        impl Users for Nobody {
            fn find(&self, _: u64) -> Result<Option<String>, rusqlite::Error> {
                Ok(None)
            }
        }
        let journal = Journal::in_memory();
        scope(async |n: &Nursery<Error>| {
            let mut c = container(&journal);
            c.overrides(|c| {
                c.shared::<dyn Users>(Arc::new(Nobody));
            });
            let running = c.start(n).await?;
            assert_eq!(running.get::<UserService>().unwrap().greet(1)?, "Hello, whoever you are");
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(journal.events(), [Event::Opened("cache"), Event::Closed("cache")]);
    }
}
