include!("../../20_periodic_jobs.rs");

mod tests {
    use motet_testkit::sim::sim;

    use super::*;
    use crate::Printed;

    #[test]
    fn jobs_run_until_the_scope_ends_and_show_their_last_result() {
        sim(|| async {
            CHECKS.store(0, Ordering::Relaxed);
            let printed = Printed::begin();
            run_jobs(Duration::from_millis(125_250)).await.unwrap();
            assert_eq!(printed.starting_with("Report").len(), 2);
            let checks = printed.starting_with("Check ");
            assert_eq!(checks.len(), 251 - 251 / 3);
            let snapshot = printed.lines().concat();
            assert!(snapshot.contains("periodic `check`: state waiting, last ok in"), "{snapshot}");
            assert!(snapshot.contains("periodic `report`: state waiting, last ok in"), "{snapshot}");
            assert!(snapshot.contains("next 2000-01-01T00:03:00+00:00[UTC], runs 2"), "{snapshot}");
        })
        .seeds(10)
        .run();
    }
}
