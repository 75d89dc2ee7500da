include!("../../14_pool_postgres.rs");

mod tests {
    //! In real time, since the server is real; no test depends on how long anything takes.

    use std::iter;
    use std::time::Duration;

    use motet::pool::{AcquireError, Pooled};
    use motet::task::{drain, gather, timeout};

    use super::*;
    use crate::postgres::Server;

    fn config(server: &Server) -> Config {
        let mut config = Config::new();
        config.host_path(server.directory()).user("postgres").application_name("example");
        config
    }

    /// The number of connections of the pool, as the server sees it.
    async fn connections(server: &Server) -> i64 {
        let mut config = config(server);
        let counts = with_pool(config.application_name("counts").clone(), async |pool| {
            let connection = pool.acquire().await.unwrap();
            let count = "select count(*) from pg_stat_activity where application_name = 'example'";
            connection.client.query_one(count, &[]).await.unwrap().get(0)
        });
        counts.await.unwrap()
    }

    async fn pid(connection: &Pooled<Postgres>) -> i32 {
        connection.client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0)
    }

    #[tokio::test]
    async fn postgres_sees_a_bounded_pool_that_closes_at_the_end() {
        let server = Server::start().await;
        assert_eq!(with_pool(config(&server), query).await.unwrap().unwrap(), 42);

        with_pool(config(&server), async |pool| {
            let queries = gather((0..200).map(|number: i32| async move {
                let connection = pool.acquire().await.unwrap();
                let row = connection.client.query_one("select $1::int4 + 1", &[&number]).await.unwrap();
                assert_eq!(row.get::<_, i32>(0), number + 1);
            }));
            queries.await;
            let seen = connections(&server).await;
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
        let mut left = connections(&server).await;
        while left > 0 {
            // The server closes a connection some time after its client.
            left = connections(&server).await;
        }
    }

    #[tokio::test]
    async fn dead_connections_are_replaced_and_downtime_is_an_error() {
        let mut server = Server::start().await;
        with_pool(config(&server), async |pool| {
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
