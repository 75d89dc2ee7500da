// A pool of motet over the PostgreSQL connections of sqlx: copy the manager into your program.
// Run it: DATABASE_URL="postgres://postgres@localhost" cargo run --manifest-path examples/sqlx/Cargo.toml

use std::{convert::Infallible, env};

use motet::pool::{Manager, Pool, Recycle};
use motet::task::{Nursery, ScopeError, scope};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection as _, Error};

struct Postgres(PgConnectOptions);

struct Connection {
    postgres: PgConnection,
    /// A query has begun. It stays so if its future is dropped: the next one would wait for the result of this one.
    is_busy: bool,
}

impl Connection {
    /// Runs queries, or a transaction.
    async fn run<T>(&mut self, queries: impl AsyncFnOnce(&mut PgConnection) -> T) -> T {
        self.is_busy = true;
        let result = queries(&mut self.postgres).await;
        self.is_busy = false;
        result
    }
}

impl Manager for Postgres {
    type Connection = Connection;
    type Error = Error;

    async fn connect(&self) -> Result<Connection, Error> {
        Ok(Connection { postgres: self.0.connect().await?, is_busy: false })
    }

    /// It also notes a connection that the server has closed. A check that is dropped is not to be waited for, either.
    async fn check(&self, connection: &mut Connection) -> Result<(), Error> {
        if connection.is_busy {
            return Err(Error::Protocol("a check of this connection was dropped".to_owned()));
        }
        connection.run(async |postgres| postgres.ping().await).await
    }

    fn recycle(&self, connection: &mut Connection) -> Recycle {
        if connection.is_busy { Recycle::Discard } else { Recycle::Keep }
    }

    async fn close(&self, connection: Connection) {
        // The connection is not used any more, so an error of the close is of no interest.
        drop(match connection.is_busy {
            true => connection.postgres.close_hard().await,
            false => connection.postgres.close().await,
        });
    }
}

async fn with_pool<T>(
    options: PgConnectOptions,
    body: impl AsyncFnOnce(&Pool<Postgres>) -> T,
) -> Result<T, ScopeError> {
    scope(async |n: &Nursery<Infallible>| {
        let pool = Pool::builder(n, Postgres(options)).name("postgres").max(4).build();
        Ok(body(&pool.expect("the settings are valid")).await)
    })
    .await
}

async fn query(pool: &Pool<Postgres>) -> Result<i32, Box<dyn std::error::Error>> {
    let mut connection = pool.acquire().await?;
    Ok(connection.run(async |db| sqlx::query_scalar("select 6 * 7").fetch_one(db).await).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = env::var("DATABASE_URL").unwrap_or_else(|_| "postgres://postgres@localhost".to_owned());
    println!("Six times seven is {}", with_pool(url.parse()?, query).await??);
    motet::drain().await;
    Ok(())
}

#[cfg(test)]
#[path = "../../tests/it/postgres.rs"]
mod postgres;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use motet::task::{gather, timeout};
    use sqlx::Executor as _;

    use super::postgres::Server;
    use super::*;

    fn options(server: &Server) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass().socket(server.directory()).username("postgres")
    }

    async fn pid(pool: &Pool<Postgres>) -> i32 {
        let mut connection = pool.acquire().await.unwrap();
        connection
            .run(async |db| sqlx::query_scalar("select pg_backend_pid()").fetch_one(db).await)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn queries_share_few_connections_that_close_at_the_end() {
        let server = Server::start().await;
        assert_eq!(with_pool(options(&server), query).await.unwrap().unwrap(), 42);
        with_pool(options(&server), async |pool| {
            gather((0..100).map(|_| pid(pool))).await;
            assert!((1..=4).contains(&pool.stats().opened), "{:?}", pool.stats());
        })
        .await
        .unwrap();
        let seen = with_pool(options(&server), async |pool| {
            let count = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
            let mut connection = pool.acquire().await.unwrap();
            loop {
                // The server notes the end of a connection some time after its client.
                let left: i64 =
                    connection.run(async |db| sqlx::query_scalar(count).fetch_one(db).await).await.unwrap();
                if left == 0 {
                    return left;
                }
            }
        });
        assert_eq!(seen.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn dropped_query_costs_its_connection_and_delays_no_caller() {
        let server = Server::start().await;
        with_pool(options(&server), async |pool| {
            let first = pid(pool).await;
            let mut connection = pool.acquire().await.unwrap();
            let endless = connection.run(async |db| db.execute("select pg_sleep(3600)").await.map(drop));
            assert!(timeout(Duration::from_millis(10), endless).await.is_err());
            drop(connection);
            assert_ne!(pid(pool).await, first);
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn transaction_that_is_dropped_is_rolled_back() {
        let server = Server::start().await;
        with_pool(options(&server), async |pool| {
            let mut connection = pool.acquire().await.unwrap();
            connection.run(async |db| db.execute("create table t (n int)").await).await.unwrap();
            let begun = connection.run(async |db| {
                let mut transaction = db.begin().await?;
                transaction.execute("insert into t values (1)").await?;
                Ok::<_, Error>(())
            });
            begun.await.unwrap();
            drop(connection);
            let mut connection = pool.acquire().await.unwrap();
            let count =
                connection.run(async |db| sqlx::query_scalar("select count(*) from t").fetch_one(db).await);
            assert_eq!(count.await.map_err(|error| error.to_string()), Ok(0_i64));
        })
        .await
        .unwrap();
    }
}
