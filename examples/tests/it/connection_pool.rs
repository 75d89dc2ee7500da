include!("../../13_connection_pool.rs");

mod tests {
    use std::convert::Infallible;

    use motet::task::{gather, timeout};
    use motet_testkit::cancel_everywhere;

    use super::*;
    use crate::Printed;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn assert_all_closed(printed: Printed) {
        let (opened, closed) = (printed.starting_with("Opened"), printed.starting_with("Closed"));
        assert_eq!(closed.len(), opened.len(), "{opened:?} {closed:?}");
    }

    /// Runs a body with a pool, and checks that each session was closed.
    async fn with_pool(server: Server, body: impl AsyncFnOnce(&Pool<Server>)) {
        let printed = Printed::begin();
        let done = scope(async |n: &Nursery<Infallible>| {
            body(&pool(n, server)).await;
            Ok(())
        });
        done.await.unwrap();
        assert_all_closed(printed);
    }

    #[tokio::test(start_paused = true)]
    async fn ten_callers_share_five_sessions_and_all_are_answered() {
        let printed = Printed::begin();
        ten_requests().await.unwrap();
        let mut expected = Vec::from_iter((0..5).map(|session| (50, format!("Opened session {session}"))));
        // Two turns over five sessions, in the order of the callers.
        expected.extend((0..5).map(|session| (150, format!("Fetched /api/users over session {session}"))));
        expected.extend((0..5).map(|session| (250, format!("Fetched /api/users over session {session}"))));
        let lines = printed.timed();
        assert_eq!(lines[..15], expected);
        assert_eq!(lines[15..].len(), 5, "each is closed: {lines:?}");
        assert_all_closed(printed);
    }

    #[test]
    fn caller_dropped_anywhere_leaves_no_session_open() {
        cancel_everywhere(
            async || Printed::begin(),
            async |_| {
                let one = async |pool: &Pool<Server>| assert_eq!(fetch(pool, "/api/users").await.unwrap(), 0);
                with_pool(Server::default(), one).await;
            },
            async |printed, _| {
                motet::drain().await;
                assert_all_closed(*printed);
            },
        );
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_callers_return_their_sessions() {
        let printed = Printed::begin();
        with_pool(Server::default(), async |pool| {
            for patience in 0..200 {
                drop(timeout(ms(patience), fetch(pool, "/slow")).await);
            }
            let answers = gather((0..5).map(|_| timeout(ms(200), fetch(pool, "/api")))).await;
            assert!(answers.iter().all(|answer| matches!(answer, Ok(Ok(_)))), "{answers:?}");
        })
        .await;
        assert_eq!(printed.starting_with("Opened").len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn dead_session_is_replaced() {
        with_pool(Server::default(), async |pool| {
            assert_eq!(fetch(pool, "/hang-up").await.unwrap(), 0);
            assert_eq!(fetch(pool, "/api").await.unwrap(), 1);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_fails_after_its_timeout() {
        with_pool(Server::default(), async |pool| {
            let held = gather((0..5).map(|_| pool.acquire())).await;
            let begin = tokio::time::Instant::now();
            let late = fetch(pool, "/api").await.unwrap_err();
            assert!(matches!(late, AcquireError::TimedOut { .. }), "{late:?}");
            assert_eq!(begin.elapsed(), Duration::from_secs(2));
            drop(held);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn pool_recovers_when_the_server_comes_up() {
        let server = Server::default();
        let is_down = Arc::clone(&server.is_down);
        is_down.store(true, Ordering::Relaxed);
        with_pool(server, async |pool| {
            let answers = gather((0..10).map(|_| fetch(pool, "/api"))).await;
            assert!(answers.iter().all(|answer| matches!(answer, Err(AcquireError::Unavailable { .. }))));
            assert_eq!(pool.stats().in_use, 0);
            is_down.store(false, Ordering::Relaxed);
            sleep(Duration::from_secs(1)).await;
            fetch(pool, "/api").await.unwrap();
            assert!(gather((0..10).map(|_| fetch(pool, "/api"))).await.iter().all(Result::is_ok));
        })
        .await;
    }
}
