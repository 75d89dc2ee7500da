include!("../../11_di_container.rs");

mod tests {
    use std::time::Duration;

    use motet::container::{Problem, StartError};
    use motet::task::gather;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::Printed;

    #[tokio::test(start_paused = true)]
    async fn components_start_before_use_and_stop_in_reverse_order() {
        let printed = Printed::begin();
        greetings().await.unwrap();
        assert_eq!(
            printed.lines(),
            [
                "Opening the database",
                "Querying the database for user 1",
                "Hello, Alice",
                "Querying the database for user 2",
                "Hello, Bob",
                "Hello, Alice",
                "Querying the database for user 3",
                "Hello, stranger",
                "Health: healthy",
                "Closing the cache",
                "Closing the database",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn get_of_a_running_component_starts_nothing() {
        let printed = Printed::begin();
        scope(async |n: &Nursery<Error>| {
            let running = container().start(n).await?;
            let before = printed.lines();
            assert!(running.get::<UserService>().is_ok() && running.get::<dyn Users>().is_ok());
            assert_eq!(printed.lines(), before);
            Ok(())
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn cycle_is_found_before_anything_starts() {
        let printed = Printed::begin();
        let mut c = container();
        // The database needs the service that needs the database.
        c.overrides(|c| {
            let open = |_: Arc<UserService>| Database::open();
            c.try_provide(open).bind::<dyn Users>(|database| database);
        });
        let failed = c.check().unwrap_err();
        let [Problem::Cycle(cycle)] = failed.problems() else { panic!("{failed}") };
        let mut names: Vec<_> = cycle.iter().map(|component| component.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["Cache", "Database", "UserService"]);
        assert!(cycle.iter().all(|component| component.site.file().contains("di_container")));
        assert!(printed.lines().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_first_gets_share_one_instance() {
        let made = Arc::new(Mutex::new(0));
        let count = Arc::clone(&made);
        scope(async |n: &Nursery<Error>| {
            let mut c = Container::new();
            c.provide_scoped(move || async move {
                sleep(Duration::from_millis(100)).await;
                *count.lock().unwrap() += 1;
                7_u32
            });
            let scoped = c.start(n).await?.within(n).unwrap();
            let all = gather((0..10).map(|_| scoped.get::<u32>())).await;
            let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
            assert!(all.iter().all(|one| Arc::ptr_eq(one, &all[0])));
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(*made.lock().unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn independent_components_start_concurrently() {
        struct Mail;
        struct Metrics;
        let begin = Instant::now();
        scope(async |n: &Nursery<Error>| {
            let mut c = Container::new();
            let slow = || sleep(Duration::from_millis(100));
            c.provide(move || async move {
                slow().await;
                Mail
            });
            c.provide(move || async move {
                slow().await;
                Metrics
            });
            drop(c.start(n).await?);
            assert_eq!(begin.elapsed(), Duration::from_millis(100));
            Ok(())
        })
        .await
        .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn failed_start_stops_what_has_started() {
        struct Broken;
        let printed = Printed::begin();
        let failed = scope(async |n: &Nursery<Error>| {
            let mut c = container();
            c.try_provide(|_: Arc<UserService>| async { Err::<Broken, _>(io::Error::other("port in use")) });
            drop(c.start(n).await?);
            Ok(())
        })
        .await
        .unwrap_err();
        let failed = failed.into_error().unwrap();
        let Some(StartError::Build { first, .. }) = failed.downcast_ref() else { panic!("{failed}") };
        assert_eq!(first.component(), "Broken");
        assert_eq!(printed.lines()[1..], ["Closing the cache", "Closing the database"]);
    }

    #[tokio::test(start_paused = true)]
    async fn override_keeps_the_original_from_starting() {
        struct NoUsers;
        impl Users for NoUsers {
            fn find(&self, _: u64) -> Option<String> {
                None
            }
        }
        let printed = Printed::begin();
        scope(async |n: &Nursery<Error>| {
            let mut c = container();
            c.overrides(|c| {
                c.shared::<dyn Users>(Arc::new(NoUsers));
            });
            let running = c.start(n).await?;
            assert_eq!(running.get::<UserService>().unwrap().greet(1), "Hello, stranger");
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(printed.lines(), ["Closing the cache"]);
    }
}
