//! Futures that are leaked after some polls.
//!
//! The rest of a leaked future never runs. But no other future may wait for it: the enclosing scope ends, and so does
//! `drain`. The table states for each future what the leak keeps alive.

#![allow(clippy::mem_forget, reason = "the tests leak futures")]

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use motet::resource::resource;
use motet::run::{App, Root};
use motet::task::{
    CancelToken, Child, Nursery, Reason, Restart, Scope, Supervisor, detach, drain, gather, local_scope,
    race, race_all, scope, timeout, try_gather, unscoped,
};
use tokio::time::sleep;

type Leaky = Pin<Box<dyn Future<Output = ()>>>;

/// Polls the future `polls` times, with pauses, and leaks it.
async fn forget_after(polls: usize, mut future: Leaky) {
    for _ in 0..polls {
        if poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await.is_ready() {
            return;
        }
        sleep(MILLI).await;
    }
    std::mem::forget(future);
}

const MILLI: Duration = Duration::from_millis(1);

fn leaky(future: impl Future + 'static) -> Leaky {
    Box::pin(async { drop(future.await) })
}

/// The values that a leaked future keeps alive.
#[derive(Debug, PartialEq, Eq)]
enum Keeps {
    Nothing,
    /// Its scope: no code cancels the children of the scope or waits for them. In these tests, the children end by
    /// themselves.
    ItsScope,
}

fn value(n: &Nursery<()>) -> motet::task::Task<u32, ()> {
    n.try_spawn("value", async {
        sleep(MILLI * 3).await;
        Ok(5)
    })
}

async fn fails_in_a_while() -> Result<(), ()> {
    sleep(MILLI * 3).await;
    Err(())
}

fn futures(n: &Nursery<()>) -> Vec<(&'static str, Keeps, Leaky)> {
    let token = CancelToken::new();
    let shared = value(n).shared();
    let (task, started) = (
        value(n),
        n.start("starts", async |ready| {
            sleep(MILLI * 2).await;
            ready.send(());
            Ok(())
        }),
    );
    let acquiring = n.acquire("held", async { Ok::<_, ()>(1) }, async |_, _| sleep(MILLI).await);
    let releasing = n.acquire("released", async { Ok::<_, ()>(1) }, async |_, _| sleep(MILLI).await);
    let used = resource(async { Ok::<_, ()>(1) })
        .release(async |_, _| sleep(MILLI).await)
        .with(async |_| fails_in_a_while().await);
    let in_the_task = local_scope(async |s| {
        s.spawn(sleep(MILLI * 3));
        s.spawn(sleep(MILLI)).await;
    });
    let inner = scope(async |n: &Nursery<()>| {
        n.spawn("child", sleep(MILLI * 3));
        sleep(MILLI * 4).await;
        Ok(())
    });
    let stop = async { Reason::requested("enough") };
    let program = App::new().name("app").run_until(stop, async |app: &Root<()>| {
        app.spawn("child", sleep(MILLI * 3));
        pending::<Result<(), _>>().await
    });
    let supervisor =
        Supervisor::new()
            .name("pool")
            .with_child(Child::new("child", Restart::Temporary, |_| sleep(MILLI * 3)));
    vec![
        ("Task", Keeps::Nothing, leaky(task)),
        ("Shared", Keeps::Nothing, leaky(shared)),
        ("cancelled", Keeps::Nothing, leaky(async move { token.cancelled().await.clone() })),
        ("drain", Keeps::Nothing, leaky(drain())),
        ("start", Keeps::Nothing, leaky(started)),
        ("acquire", Keeps::Nothing, leaky(acquiring)),
        ("release", Keeps::Nothing, leaky(async { releasing.await.unwrap().release().await })),
        ("with", Keeps::Nothing, leaky(used)),
        ("timeout", Keeps::Nothing, leaky(timeout(MILLI * 4, pending::<()>()))),
        ("race", Keeps::Nothing, leaky(race(sleep(MILLI * 3), pending::<()>()))),
        ("race_all", Keeps::Nothing, leaky(race_all([sleep(MILLI * 3)]))),
        ("gather", Keeps::Nothing, leaky(gather([sleep(MILLI * 3), sleep(MILLI)]))),
        ("try_gather", Keeps::Nothing, leaky(try_gather([fails_in_a_while()]))),
        ("local_scope", Keeps::Nothing, leaky(in_the_task)),
        ("scope", Keeps::ItsScope, leaky(inner)),
        ("run_until", Keeps::ItsScope, leaky(program)),
        ("supervisor", Keeps::ItsScope, leaky(supervisor.run(CancelToken::new()))),
    ]
}

/// Also a future that is leaked within a task of the scope: then the future is leaked, and the task ends.
#[tokio::test(start_paused = true)]
async fn leaked_future_blocks_neither_its_scope_nor_drain() {
    let count = scope(async |n: &Nursery<()>| Ok(futures(n).len())).await.unwrap();
    assert_eq!(count, 17);
    for at in 0..count {
        for polls in 0..6 {
            let around = scope(async |n: &Nursery<()>| {
                let (name, keeps, leaky) = futures(n).swap_remove(at);
                forget_after(polls, leaky).await;
                Ok((name, keeps))
            });
            let ended = timeout(Duration::from_secs(60), around).await;
            let (name, keeps) = ended.unwrap_or_else(|_| panic!("{at}: wedged after {polls} polls")).unwrap();
            assert!(
                timeout(Duration::from_secs(60), drain()).await.is_ok(),
                "{name}: a drain hangs after {polls} polls"
            );
            assert!(keeps == Keeps::ItsScope || unscoped() == 0, "{name}");
        }
    }
}

/// The documented loss: children of a leaked scope are neither cancelled nor waited for.
#[tokio::test(start_paused = true)]
async fn leaked_scope_does_not_block_the_scope_around_it() {
    let (left, mut leaves) = tokio::sync::oneshot::channel::<()>();
    let inner = scope(async |n: &Nursery<()>| {
        n.spawn("child", async move {
            sleep(MILLI * 50).await;
            drop(left);
        });
        pending::<Result<(), _>>().await
    });
    scope(async |_: &Nursery<()>| {
        forget_after(1, leaky(inner)).await;
        Ok(())
    })
    .await
    .unwrap();
    assert!(leaves.try_recv().is_err_and(|error| error == tokio::sync::oneshot::error::TryRecvError::Empty));
    assert!(leaves.await.is_err(), "the child runs on, to its own end");
}

/// The documented loss: a guard that is leaked keeps its resource from being released, and that is counted.
#[tokio::test(start_paused = true)]
async fn leaked_guard_is_counted_as_lost() {
    let handle = scope(async |n: &Nursery<()>| {
        let held = n
            .acquire("held", async { Ok::<_, ()>(1) }, async |_, _| -> () { panic!("released") })
            .await
            .unwrap();
        let _: &u32 = &held;
        std::mem::forget(held);
        Ok(Scope::clone(n))
    });
    let counts = handle.await.unwrap().release_counts();
    assert_eq!((counts.started, counts.lost), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn leaked_drain_leaves_the_wake_to_the_next_drain() {
    detach("takes a while", sleep(MILLI * 50));
    forget_after(1, leaky(drain())).await;
    assert_eq!(drain().await, 1);
    assert_eq!(unscoped(), 0);
}
