include!("../../01_coroutine.rs");

mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::Printed;
    use crate::printed::at;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn coroutine_resumes_where_it_was_suspended() {
        let printed = Printed::begin();
        assert_eq!(simple_coroutine().await, "Coroutine completed");
        assert_eq!(printed.timed(), at([(0, "Coroutine started"), (1000, "Coroutine resumed")]));
    }

    #[tokio::test(start_paused = true)]
    async fn coroutine_starts_when_it_is_awaited() {
        let printed = Printed::begin();
        let coroutine = simple_coroutine();
        sleep(SECOND * 2).await;
        assert!(printed.lines().is_empty());
        coroutine.await;
        assert_eq!(printed.timed()[0], (2000, "Coroutine started".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_coroutine_does_not_resume() {
        let printed = Printed::begin();
        assert!(timeout(SECOND / 2, simple_coroutine()).await.is_err());
        sleep(SECOND * 2).await;
        assert_eq!(printed.lines(), ["Coroutine started"]);
    }
}
