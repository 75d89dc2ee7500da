//! The live tree.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use motet::observe::{Stat, Stats, TaskKind, snapshot};
use motet::task::{CancelToken, Nursery, Reason, Scope, scope};
use tokio::task::yield_now;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn snapshot_shows_tasks_nested_scopes_and_ages() {
    let options = Scope::builder().name("outer").keep_ages();
    let done = options.run(async |n: &Nursery<Infallible>| {
        n.spawn("waits", pending::<()>());
        n.service("serves", pending::<()>());
        n.spawn("nests", async {
            let inner = Scope::builder().name("inner").run(async |n: &Nursery<Infallible>| {
                n.spawn("deep", pending::<()>());
                pending::<()>().await;
                Ok(())
            });
            inner.await.unwrap();
        });
        sleep(Duration::from_secs(3)).await;
        let line = line!() + 1;
        n.spawn(String::from("late"), pending::<()>());
        let seen = n.snapshot();
        assert_eq!((seen.tasks.len(), seen.starting), (3, 1));
        yield_now().await;
        sleep(Duration::from_secs(1)).await;

        let seen = n.snapshot();
        assert_eq!((seen.name.as_str(), seen.age, seen.starting), ("outer", Some(Duration::from_secs(4)), 0));
        let tasks: Vec<_> = seen.tasks.iter().map(|task| (task.name.as_str(), task.kind, task.age)).collect();
        let four = Some(Duration::from_secs(4));
        assert_eq!(
            tasks,
            [
                ("waits", TaskKind::Task, four),
                ("serves", TaskKind::Service, four),
                ("nests", TaskKind::Task, four),
                ("late", TaskKind::Task, Some(Duration::from_secs(1)))
            ]
        );
        assert_eq!((seen.tasks[3].site.file(), seen.tasks[3].site.line()), (file!(), line));
        assert_eq!(seen.scopes[0].name, "inner");
        assert_eq!(seen.scopes[0].tasks[0].name, "deep");

        let whole = snapshot().unwrap();
        assert_eq!(whole.scopes[0].name, "outer");
        n.cancel(Reason::requested("enough"));
        Ok(())
    });
    done.await.unwrap();
    // Everything has left the tree.
    assert!(snapshot().is_none_or(|root| root.scopes.is_empty() && root.tasks.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn snapshot_shows_cancelled_tasks_with_the_reason() {
    let done = scope(async |n: &Nursery<Infallible>| {
        let scope = Scope::clone(n);
        n.spawn_coop("tidies", async move |cx: CancelToken| {
            cx.cancelled().await;
            let seen = scope.snapshot();
            assert!(seen.tasks[0].is_cancelled);
            assert_eq!(seen.reason.as_ref().and_then(Reason::text), Some("enough"));
            let text = seen.to_string();
            assert!(text.contains("cancelled: cancelled on request: enough"), "{text}");
            assert!(text.contains("task `tidies`, cancelled"), "{text}");
        });
        yield_now().await;
        n.cancel(Reason::requested("enough"));
        pending::<()>().await;
        Ok(())
    });
    assert!(done.await.unwrap_err().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn component_and_its_stats_are_in_snapshots_until_unregistered() {
    scope(async |n: &Nursery<Infallible>| {
        let stats = || Stats::new().count("idle", 3).value("load", 0.5).text("state", "open \"wide\"");
        let shown = n.register("pool", "db", stats);
        let seen = n.snapshot();
        assert_eq!(seen.components[0].stats.iter().next(), Some(("idle", &Stat::Count(3))));
        let json: serde_json::Value = serde_json::from_str(&seen.to_json()).unwrap();
        assert_eq!(json["components"][0]["stats"]["load"], 0.5);
        assert_eq!(json["components"][0]["stats"]["state"], "open \"wide\"");
        assert_eq!(json["tasks"], serde_json::json!([]));
        assert_eq!(json["age_seconds"], serde_json::Value::Null);
        drop(shown);
        assert!(n.snapshot().components.is_empty());
        Ok(())
    })
    .await
    .unwrap();
}

/// A name or a word from outside cannot forge a line of the tree.
#[tokio::test]
async fn control_characters_of_names_are_escaped_in_a_snapshot() {
    scope(async |n: &Nursery| {
        let forged = "a`\n  task `forged\x1b[2J";
        n.service(forged.to_owned(), pending::<()>());
        let _shown = n.register("pool", forged.to_owned(), || Stats::new().text("state", "open\nclosed"));
        yield_now().await;
        let tree = n.snapshot().to_string();
        assert_eq!(tree.lines().count(), 3, "{tree}");
        assert!(!tree.trim_end().chars().any(|letter| letter.is_control() && letter != '\n'), "{tree}");
        assert!(tree.contains("a`\\n  task `forged\\u{1b}[2J") && tree.contains("open\\nclosed"), "{tree}");
        Ok(())
    })
    .await
    .unwrap();
}
