//! Jobs at an interval, and at times of the calendar.

use std::future::{Ready, pending};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::periodic::{Periodic, PeriodicConfigError, every};
use motet::task::{Nursery, Reason, Scope, scope};
use motet_testkit::sim::sim;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// The seconds at which a job began.
#[derive(Clone)]
struct Begins(Instant, Arc<Mutex<Vec<u64>>>);

impl Begins {
    fn new() -> Self {
        Self(Instant::now(), Arc::default())
    }

    fn note(&self) {
        self.1.lock().unwrap().push(self.0.elapsed().as_secs());
    }

    fn read(&self) -> Vec<u64> {
        self.1.lock().unwrap().clone()
    }
}

/// Runs a job, which takes these times in turn and no time after that, for 100 s. Returns when it began, and its entry in the
/// snapshot.
async fn hundred_seconds(job: Periodic, takes: &'static [u64]) -> (Vec<u64>, String) {
    let begins = Begins::new();
    let mut shown = String::new();
    scope(async |n: &Nursery| {
        let noted = begins.clone();
        let mut takes = takes.iter().copied();
        let run = move || {
            noted.note();
            sleep(SECOND * u32::try_from(takes.next().unwrap_or(0)).unwrap())
        };
        job.start(n, run).unwrap();
        sleep(SECOND * 100 + SECOND / 2).await;
        shown = n.snapshot().to_string();
        Ok(())
    })
    .await
    .unwrap();
    (begins.read(), shown)
}

fn each_20() -> Periodic {
    every(SECOND * 20).unwrap().name("job")
}

#[tokio::test(start_paused = true)]
async fn job_runs_at_each_interval_until_its_scope_ends() {
    let (begins, shown) = hundred_seconds(each_20(), &[]).await;
    assert_eq!(begins, [20, 40, 60, 80, 100]);
    let expected = "periodic `job`: state waiting, last ok in 0ns, 500ms ago, next in 19.5s, runs 5, failed 0, panicked 0, \
                    skipped 0";
    assert!(shown.contains(expected), "{shown}");
    let (begins, _) = hundred_seconds(each_20().immediately(), &[]).await;
    assert_eq!(begins, [0, 20, 40, 60, 80, 100]);
}

