// A pool of connections to PostgreSQL, with `tokio-postgres`: copy the manager into your program.
// The tasks that move the bytes belong to the scope around the pool, and end when the pool has closed its connections.
// Run it: DATABASE_URL="host=localhost user=postgres" cargo run -p motet-examples --example 14_pool_postgres

use std::{convert::Infallible, env};

use motet::pool::{Manager, Pool, Recycle};
use motet::task::{Nursery, Scope, ScopeError, Task, scope};
use tokio_postgres::{Client, Config, Error, NoTls};

struct Postgres {
    config: Config,
    drivers: Scope,
}

struct Connection {
    client: Client,
    driver: Task<Result<(), Error>>,
}

impl Manager for Postgres {
    type Connection = Connection;
    type Error = Error;

    async fn connect(&self) -> Result<Connection, Error> {
        let (client, connection) = self.config.connect(NoTls).await?;
        let driver = self.drivers.spawn("postgres", connection).expect("it encloses the scope of the pool");
        Ok(Connection { client, driver })
    }

    async fn check(&self, connection: &mut Connection) -> Result<(), Error> {
        connection.client.simple_query("").await.map(drop)
    }

    fn recycle(&self, connection: &mut Connection) -> Recycle {
        if connection.client.is_closed() { Recycle::Discard } else { Recycle::Keep }
    }

    async fn close(&self, connection: Connection) {
        drop(connection.client);
        // The driver sends the goodbye. Its result is of no interest: the connection is not used any more.
        drop(connection.driver.await);
    }
}

async fn with_pool<T>(config: Config, body: impl AsyncFnOnce(&Pool<Postgres>) -> T) -> Result<T, ScopeError> {
    scope(async |drivers: &Nursery<Infallible>| {
        let manager = Postgres { config, drivers: Scope::clone(drivers) };
        let used = scope(async |n: &Nursery<Infallible>| {
            let pool =
                Pool::builder(n, manager).name("postgres").max(4).build().expect("the settings are valid");
            Ok(body(&pool).await)
        });
        Ok(used.await)
    })
    .await?
}

async fn query(pool: &Pool<Postgres>) -> Result<i32, Box<dyn std::error::Error>> {
    Ok(pool.acquire().await?.client.query_one("select 6 * 7", &[]).await?.get(0))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = env::var("DATABASE_URL").unwrap_or_else(|_| "host=localhost user=postgres".to_owned());
    println!("Six times seven is {}", with_pool(url.parse()?, query).await??);
    motet::drain().await;
    Ok(())
}
