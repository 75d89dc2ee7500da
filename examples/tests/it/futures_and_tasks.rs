include!("../../03_futures_and_tasks.rs");

mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::Printed;

    /// The line that each page prints at this time.
    fn lines(millis: u64, prefix: &str) -> Vec<(u64, String)> {
        (0..3).map(|i| (millis, format!("{prefix} http://example{i}.com"))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn fetches_run_concurrently_and_results_keep_their_order() {
        let printed = Printed::begin();
        fetch_and_process().await;
        let expected = [
            lines(0, "Fetching data from"),
            lines(1000, "Processing Data from"),
            lines(1500, "Processed Data from"),
        ];
        assert_eq!(printed.timed(), expected.concat());
        assert_eq!(printed.elapsed(), Duration::from_millis(1500));
    }

    #[tokio::test(start_paused = true)]
    async fn futures_end_with_a_dropped_program() {
        let printed = Printed::begin();
        assert!(timeout(Duration::from_millis(1200), fetch_and_process()).await.is_err());
        sleep(Duration::from_secs(3)).await;
        assert_eq!(printed.timed().last(), lines(1000, "Processing Data from").last());
        assert_eq!(motet::task::unscoped(), 0, "futures in a task leave nothing behind");
    }
}
