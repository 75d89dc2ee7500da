include!("../../14_pool_postgres.rs");

mod tests {
    //! In real time, since the server is real; no test depends on how long anything takes.

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

    /// The user `nobody`: PostgreSQL refuses to run as root.
    const NOBODY: u32 = 65_534;

    /// A server, on a socket in its own directory.
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
            let mut lines = Vec::new();
            loop {
                let Some(line) = log.next_line().await.unwrap() else {
                    panic!("it does not start: {lines:#?}")
                };
                if line.contains("ready to accept connections") {
                    break;
                }
                lines.push(line);
            }
            // Reads on, so that the server never waits for a reader of its log.
            motet::task::detach(
                "server's log",
                async move { while let Ok(Some(_)) = log.next_line().await {} },
            );
            running
        }

        async fn stop(&mut self) {
            self.running.kill().await.unwrap();
            // Its child processes end later; a new server waits for them.
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

        /// The number of connections of the pool, as the server sees it.
        async fn connections(&self) -> i64 {
            let mut config = self.config();
            let counts = with_pool(config.application_name("counts").clone(), async |pool| {
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

    /// A program of PostgreSQL: from the path, or from Debian's folder.
    fn command(program: &str, directory: &Path) -> Command {
        use std::os::unix::process::CommandExt;
        let in_path = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let of_debian = versions.map(|version| version.path().join("bin"));
        let found: Option<PathBuf> =
            in_path.into_iter().chain(of_debian).map(|at| at.join(program)).find(|at| at.is_file());
        let found = found.unwrap_or_else(|| panic!("there is no {program}: apt-get install postgresql"));
        // The target of a link: the programs look for each other beside it.
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
        assert_eq!(with_pool(server.config(), query).await.unwrap().unwrap(), 42);

        with_pool(server.config(), async |pool| {
            let queries = gather((0..200).map(|number: i32| async move {
                let connection = pool.acquire().await.unwrap();
                let row = connection.client.query_one("select $1::int4 + 1", &[&number]).await.unwrap();
                assert_eq!(row.get::<_, i32>(0), number + 1);
            }));
            queries.await;
            let seen = server.connections().await;
            assert!((1..=4).contains(&seen), "{seen} connections");
            // The driver finishes the queries of callers that are dropped.
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
            // The server closes a connection some time after its client.
            left = server.connections().await;
        }
    }

    #[tokio::test]
    async fn dead_connections_are_replaced_and_downtime_is_an_error() {
        let mut server = Server::start().await;
        with_pool(server.config(), async |pool| {
            let held =
                Vec::from_iter(gather((0..4).map(|_| pool.acquire())).await.into_iter().map(Result::unwrap));
            let killer = &held[0];
            for victim in &held[1..] {
                let victim = pid(victim).await;
                killer.client.execute("select pg_terminate_backend($1)", &[&victim]).await.unwrap();
            }
            // The connections end while they are lent.
            for victim in &held[1..] {
                // The error comes first, the end of the connection after it.
                while !victim.client.is_closed() {
                    drop(victim.client.simple_query("").await);
                }
            }
            drop(held);
            assert_eq!(pool.stats().idle, 1, "the others do not go back");
            gather((0..4).map(|_| async { pid(&pool.acquire().await.unwrap()).await })).await;

            server.stop().await;
            // The remaining connections fail in use, or at the check before it.
            let refused = loop {
                match pool.acquire().await {
                    Ok(connection) => drop(connection.client.simple_query("select 1").await),
                    Err(error) => break error,
                }
            };
            let AcquireError::Unavailable { cause, .. } = &refused else { panic!("{refused:?}") };
            let causes = iter::successors(Some(&**cause as &dyn std::error::Error), |error| error.source());
            assert!(causes.map(ToString::to_string).any(|cause| cause.contains("connect")), "{refused:?}");

            server.restart().await;
            let connection = loop {
                // The pool connects again after its back-off.
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
