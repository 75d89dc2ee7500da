//! Futures that run in the calling task: in-task scopes, gathers and races.

use motet::task::{Either, gather, local_scope, race, race_all, try_gather};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::{Driver, draw, millis, passes, swept};
use crate::notes::Live;

pub(super) const DRIVER: Driver = Driver {
    drives: &[
        "task::local::local_scope",
        "task::local::LocalTask",
        "task::Gather",
        "task::TryGather",
        "task::Race",
        "task::RaceAll",
    ],
    cancel,
    sweep,
};

#[test]
fn gather_race_and_local_scope_dropped_anywhere_drop_futures() {
    cancel();
}

#[test]
fn every_order_gives_gather_race_and_local_scope_their_outputs() {
    passes(sweep);
}

/// A future that holds a permit over a few suspensions, and gives its number.
async fn holds(live: &Live, permits: &Semaphore, number: usize) -> usize {
    let _alive = live.enter();
    let _permit = permits.acquire().await.unwrap();
    yield_now().await;
    sleep(millis(number as u64)).await;
    number
}

/// The conditions that must hold after a group has ended or was dropped.
fn free(live: &Live, permits: &Semaphore) {
    assert_eq!((live.count(), permits.available_permits()), (0, 2));
}

fn cancel() {
    type State = (Live, Semaphore);
    let setup = async || -> State { (Live::default(), Semaphore::new(2)) };
    cancel_everywhere(
        setup,
        async |(live, permits)| gather((0..4).map(|number| holds(live, permits, number))).await,
        async |(live, permits), _| free(live, permits),
    );
    cancel_everywhere(
        setup,
        async |(live, permits)| {
            let futures = (0..4).map(async |number| match holds(live, permits, number).await {
                2 => Err("two"),
                number => Ok(number),
            });
            assert_eq!(try_gather(futures).await, Err("two"));
            free(live, permits);
        },
        async |(live, permits), _| free(live, permits),
    );
    cancel_everywhere(
        setup,
        async |(live, permits)| {
            // Still here when their ends are seen.
            let mut racing = Box::pin(race(holds(live, permits, 9), holds(live, permits, 3)));
            assert_eq!((&mut racing).await, Either::Right(3));
            free(live, permits);
            let mut racing = race_all([7, 2, 8].map(|number| holds(live, permits, number)));
            assert_eq!((&mut racing).await, Some((1, 2)));
            free(live, permits);
        },
        async |(live, permits), _| free(live, permits),
    );
    cancel_everywhere(
        setup,
        async |(live, permits)| {
            let sum = local_scope(async |s| {
                let first = s.spawn(holds(live, permits, 1));
                s.spawn(async {
                    s.spawn(holds(live, permits, 3));
                    holds(live, permits, 2).await
                });
                first.await + 1
            });
            assert_eq!(sum.await, 2);
            free(live, permits);
        },
        async |(live, permits), _| free(live, permits),
    );
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let (live, permits) = (Live::default(), Semaphore::new(2));
        let waits: Vec<usize> = (0..6).map(|_| usize::try_from(draw(5)).unwrap()).collect();
        let gathered = gather(waits.iter().map(|wait| holds(&live, &permits, *wait))).await;
        assert_eq!(gathered, waits, "the order of the input");
        free(&live, &permits);
        let sum = local_scope(async |s| {
            let tasks: Vec<_> = waits.iter().map(|wait| s.spawn(holds(&live, &permits, *wait))).collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await;
            }
            sum
        });
        assert_eq!(sum.await, waits.iter().sum::<usize>());
        free(&live, &permits);
        let (at, value) = race_all(waits.iter().map(|wait| holds(&live, &permits, *wait))).await.unwrap();
        assert_eq!(value, waits[at]);
        free(&live, &permits);
        let fails = async |wait| match holds(&live, &permits, wait).await {
            0 => Err("zero"),
            wait => Ok(wait),
        };
        let tried = try_gather(waits.iter().map(|wait| fails(*wait))).await;
        assert_eq!(tried.is_err(), waits.contains(&0));
        free(&live, &permits);
        let won = race(holds(&live, &permits, waits[0]), holds(&live, &permits, waits[1])).await;
        assert_eq!(won.into_inner(), waits[usize::from(matches!(won, Either::Right(_)))]);
        free(&live, &permits);
    })
}
