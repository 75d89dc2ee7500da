//! Requests to stop and to reload, as the body sees them.

use std::convert::Infallible;
use std::future::pending;

use motet::run::{ExitOutcome, Root};
use motet::task::Reason;
use tokio::time::{Instant, sleep, timeout};

use super::{SECOND, after, app, for_ever, tidy, tooks};
use crate::notes::Log;

#[tokio::test(start_paused = true)]
async fn stopping_is_cancelled_with_the_reason_of_the_shutdown() {
    let mut seen = None;
    let finished = app().run_until(after(3), async |app: &Root<Infallible>| {
        let stopping = app.stopping();
        assert!(!stopping.is_cancelled());
        app.stopping().cancel(Reason::requested("of a handle alone"));
        sleep(SECOND).await;
        assert!(!app.stopping().is_cancelled(), "the program goes on");
        seen = Some(stopping);
        for_ever().await
    });
    assert!(matches!(finished.await.outcome, ExitOutcome::Stopped));
    assert_eq!(seen.unwrap().reason().and_then(Reason::text), Some("enough"));
}

/// The body works on items of two seconds, and stops between two of them.
async fn works(root: &Root<Infallible>) -> Result<u32, Infallible> {
    let (stopping, mut done) = (root.stopping(), 0);
    while !stopping.is_cancelled() {
        sleep(SECOND * 2).await;
        done += 1;
    }
    Ok(done)
}

#[tokio::test(start_paused = true)]
async fn body_that_ends_itself_returns_its_value_before_the_phases() {
    let log = Log::default();
    let finished = app().body_ends_itself().run_until(after(3), async |app: &Root<Infallible>| {
        tidy(app, "drain", "http", &log);
        let (stopping, log) = (app.stopping(), log.clone());
        app.spawn("child", async move {
            stopping.cancelled().await;
            sleep(SECOND * 3).await;
            log.note("child ended");
        });
        works(app).await
    });
    let finished = finished.await;
    assert!(matches!(finished.outcome, ExitOutcome::Returned(2)), "{finished:?}");
    assert!(finished.report.is_clean());
    assert_eq!(tooks(&finished.report)[..2], [("work", 3), ("drain", 1)]);
    assert_eq!(log.read(), ["child ended", "http stops", "http ended"]);
}

#[tokio::test(start_paused = true)]
async fn late_body_and_children_are_cancelled_and_named() {
    let log = Log::default();
    let app = app().body_ends_itself().work(SECOND * 4);
    let finished = app.run_until(after(3), async |app: &Root<Infallible>| {
        let noted = log.at_drop("child dropped");
        app.spawn("child", async move {
            let _noted = noted;
            pending::<()>().await;
        });
        let _noted = log.at_drop("body dropped");
        for_ever().await
    });
    let finished = finished.await;
    assert!(matches!(finished.outcome, ExitOutcome::Stopped), "{finished:?}");
    let work = finished.report.phase("work").unwrap();
    assert_eq!(work.stuck.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["body", "child"]);
    assert_eq!(work.took, SECOND * 4);
    let mut dropped = log.read();
    dropped.sort_unstable();
    assert_eq!(dropped, ["body dropped", "child dropped"]);
}

#[tokio::test(start_paused = true)]
async fn error_of_a_child_cancels_a_body_that_ends_itself() {
    let finished = app().body_ends_itself().run_until(pending(), async |app: &Root<&str>| {
        app.try_spawn("child", async {
            sleep(SECOND).await;
            Err::<(), _>("broken")
        });
        pending::<Result<(), _>>().await
    });
    let began = Instant::now();
    let finished = finished.await;
    assert!(matches!(&finished.outcome, ExitOutcome::Failed { first, .. } if first.error == "broken"));
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn requests_to_reload_reach_each_handle_and_are_merged_if_late() {
    let finished = app().run_until(pending(), async |app: &Root<Infallible>| {
        let (mut first, mut second) = (app.reloads(), app.reloads());
        app.reload();
        app.reload();
        first.recv().await;
        assert!(timeout(SECOND, first.recv()).await.is_err(), "two requests at once are one");
        second.recv().await;
        let mut third = app.reloads();
        assert!(timeout(SECOND, third.recv()).await.is_err(), "it came before this handle");
        app.reload();
        first.recv().await;
        third.recv().await;
        Ok(())
    });
    assert!(matches!(finished.await.outcome, ExitOutcome::Returned(())));
}
