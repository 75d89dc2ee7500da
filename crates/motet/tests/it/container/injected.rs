//! The argument types of factories.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use motet::container::{Container, GetError, Named};
use motet::task::{CancelToken, Scope};

use super::{A, B, C, D, Refused, never, started, within};
use crate::notes::Log;

struct Left;
struct Right;
trait Speak: Send + Sync {
    fn word(&self) -> &'static str;
}
impl Speak for A {
    fn word(&self) -> &'static str {
        "a"
    }
}

#[tokio::test(start_paused = true)]
async fn arguments_are_injected_by_type_and_tag() {
    within(async |n| {
        let mut c = Container::new();
        c.value(1_u32).named(Left);
        c.value(2_u32).named(Right).bind::<dyn std::fmt::Display + Send + Sync>(|number| number);
        c.value(3_u32);
        c.provide(|| async { A }).bind::<dyn Speak>(|a| a);
        type Shown = dyn std::fmt::Display + Send + Sync;
        c.provide(
            |left: Named<Left, u32>,
             right: Named<Right, u32>,
             plain: Arc<u32>,
             speak: Arc<dyn Speak>,
             there: Option<Arc<A>>,
             absent: Option<Arc<B>>,
             shown: Option<Named<Right, Shown>>,
             absent_tag: Option<Named<Left, A>>| async move {
                assert!(there.is_some() && absent.is_none() && absent_tag.is_none());
                format!("{left} {right} {plain} {} {}", speak.word(), *shown.unwrap())
            },
        );
        let running = started(n, c).await;
        assert_eq!(*running.get::<String>().unwrap(), "1 2 3 a 2");
        assert_eq!(*running.get_named::<Right, u32>().unwrap(), 2);
        assert_eq!(*running.get::<u32>().unwrap(), 3);
        assert!(Arc::ptr_eq(&running.get::<A>().unwrap(), &running.get::<A>().unwrap()));
        assert_eq!(running.get_ref::<dyn Speak>().unwrap().word(), "a");
        assert!(matches!(running.get_named::<Left, A>(), Err(GetError::NotProvided { .. })));
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn tasks_and_cleanups_of_a_component_end_after_on_stop() {
    let log = Log::default();
    let noted = log.clone();
    within(async |n| {
        let mut c = Container::new();
        let own = log.clone();
        c.provide(|scope: Scope, token: CancelToken| async move {
            let (own, late) = (own.clone(), own);
            scope
                .spawn("background", async move {
                    let _ended = own.at_drop("task ended");
                    never::<()>().await;
                })
                .unwrap();
            scope.defer("cleanup", async move |_| late.note("cleanup")).unwrap();
            assert!(!token.is_cancelled());
            token
        })
        .on_stop(log.hook("on_stop"));
        c.provide(|_: Arc<CancelToken>| async { B }).on_stop(log.hook("B stopped"));
        let running = started(n, c).await;
        let token = running.get::<CancelToken>().unwrap();
        tokio::task::yield_now().await;
        assert!(!token.is_cancelled());
        assert!(running.stop().await.is_ok());
        assert!(token.is_cancelled());
    })
    .await
    .unwrap();
    assert_eq!(noted.read(), ["B stopped", "on_stop", "task ended", "cleanup"]);
}

#[tokio::test(start_paused = true)]
async fn each_transient_is_new_and_stops_with_its_user() {
    let log = Log::default();
    let noted = log.clone();
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    within(async |n| {
        let mut c = Container::new();
        let (stopping, number) = (log.clone(), Arc::clone(&made));
        c.provide_transient(move || async move { number.fetch_add(1, Ordering::Relaxed) }).on_stop(
            move |_: Arc<usize>| {
                stopping.note("transient");
                async {}
            },
        );
        c.provide(|one: Arc<usize>, two: Arc<usize>| async move {
            assert_ne!(one, two);
            A
        })
        .on_stop(log.hook("A"));
        c.provide(|_: Arc<A>, _: Arc<usize>| async { B }).on_stop(log.hook("B"));
        let running = started(n, c).await;
        let report = running.stop().await;
        assert_eq!(report.components().len(), 5);
    })
    .await
    .unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 3);
    assert_eq!(noted.read(), ["B", "transient", "A", "transient", "transient"]);
}

#[tokio::test(start_paused = true)]
async fn factories_take_twelve_arguments_and_may_be_functions() {
    async fn plain(a: Arc<A>) -> Result<B, Refused> {
        drop(a);
        Ok(B)
    }
    within(async |n| {
        let mut c = Container::new();
        c.value(A);
        c.try_provide(plain);
        type Arg = Arc<A>;
        #[rustfmt::skip]
        c.provide(|_: Arg, _: Arg, _: Arg, _: Arg, _: Arg, _: Arg, _: Arg, _: Arg, _: Arg, _: Arg, _: Arg, _: Arc<B>| async { C });
        c.try_provide(|_: Arc<C>| async { Ok::<_, String>(D) });
        started(n, c).await.get::<D>().unwrap();
    })
    .await
    .unwrap();
}