/// The first run takes 50 s, over the due times at 40 s and 60 s. The second one ends exactly when the next one is due.
#[tokio::test(start_paused = true)]
async fn due_times_during_a_run_are_skipped_or_queued_as_one_run() {
    let (begins, shown) = hundred_seconds(each_20(), &[50, 20]).await;
    assert_eq!(begins, [20, 80, 100]);
    assert!(shown.contains("runs 3, failed 0, panicked 0, skipped 2"), "{shown}");
    let (begins, shown) = hundred_seconds(each_20().queue_overlap(), &[50]).await;
    assert_eq!(begins, [20, 70, 80, 100]);
    assert!(shown.contains("runs 4, failed 0, panicked 0, skipped 1"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn jitter_delays_each_run_and_moves_no_due_time() {
    let (begins, _) = hundred_seconds(each_20().jitter(SECOND * 10), &[]).await;
    for (run, begin) in begins.iter().enumerate() {
        let due = (run as u64 + 1) * 20;
        assert!((due..=due + 10).contains(begin), "{begins:?}");
    }
    assert!(begins.len() >= 4);
}

#[tokio::test(start_paused = true)]
async fn job_that_fails_or_panics_is_run_again_and_shown() {
    let runs = Begins::new();
    scope(async |n: &Nursery| {
        let noted = runs.clone();
        let job = move || {
            noted.note();
            let run = noted.read().len();
            async move {
                match run {
                    1 => Err("disk full"),
                    2 => std::panic::panic_any("broken"),
                    _ => Ok(()),
                }
            }
        };
        each_20().start(n, job).unwrap();
        sleep(SECOND * 30).await;
        let shown = n.snapshot().to_string();
        assert!(shown.contains("last failed in 0ns, 10s ago: disk full"), "{shown}");
        sleep(SECOND * 20).await;
        let shown = n.snapshot().to_string();
        assert!(shown.contains("last panicked in 0ns, 10s ago: broken"), "{shown}");
        sleep(SECOND * 20).await;
        let shown = n.snapshot().to_string();
        assert!(shown.contains("runs 3, failed 1, panicked 1, skipped 0"), "{shown}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(runs.read(), [20, 40, 60]);
}

#[tokio::test(start_paused = true)]
async fn panic_of_a_job_without_a_future_ends_only_its_run() {
    let runs = Begins::new();
    scope(async |n: &Nursery| {
        let noted = runs.clone();
        let job = move || -> Ready<()> {
            noted.note();
            std::panic::panic_any("no future")
        };
        each_20().start(n, job).unwrap();
        sleep(SECOND * 50).await;
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(runs.read(), [20, 40]);
}

#[tokio::test(start_paused = true)]
async fn job_in_progress_is_cancelled_with_its_scope_or_its_task() {
    let begin = Instant::now();
    scope(async |n: &Nursery| {
        let job = each_20().start(n, pending::<()>).unwrap();
        sleep(SECOND * 25).await;
        assert!(n.snapshot().to_string().contains("periodic `job`: state running"));
        job.cancel(Reason::requested("enough"));
        assert!(job.await.is_err());
        assert!(n.snapshot().components.is_empty(), "the job is shown after its end");
        each_20().start(n, pending::<()>).unwrap();
        sleep(SECOND * 25).await;
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(begin.elapsed(), SECOND * 50);
}

#[tokio::test(start_paused = true)]
async fn start_of_a_job_in_a_closed_scope_hands_the_job_back() {
    let closed = scope(async |n: &Nursery| Ok(Scope::clone(n))).await.unwrap();
    let refused = each_20().start(&closed, || std::future::ready(())).unwrap_err();
    refused.into_inner()().await;
}

/// A job that never waits and is always late lets the other tasks of its thread run.
#[tokio::test]
async fn job_that_is_always_late_lets_other_tasks_run() {
    scope(async |n: &Nursery| {
        every(Duration::from_nanos(1)).unwrap().queue_overlap().start(n, || std::future::ready(())).unwrap();
        for _ in 0..1_000 {
            yield_now().await;
        }
        Ok(())
    })
    .await
    .unwrap();
}

#[test]
fn interval_of_zero_is_refused() {
    let refused = every(Duration::ZERO).unwrap_err();
    assert_eq!(refused, PeriodicConfigError::NoInterval);
    assert_eq!(refused.to_string(), "the interval is 0; it must be longer");
}

#[test]
fn runs_with_jitter_and_a_queue_do_not_overlap_under_any_order() {
    sim(|| async {
        const TAKES: [u64; 4] = [7, 33, 1, 20];
        let (begins, _) = hundred_seconds(each_20().queue_overlap().jitter(SECOND * 30), &TAKES).await;
        let apart = begins.windows(2).zip(TAKES).all(|(begins, took)| begins[1] >= begins[0] + took);
        assert!(apart && begins.len() >= 2, "{begins:?}");
    })
    .seeds(100)
    .run();
}

#[cfg(feature = "cron")]
mod calendar {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::SystemTime;

    use motet::periodic::{WallClock, cron};

    use super::*;

    /// 2026-05-01 00:00:00 UTC.
    const MAY: Duration = Duration::from_secs(1_777_593_600);

    fn may() -> WallClock {
        WallClock::starting_at(SystemTime::UNIX_EPOCH + MAY)
    }

    #[tokio::test(start_paused = true)]
    async fn job_runs_at_the_times_of_its_expression() {
        let job = cron("*/30 * * * * *").unwrap().name("job").clock(may());
        let (begins, shown) = hundred_seconds(job, &[]).await;
        assert_eq!(begins, [30, 60, 90]);
        assert!(shown.contains("next 2026-05-01T00:02:00+00:00[UTC], runs 3"), "{shown}");
    }

    /// A clock that a test sets: it advances with tokio's clock.
    #[derive(Clone)]
    struct SetClock(Instant, Arc<AtomicU64>);

    impl SetClock {
        fn new() -> Self {
            Self(Instant::now(), Arc::new(AtomicU64::new(MAY.as_secs())))
        }

        fn clock(&self) -> WallClock {
            let Self(start, base) = self.clone();
            WallClock::read_by(move || {
                SystemTime::UNIX_EPOCH + Duration::from_secs(base.load(Ordering::Relaxed)) + start.elapsed()
            })
        }

        fn forward(&self, seconds: u64) {
            self.1.fetch_add(seconds, Ordering::Relaxed);
        }

        fn back(&self, seconds: u64) {
            self.1.fetch_sub(seconds, Ordering::Relaxed);
        }
    }

    /// Runs an hourly job while its clock is set, once, after 90 minutes. Returns the minutes at which it ran.
    async fn hourly(
        set: impl FnOnce(&SetClock),
        minutes: u64,
        job: impl FnOnce(Periodic) -> Periodic,
    ) -> Vec<u64> {
        runs("0 * * * *", set, minutes, job).await
    }

    async fn runs(
        expression: &str,
        set: impl FnOnce(&SetClock),
        minutes: u64,
        job: impl FnOnce(Periodic) -> Periodic,
    ) -> Vec<u64> {
        let (clock, begins) = (SetClock::new(), Begins::new());
        scope(async |n: &Nursery| {
            let noted = begins.clone();
            let hourly = job(cron(expression).unwrap().clock(clock.clock()));
            hourly
                .start(n, move || {
                    noted.note();
                    std::future::ready(())
                })
                .unwrap();
            sleep(SECOND * 90 * 60).await;
            set(&clock);
            sleep(SECOND * 60 * u32::try_from(minutes - 90).unwrap()).await;
            Ok(())
        })
        .await
        .unwrap();
        begins.read().into_iter().map(|seconds| seconds / 60).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn runs_missed_by_a_clock_set_forward_become_one_or_none() {
        // At 1:30 the clock shows 6:45: the job finds it within a minute.
        let ran = hourly(|clock| clock.forward(5 * 3_600 + 900), 130, |job| job).await;
        assert_eq!(ran, [60, 90, 105]);
        let ran = hourly(|clock| clock.forward(5 * 3_600 + 900), 130, Periodic::skip_missed).await;
        assert_eq!(ran, [60, 105]);
    }

    #[tokio::test(start_paused = true)]
    async fn clock_set_back_repeats_no_run_unless_it_was_wrong_before() {
        // At 1:30 the clock shows 0:30 again, and 1:00 has been taken: the next run is at 2:00.
        let by_day = "0 0-22 * * *";
        let ran = runs(by_day, |clock| clock.back(3_600), 190, |job| job).await;
        assert_eq!(ran, [60, 180]);
        // It shows the day before: it was wrong by a day.
        let ran = runs(by_day, |clock| clock.back(86_400), 190, |job| job).await;
        assert_eq!(ran, [60, 120, 180]);
    }

    #[tokio::test(start_paused = true)]
    async fn hourly_job_follows_a_clock_set_back_by_an_hour_not_seconds() {
        let ran = hourly(|clock| clock.back(3_600), 190, |job| job).await;
        assert_eq!(ran, [60, 120, 180]);
        // At 1:00:01 of its clock the hour has been taken; one second more, and its clock shows 1:00:00 again.
        let (clock, begins) = (SetClock::new(), Begins::new());
        scope(async |n: &Nursery| {
            let noted = begins.clone();
            let job = cron("0 * * * *").unwrap().clock(clock.clock());
            job.start(n, move || {
                noted.note();
                std::future::ready(())
            })
            .unwrap();
            sleep(SECOND * 3_601).await;
            clock.back(2);
            sleep(SECOND * 3_700).await;
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(begins.read(), [3_600, 7_202]);
    }

    #[tokio::test(start_paused = true)]
    async fn due_times_during_a_run_are_skipped() {
        let begins = Begins::new();
        scope(async |n: &Nursery| {
            let noted = begins.clone();
            let job = cron("* * * * *").unwrap().name("job").clock(may());
            job.start(n, move || {
                noted.note();
                sleep(SECOND * 150)
            })
            .unwrap();
            sleep(SECOND * 500).await;
            let shown = n.snapshot().to_string();
            assert!(shown.contains("skipped 4"), "{shown}");
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(begins.read(), [60, 240, 420]);
    }

    #[tokio::test(start_paused = true)]
    async fn runs_missed_by_a_suspension_during_a_run_become_one() {
        let (clock, begins) = (SetClock::new(), Begins::new());
        scope(async |n: &Nursery| {
            let noted = begins.clone();
            let nightly = cron("0 3 * * *").unwrap().clock(clock.clock());
            nightly
                .start(n, move || {
                    noted.note();
                    sleep(SECOND * 600)
                })
                .unwrap();
            // Suspended at 3:05 for two days and six hours; the run ends at 9:05.
            sleep(SECOND * 3 * 3_600 + SECOND * 300).await;
            clock.forward(54 * 3_600);
            sleep(SECOND * 3_600).await;
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(begins.read(), [3 * 3_600, 3 * 3_600 + 600]);
    }

    #[tokio::test(start_paused = true)]
    async fn zone_determines_the_hours_of_a_job() {
        let zone = jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let begins = Begins::new();
        scope(async |n: &Nursery| {
            let noted = begins.clone();
            let job = cron("0 3 * * *").unwrap().zone(zone).clock(may());
            job.start(n, move || {
                noted.note();
                std::future::ready(())
            })
            .unwrap();
            sleep(SECOND * 86_400).await;
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(begins.read(), [3_600]);
    }

    #[test]
    fn expression_that_is_wrong_or_never_due_is_refused() {
        for wrong in ["", "* * *", "61 * * * *", "every day"] {
            let refused = cron(wrong).unwrap_err();
            assert!(
                refused.to_string().starts_with(&format!("`{wrong}` is not a cron expression: ")),
                "{refused}"
            );
        }
        let refused = cron("0 0 30 2 *").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`0 0 30 2 *` matches no time in the future; does the month have that day?"
        );
    }

    #[test]
    fn clocks_of_a_simulation_agree_whenever_they_are_created() {
        sim(|| async {
            let first = WallClock::system();
            sleep(SECOND * 600).await;
            assert_eq!(first.now(), WallClock::system().now());
        })
        .seeds(2)
        .run();
    }

    #[test]
    fn calendar_of_a_simulation_follows_its_virtual_time() {
        sim(|| async {
            let job = cron("*/20 * * * *").unwrap().name("job");
            let begins = Begins::new();
            scope(async |n: &Nursery| {
                let noted = begins.clone();
                job.start(n, move || {
                    noted.note();
                    std::future::ready(())
                })
                .unwrap();
                sleep(SECOND * 45 * 60).await;
                Ok(())
            })
            .await
            .unwrap();
            assert_eq!(begins.read(), [1_200, 2_400]);
        })
        .seeds(3)
        .run();
    }
}
