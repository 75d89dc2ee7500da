//! A pool of connections to PostgreSQL, with `tokio-postgres`: take over what is between the lines.
//!
//! `DATABASE_URL="host=localhost user=postgres" cargo run -p motet-examples --example 10_pool_postgres`
//!
//! Its tests start a server of their own, from the Debian package `postgresql`.

use std::convert::Infallible;
use std::env;
use std::process::ExitCode;
use std::str::FromStr;

use motet::pool::{Manager, Pool, Recycle};
use motet::task::{Nursery, Scope, ScopeError, Task, scope};
use motet_examples::Journal;
use tokio_postgres::{Client, Config, Error, NoTls};

// ---- from here
/// Connects to one database.
struct Postgres {
    config: Config,
    /// Where the tasks run that move the bytes. The scope around that of the pool: it waits for them, and they end by
    /// themselves when the pool has closed its connections, with all that is to be said sent.
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
        // Without the scope of the drivers there is no pool either.
        let driver = self.drivers.spawn("postgres", connection).expect("it is around the scope of the pool");
        Ok(Connection { client, driver })
    }

    async fn check(&self, connection: &mut Connection) -> Result<(), Error> {
        // An exchange that is cut off is finished by the driver, so nothing of it is left for the next.
        connection.client.simple_query("").await.map(drop)
    }

    fn recycle(&self, connection: &mut Connection) -> Recycle {
        if connection.client.is_closed() { Recycle::Discard } else { Recycle::Keep }
    }

    async fn close(&self, connection: Connection) {
        drop(connection.client);
        // It says goodbye. How a connection ends that nobody uses any more is of no interest.
        drop(connection.driver.await);
    }
}
// ---- to here

/// Runs a body with a pool.
async fn with_pool<T>(
    config: Config,
    body: impl AsyncFnOnce(&Nursery<Infallible>, &Pool<Postgres>) -> T,
) -> Result<T, ScopeError> {
    scope(async |drivers: &Nursery<Infallible>| {
        let manager = Postgres { config, drivers: Scope::clone(drivers) };
        let used = scope(async |n: &Nursery<Infallible>| {
            let pool = Pool::builder(n, manager).named("postgres").max(4).build().expect("four is a number");
            Ok(body(n, &pool).await)
        });
        // It fails only if a connection was held outside of it, and then it says so.
        Ok(used.await)
    })
    .await?
}

