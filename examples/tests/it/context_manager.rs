include!("../../06_context_manager.rs");

mod tests {
    use std::convert::Infallible;

    use motet::task::{Nursery, Policy, Scope, TaskError};
    use motet_testkit::cancel::Outcome;
    use motet_testkit::cancel_everywhere;
    use tokio::time::timeout;

    use super::*;
    use crate::Printed;
    use crate::printed::at;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn releasing(exit: Exit) -> String {
        format!("Releasing database ({exit})")
    }

    #[tokio::test(start_paused = true)]
    async fn resource_is_acquired_then_used_then_released() {
        let printed = Printed::begin();
        use_database().await.unwrap();
        let expected = [(0, "Acquiring database"), (100, "Using database"), (600, &releasing(Exit::Ok))];
        assert_eq!(printed.timed(), at(expected));
        assert_eq!(printed.elapsed(), ms(700), "the release is over");
    }

    #[tokio::test(start_paused = true)]
    async fn error_is_returned_after_the_release() {
        let printed = Printed::begin();
        let failed = with_database(async |_| {
            sleep(ms(200)).await;
            Err::<(), _>(io::Error::other("no such table"))
        });
        assert_eq!(failed.await.unwrap_err().into_error().unwrap().to_string(), "no such table");
        assert_eq!(printed.timed(), at([(0, "Acquiring database"), (300, &releasing(Exit::Err))]));
        assert_eq!(printed.elapsed(), ms(400));
    }

    #[tokio::test(start_paused = true)]
    async fn panic_is_reported_after_the_release() {
        let printed = Printed::begin();
        let used = with_database(async |_| -> io::Result<()> { panic!("a bug") });
        Scope::builder()
            .policy(Policy::Isolate)
            .run(async |n: &Nursery<Infallible>| {
                let Err(TaskError::Panicked { message, .. }) = n.spawn("user", used).await else { panic!() };
                assert_eq!(message, "a bug");
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(printed.timed(), at([(0, "Acquiring database"), (100, &releasing(Exit::Panic))]));
        assert_eq!(printed.elapsed(), ms(200));
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_program_completes_the_release() {
        let printed = Printed::begin();
        assert!(timeout(ms(300), use_database()).await.is_err());
        motet::drain().await;
        let expected =
            [(0, "Acquiring database"), (100, "Using database"), (300, &releasing(Exit::Cancelled))];
        assert_eq!(printed.timed(), at(expected));
        assert_eq!(printed.elapsed(), ms(400));
    }

    #[test]
    fn resource_is_released_wherever_the_program_is_dropped() {
        let report = cancel_everywhere(
            async || Printed::begin(),
            async |_| use_database().await.unwrap(),
            async |printed, outcome| {
                motet::drain().await;
                // The first suspension is the one of the budget, before anything is acquired.
                if matches!(outcome, Outcome::Dropped { suspensions: 0 | 1 }) && printed.lines().is_empty() {
                    return;
                }
                assert_eq!(printed.starting_with("Acquiring").len(), 1);
                assert_eq!(printed.starting_with("Releasing").len(), 1);
                let (last, line) = printed.timed().pop().unwrap();
                assert!(line.starts_with("Releasing"), "used after it was released");
                assert_eq!(printed.elapsed(), ms(last + 100), "the release is over");
            },
        );
        assert!(report.points() >= 4, "before, and while it is acquired, used and released: {report:?}");
    }
}
