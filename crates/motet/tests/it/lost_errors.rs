//! Errors of tasks that no caller receives are logged.

use std::time::Duration;

use motet::task::{Nursery, Policy, Scope, drain, scope, timeout};
use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::Level;
use tracing::subscriber::set_default;

use crate::caught::caught;
use crate::reader::Lines;

const SECOND: Duration = Duration::from_secs(1);

/// The name of the field and its value in a line of [`Lines`].
fn has(line: &str, field: &str) -> bool {
    line.contains(field)
}

#[tokio::test(start_paused = true)]
async fn only_the_first_lost_error_per_spawning_line_is_a_warning() {
    let lines = Lines::default();
    let _subscriber = set_default(lines.subscriber());
    let ended = Scope::builder().policy(Policy::Isolate).run(async |n: &Nursery<anyhow::Error>| {
        for number in 0..3 {
            n.try_spawn("import", async move {
                sleep(SECOND).await;
                Err::<(), _>(anyhow::anyhow!("row {number}").context("no such user"))
            });
        }
        n.try_spawn("export", async { Err::<(), _>(anyhow::anyhow!("disk full")) });
        Ok(())
    });
    ended.await.unwrap();
    let warned = lines.at_least(Level::WARN);
    assert_eq!(warned.len(), 2, "{warned:?}");
    assert!(has(&warned[0], "task=export") && has(&warned[0], "disk full"), "{warned:?}");
    assert!(has(&warned[1], "task=import") && has(&warned[1], "no such user: row 0"), "{warned:?}");
    assert!(has(&warned[1], file!()), "{warned:?}");
    let debugged = lines.at_least(Level::DEBUG);
    assert_eq!(debugged.iter().filter(|line| has(line, "task=import")).count(), 3, "{debugged:?}");
}

#[tokio::test(start_paused = true)]
async fn error_that_its_handle_or_its_scope_has_is_not_logged() {
    let lines = Lines::default();
    let _subscriber = set_default(lines.subscriber());
    let isolated = Scope::builder().policy(Policy::Isolate).run(async |n: &Nursery<&'static str>| {
        let awaited = n.try_spawn("awaited", async { Err::<(), _>("broken") });
        let shared = n.try_spawn("shared", async { Err::<(), _>("broken") }).shared();
        assert!(awaited.await.is_err());
        assert!(shared.await.is_err());
        Ok(())
    });
    isolated.await.unwrap();
    for policy in [Policy::FailFast, Policy::CollectAll] {
        let ended = Scope::builder().policy(policy).run(async |n: &Nursery<&'static str>| {
            n.try_spawn("returned", async { Err::<(), _>("broken") });
            Ok(())
        });
        ended.await.unwrap_err();
    }
    assert_eq!(lines.at_least(Level::DEBUG), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn error_of_a_scope_that_rethrows_a_panic_is_logged() {
    let lines = Lines::default();
    let _subscriber = set_default(lines.subscriber());
    let ended = caught(Scope::builder().policy(Policy::CollectAll).run(async |n: &Nursery<&'static str>| {
        n.try_spawn("fails", async { Err::<(), _>("no such user") }).await.unwrap_err();
        n.spawn("panics", async { std::panic::panic_any(17) });
        Ok(())
    }));
    assert_eq!(ended.await.unwrap_err().downcast_ref(), Some(&17));
    let warned = lines.at_least(Level::WARN);
    assert!(warned.iter().any(|line| has(line, "task=fails") && has(line, "no such user")), "{warned:?}");
}

#[tokio::test(start_paused = true)]
async fn number_of_lost_errors_of_a_dropped_scope_is_logged() {
    let lines = Lines::default();
    let _subscriber = set_default(lines.subscriber());
    let late = Scope::builder().policy(Policy::CollectAll).run(async |n: &Nursery<&'static str>| {
        n.try_spawn("fails", async { Err::<(), _>("no such user") });
        n.spawn_coop("tidies", async |cx| {
            cx.cancelled().await;
        });
        yield_now().await;
        sleep(SECOND * 9).await;
        Ok(())
    });
    let host = scope(async |_: &Nursery| Ok(timeout(SECOND, late).await.is_err()));
    assert!(host.await.unwrap());
    drain().await;
    let warned = lines.at_least(Level::WARN);
    assert!(warned.iter().any(|line| has(line, "lost=1") && has(line, file!())), "{warned:?}");
}