async fn program(config: Config, journal: &Journal<String>) -> Result<(), ScopeError> {
    with_pool(config, async |_, pool| {
        let connection = match pool.acquire().await {
            Ok(connection) => connection,
            Err(error) => {
                let causes =
                    std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
                return journal.note(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "));
            }
        };
        match connection.client.query_one("select 6 * 7", &[]).await {
            Ok(row) => journal.note(format!("six times seven is {}", row.get::<_, i32>(0))),
            Err(error) => journal.note(format!("the query failed: {error}")),
        }
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let journal = Journal::on_terminal();
    let url = env::var("DATABASE_URL").unwrap_or_else(|_| "host=localhost user=postgres".to_owned());
    let done = match Config::from_str(&url) {
        Ok(config) => program(config, &journal).await.is_ok(),
        Err(error) => {
            journal.note(format!("DATABASE_URL cannot be read: {error}"));
            false
        }
    };
    motet::drain().await;
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    //! In real time, since the server is real; nothing here depends on how long anything takes.

    use std::os::unix::fs::chown;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::time::Duration;
    use std::{fs, iter};

    use motet::pool::{AcquireError, Pooled};
    use motet::task::{drain, gather, timeout};
    use tempfile::TempDir;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::process::Child;

    use super::*;

    /// The user that the server runs as where the tests run as root, as which it refuses to: `nobody`.
    const NOBODY: u32 = 65_534;

    /// A server of its own, on a socket in a directory of its own.
    struct Server {
        directory: TempDir,
        running: Child,
    }

    impl Server {
        async fn start() -> Self {
            let directory = tempfile::tempdir().unwrap();
            if is_root(directory.path()) {
                chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            }
            let data = directory.path().join("data");
            let mut init = command("initdb", directory.path());
            init.args([
                "--auth=trust",
                "--no-sync",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "-D",
            ]);
            let made = init.arg(&data).stdout(Stdio::null()).status().unwrap();
            assert!(made.success(), "initdb: {made}");
            let running = Self::run(directory.path()).await;
            Self { directory, running }
        }

        async fn run(directory: &Path) -> Child {
            let mut serve = tokio::process::Command::from(command("postgres", directory));
            serve.arg("-D").arg(directory.join("data")).arg("-k").arg(directory);
            serve.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "log_min_messages=log"]);
            let mut running = serve.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
            let mut log = BufReader::new(running.stderr.take().unwrap()).lines();
            let mut said = Vec::new();
            loop {
                let Some(line) = log.next_line().await.unwrap() else {
                    panic!("it does not start: {said:#?}")
                };
                if line.contains("ready to accept connections") {
                    break;
                }
                said.push(line);
            }
            // Read on, so that the server never waits for somebody to read what it says.
            motet::task::detach(
                "server's log",
                async move { while let Ok(Some(_)) = log.next_line().await {} },
            );
            running
        }

        async fn stop(&mut self) {
            self.running.kill().await.unwrap();
            // Those that served the connections notice in their own time; a new server waits for them by itself.
            drop(fs::remove_file(self.directory.path().join("data/postmaster.pid")));
        }

        async fn restart(&mut self) {
            self.running = Self::run(self.directory.path()).await;
        }

        fn config(&self) -> Config {
            let mut config = Config::new();
            config.host_path(self.directory.path()).user("postgres").application_name("example");
            config
        }

        /// How many connections the server sees, as one who is not in the pool.
        async fn connections(&self) -> i64 {
            let mut config = self.config();
            let counts = with_pool(config.application_name("counts").clone(), async |_, pool| {
                let connection = pool.acquire().await.unwrap();
                let count = "select count(*) from pg_stat_activity where application_name = 'example'";
                connection.client.query_one(count, &[]).await.unwrap().get(0)
            });
            counts.await.unwrap()
        }
    }

    fn is_root(made_here: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(made_here).unwrap().uid() == 0
    }

    /// A program of PostgreSQL: from the path, or from where Debian has it.
    fn command(program: &str, directory: &Path) -> Command {
        use std::os::unix::process::CommandExt;
        let in_path = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let of_debian = versions.map(|version| version.path().join("bin"));
        let found: Option<PathBuf> =
            in_path.into_iter().chain(of_debian).map(|at| at.join(program)).find(|at| at.is_file());
        let found = found.unwrap_or_else(|| panic!("there is no {program}: apt-get install postgresql"));
        // Where a link leads: the programs look for each other beside them.
        let mut command = Command::new(fs::canonicalize(found).unwrap());
        command.current_dir(directory);
        let uid = {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(directory).unwrap().uid()
        };
        if uid == NOBODY {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    async fn pid(connection: &Pooled<Postgres>) -> i32 {
        connection.client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0)
    }

    #[tokio::test]
    async fn postgres_sees_a_bounded_pool_that_closes_at_the_end() {
        let server = Server::start().await;
        let journal = Journal::in_memory();
        program(server.config(), &journal).await.unwrap();
        assert_eq!(journal.events(), ["six times seven is 42"]);

        with_pool(server.config(), async |_, pool| {
            let queries = gather((0..200).map(|number: i32| async move {
                let connection = pool.acquire().await.unwrap();
                let row = connection.client.query_one("select $1::int4 + 1", &[&number]).await.unwrap();
                assert_eq!(row.get::<_, i32>(0), number + 1);
            }));
            queries.await;
            let seen = server.connections().await;
            assert!((1..=4).contains(&seen), "{seen} connections");
            // Callers that give up in the middle of a query leave it to the driver.
            for _ in 0..50 {
                let query = async {
                    let connection = pool.acquire().await.unwrap();
                    connection.client.simple_query("select pg_sleep(0.01)").await.map(drop)
                };
                drop(timeout(Duration::from_millis(1), query).await);
            }
            gather((0..8).map(|_| async { pid(&pool.acquire().await.unwrap()).await })).await;
            assert_eq!(pool.stats().opened, pool.stats().closed + pool.stats().idle as u64);
            assert!(pool.stats().opened <= 4);
        })
        .await
        .unwrap();
        let mut left = server.connections().await;
        while left > 0 {
            // The server has been told, and takes its time.
            left = server.connections().await;
        }
    }

    #[tokio::test]
    async fn dead_connections_are_replaced_and_downtime_is_an_error() {
        let mut server = Server::start().await;
        with_pool(server.config(), async |_, pool| {
            let held =
                Vec::from_iter(gather((0..4).map(|_| pool.acquire())).await.into_iter().map(Result::unwrap));
            let killer = &held[0];
            for victim in &held[1..] {
                let victim = pid(victim).await;
                killer.client.execute("select pg_terminate_backend($1)", &[&victim]).await.unwrap();
            }
            // They notice while they are held.
            for victim in &held[1..] {
                // The error comes first, the end of the connection a moment after it.
                while !victim.client.is_closed() {
                    drop(victim.client.simple_query("").await);
                }
            }
            drop(held);
            assert_eq!(pool.stats().idle, 1, "the others do not go back");
            gather((0..4).map(|_| async { pid(&pool.acquire().await.unwrap()).await })).await;

            server.stop().await;
            // Those that are left fail when they are used, or are found to be dead before.
            let refused = loop {
                match pool.acquire().await {
                    Ok(connection) => drop(connection.client.simple_query("select 1").await),
                    Err(error) => break error,
                }
            };
            let AcquireError::Unavailable(cause) = &refused else { panic!("{refused:?}") };
            let causes = iter::successors(Some(&**cause as &dyn std::error::Error), |error| error.source());
            assert!(causes.map(ToString::to_string).any(|cause| cause.contains("connect")), "{refused:?}");

            server.restart().await;
            let connection = loop {
                // The pool tries again by itself, when it is time.
                match pool.acquire().await {
                    Ok(connection) => break connection,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            pid(&connection).await;
        })
        .await
        .unwrap();
        drop(server);
        drain().await;
    }
}
