//! Cancel tokens: children, futures that run until a cancellation, tokens of tokio-util.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use motet::task::{CancelToken, Nursery, Reason, scope, timeout};
use tokio::time::sleep;

fn lunch() -> Reason {
    Reason::requested("lunch")
}

fn text(token: &CancelToken) -> Option<&str> {
    token.reason().and_then(Reason::text)
}

#[test]
fn cancellation_reaches_descendants_but_no_ancestor_or_sibling() {
    let root = CancelToken::new();
    let (first, second) = (root.child(), root.child());
    let (below, beside) = (first.child(), first.child());
    below.cancel(Reason::requested("alone"));
    assert!(![&root, &first, &second, &beside].into_iter().any(CancelToken::is_cancelled));
    first.cancel(lunch());
    assert_eq!((text(&beside), text(&below)), (Some("lunch"), Some("alone")), "the first reason is kept");
    assert!(!root.is_cancelled() && !second.is_cancelled());
    root.cancel(Reason::requested("evening"));
    assert_eq!((text(&second), text(&first)), (Some("evening"), Some("lunch")));
}

#[test]
fn child_of_a_cancelled_token_is_cancelled_for_the_same_reason() {
    let token = CancelToken::new();
    token.cancel(lunch());
    assert_eq!(text(&token.child().child()), Some("lunch"));
}

#[tokio::test(start_paused = true)]
async fn wait_for_a_child_ends_when_its_parent_is_cancelled() {
    let token = CancelToken::new();
    let child = token.child();
    let (reason, ()) = tokio::join!(child.cancelled(), async {
        sleep(Duration::from_secs(1)).await;
        token.cancel(lunch());
    });
    assert_eq!(reason.text(), Some("lunch"));
}

#[test]
fn cancellation_passes_through_a_parent_without_handles() {
    let root = CancelToken::new();
    let below = root.child().child();
    root.cancel(lunch());
    assert_eq!(text(&below), Some("lunch"));
}

#[test]
fn chain_of_100_000_tokens_is_cancelled_and_dropped() {
    let root = CancelToken::new();
    let last = (0..100_000).fold(root.child(), |token, _| token.child());
    root.cancel(lunch());
    assert_eq!(text(&last), Some("lunch"));
    drop(root);
    drop(last);
    let last = (0..100_000).fold(CancelToken::new(), |token, _| token.child());
    drop(last);
}

#[test]
fn concurrent_cancellation_reaches_every_child() {
    for _ in 0..500 {
        let token = CancelToken::new();
        let cancels = {
            let token = token.clone();
            thread::spawn(move || token.cancel(lunch()))
        };
        let children: Vec<_> = (0..20).map(|_| token.child()).collect();
        cancels.join().unwrap();
        assert!(children.iter().all(|child| text(child) == Some("lunch")));
    }
}

#[tokio::test(start_paused = true)]
async fn cancelled_run_drops_its_future_before_it_returns_the_reason() {
    let alive = Arc::new(());
    let token = CancelToken::new();
    let held = Arc::clone(&alive);
    let run = token.run_until_cancelled(async move {
        pending::<()>().await;
        drop(held);
    });
    let (reason, ()) = tokio::join!(
        async {
            let ended = run.await;
            (ended.unwrap_err(), Arc::strong_count(&alive))
        },
        async {
            sleep(Duration::from_secs(1)).await;
            token.cancel(lunch());
        }
    );
    assert_eq!((reason.0.text(), reason.1), (Some("lunch"), 1));
}

#[tokio::test]
async fn run_of_a_cancelled_token_does_not_poll_its_future() {
    let polled = AtomicBool::new(false);
    let token = CancelToken::new();
    token.cancel(lunch());
    let run = token.run_until_cancelled(async { polled.store(true, Ordering::Relaxed) });
    assert_eq!(run.await.unwrap_err().text(), Some("lunch"));
    assert!(!polled.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn run_returns_a_value_that_is_ready_with_the_cancellation() {
    let token = CancelToken::new();
    let value = token.run_until_cancelled(async {
        sleep(Duration::from_secs(1)).await;
        token.cancel(lunch());
        7
    });
    assert_eq!(value.await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn cancelled_run_ends_though_its_future_uses_up_the_budget() {
    let token = CancelToken::new();
    let greedy = async {
        loop {
            tokio::task::consume_budget().await;
        }
    };
    let (ended, ()) =
        tokio::join!(timeout(Duration::from_secs(5), token.run_until_cancelled(greedy)), async {
            tokio::task::yield_now().await;
            token.cancel(lunch());
        });
    let ended: Result<(), Reason> = ended.expect("the cancellation is noticed");
    assert_eq!(ended.unwrap_err().text(), Some("lunch"));
}

#[tokio::test(start_paused = true)]
async fn cancellation_passes_to_tokens_of_tokio_util_and_from_them() {
    use tokio_util::sync::CancellationToken;

    let ours = CancelToken::new();
    let theirs = ours.to_tokio_util();
    assert!(!theirs.is_cancelled());
    ours.cancel(lunch());
    assert!(theirs.is_cancelled());
    assert!(ours.to_tokio_util().is_cancelled(), "made after the cancellation");

    scope(async |n: &Nursery| {
        let theirs = CancellationToken::new();
        let ours = CancelToken::from_tokio_util(n, &theirs).unwrap();
        assert!(timeout(Duration::from_secs(1), ours.cancelled()).await.is_err());
        theirs.cancel();
        let reason = ours.cancelled().await;
        assert_eq!(reason.to_string(), "cancelled on request: a token of tokio-util was cancelled");
        Ok(())
    })
    .await
    .unwrap();
}
