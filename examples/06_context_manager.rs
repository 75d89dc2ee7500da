// An async context manager: a resource is acquired, used, and released, however the use ends.
// The release runs after a value, an error or a panic, and also if the caller is dropped.
// Run it: cargo run -p motet-examples --example 06_context_manager

use std::io;
use std::time::Duration;

use motet::resource::{Exit, ResourceError, resource};
use tokio::time::sleep;

struct Database {
    name: &'static str,
}

impl Database {
    async fn acquire(name: &'static str) -> io::Result<Self> {
        println!("Acquiring {name}");
        sleep(Duration::from_millis(100)).await;
        Ok(Self { name })
    }

    /// `exit` is how the use ended: a transaction would commit or roll back.
    async fn release(self, exit: Exit) {
        println!("Releasing {} ({exit})", self.name);
        sleep(Duration::from_millis(100)).await;
    }
}

async fn with_database<T>(
    work: impl AsyncFnOnce(&mut Database) -> io::Result<T>,
) -> Result<T, ResourceError<io::Error>> {
    resource(Database::acquire("database")).name("database").release(Database::release).with(work).await
}

async fn use_database() -> Result<(), ResourceError<io::Error>> {
    with_database(async |database| {
        println!("Using {}", database.name);
        sleep(Duration::from_millis(500)).await;
        Ok(())
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ResourceError<io::Error>> {
    let used = use_database().await;
    // Waits for the releases of dropped callers; there are none in this program.
    motet::drain().await;
    used
}
