use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use motet::event::{AnyEvent, Emitter, EmitterClosedError};
use motet::resource::Exit;
use motet::task::{Nursery, Reason, ReleaseCounts, Scope, drain, scope, timeout};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::{Received, SECOND, Tick, matching};

/// A listener, and a handle that shows whether it is still held.
fn held() -> (Arc<()>, impl Fn(&Tick) + Send + Sync) {
    let held = Arc::new(());
    let listener = Arc::clone(&held);
    (held, move |_: &Tick| assert!(Arc::strong_count(&listener) > 1))
}

fn is_held(held: &Arc<()>) -> bool {
    Arc::strong_count(held) > 1
}

#[tokio::test]
async fn listener_is_dropped_with_its_scope() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let (kept, listener) = held();
        let (at_home, home_listener) = held();
        let _home = emitter.on("home", home_listener).unwrap();
        let mut subscription = None;
        let inner = Scope::builder()
            .run(async |inner: &Nursery| {
                subscription = Some(emitter.listener("kept").within(inner).on(listener).unwrap());
                let pattern = Arc::clone(&kept);
                let listener = emitter.listener("forever").within(inner);
                listener.on_pattern(matching(">"), move |_| drop(Arc::clone(&pattern))).unwrap().forever();
                assert_eq!(emitter.emit(Tick(1)).await.unwrap().into_result().unwrap(), 3);
                Ok(())
            })
            .await;
        inner.unwrap();
        assert!(!is_held(&kept), "a subscription does not keep the listener");
        assert!(!subscription.unwrap().is_on());
        assert!(is_held(&at_home));
        assert_eq!(emitter.listener_count::<Tick>(), 1);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn ended_scope_drops_listeners_though_one_holds_its_emitter() {
    let (kept, listener) = held();
    let mut outlives = None;
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let circle = emitter.clone();
        let on = emitter.on("circle", move |_: &Tick| assert!(!circle.is_closed())).unwrap();
        on.forever();
        emitter.on("held", listener).unwrap().forever();
        outlives = Some(emitter);
        Ok(())
    })
    .await
    .unwrap();
    assert!(!is_held(&kept));
    let emitter = outlives.unwrap();
    assert_eq!(emitter.listener_count::<Tick>(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropped_scope_drops_its_listeners() {
    let (kept, listener) = held();
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let waits = Scope::builder().run(async |inner: &Nursery| {
            emitter.listener("kept").within(inner).on(listener).unwrap().forever();
            sleep(SECOND * 5).await;
            Ok(())
        });
        assert!(timeout(SECOND, waits).await.is_err());
        sleep(SECOND).await;
        assert_eq!(emitter.listener_count::<Tick>(), 0);
        assert!(!is_held(&kept));
        Ok(())
    })
    .await
    .unwrap();
    drain().await;
}

/// A listener may use a resource that its scope opened earlier: the listener is removed before the resource is
/// released.
#[tokio::test]
async fn listener_is_off_before_earlier_resources_are_released() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let _count = emitter.on("count", |_: &Tick| ()).unwrap();
        let (seen, at_close, at_end) = (Arc::new(AtomicUsize::new(9)), emitter.clone(), emitter.clone());
        let sees = Arc::clone(&seen);
        Scope::builder()
            .run(async |inner: &Nursery| {
                let close = move |_: u32, _: Exit| {
                    sees.store(at_close.listener_count::<Tick>(), Ordering::Relaxed);
                    async {}
                };
                let opened = inner.acquire("db", async { Ok::<_, ()>(1) }, close).await.unwrap();
                emitter.listener("uses it").within(inner).on(|_: &Tick| ()).unwrap().forever();
                // A service that is still running can emit to the listener.
                inner.service_coop("last words", async move |cx| {
                    cx.cancelled().await;
                    assert_eq!(at_end.emit(Tick(1)).await.unwrap().into_result().unwrap(), 2);
                });
                yield_now().await;
                drop(opened);
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(seen.load(Ordering::Relaxed), 1);
        Ok(())
    })
    .await
    .unwrap();
}

/// The emit began while both listeners were on, and has not called the second one yet.
#[tokio::test]
async fn running_emit_skips_a_listener_of_an_ended_scope() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::builder(n).concurrency(super::count(1)).build();
        let gate = Arc::new(tokio::sync::Notify::new());
        let opened = Arc::clone(&gate);
        let _first = emitter
            .on_async("first", move |_: Arc<Tick>| {
                let opened = Arc::clone(&opened);
                async move { opened.notified().await }
            })
            .unwrap();
        let mut emit = emitter.emit(Tick(1));
        Scope::builder()
            .run(async |inner: &Nursery| {
                emitter.listener("second").within(inner).on(|_: &Tick| ()).unwrap().forever();
                assert!(poll_once(&mut emit).is_pending());
                Ok(())
            })
            .await
            .unwrap();
        gate.notify_one();
        let emitted = emit.await.unwrap();
        assert_eq!((emitted.succeeded(), emitted.skipped()), (1, 1));
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn dropped_listeners_leave_one_cleanup_in_their_scope() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        Scope::builder()
            .run(async |inner: &Nursery| {
                for _ in 0..1_000 {
                    let _on = emitter.listener("short").within(inner).on(|_: &Tick| ()).unwrap();
                    let _pattern = emitter
                        .listener("short")
                        .within(inner)
                        .on_pattern(matching(">"), |_: &dyn AnyEvent| ())
                        .unwrap();
                }
                assert_eq!(emitter.listener_count::<Tick>(), 0);
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(n.release_counts().finished, 1, "one cleanup for all listeners of a scope");
        Ok(())
    })
    .await
    .unwrap();
}

/// For example, a scope per connection, each a child of the scope of the server.
#[tokio::test]
async fn dropped_emitters_leave_no_cleanup_in_their_scope() {
    scope(async |n: &Nursery| {
        Scope::builder()
            .run(async |inner: &Nursery| {
                for _ in 0..1_000 {
                    let emitter = Emitter::new(inner);
                    let _on = emitter.on("short", |_: &Tick| ()).unwrap();
                    assert_eq!(emitter.emit(Tick(1)).await.unwrap().succeeded(), 1);
                }
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(n.release_counts(), ReleaseCounts::default());
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn dropped_emitter_ends_listeners_streams_and_leaves_snapshots() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::builder(n).name("events").build();
        let (kept, listener) = held();
        let on = emitter.on("kept", listener).unwrap();
        let ticks = emitter.stream::<Tick>(motet::event::Lag::Latest);
        assert!(n.snapshot().to_string().contains("emitter `events`: events 1, listeners 2, patterns 0"));
        drop(emitter);
        assert!(!is_held(&kept) && !on.is_on());
        assert_eq!(on.name(), "kept");
        let mut ticks = ticks;
        assert!(ticks.next().await.is_none());
        assert!(n.snapshot().components.is_empty());
        Ok(())
    })
    .await
    .unwrap();
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the drop");
    }
}

/// The emit then holds the last reference to the listener.
#[tokio::test]
async fn listener_that_panics_on_drop_lets_the_emit_complete() {
    scope(async |n: &Nursery| {
        for waits in [false, true] {
            let emitter = Emitter::new(n);
            let bomb = || {
                let bomb = Bomb;
                move || {
                    let _bomb = &bomb;
                }
            };
            let (typed, named) = (bomb(), bomb());
            let other = emitter.clone();
            emitter.once("typed", move |_: &Tick| typed()).unwrap().forever();
            emitter
                .listener("named")
                .once()
                .on_pattern(matching("named"), move |_| named())
                .unwrap()
                .forever();
            let waiting = move |_: Arc<dyn AnyEvent>| {
                let other = other.clone();
                async move {
                    while other.listener_count::<Tick>() > 1 {
                        yield_now().await;
                    }
                }
            };
            let _waits = waits.then(|| emitter.on_pattern_async("waits", matching(">"), waiting).unwrap());
            let expected = 1 + usize::from(waits);
            assert_eq!(emitter.emit(Tick(1)).await.unwrap().succeeded(), expected);
            assert_eq!(emitter.emit_named("named", 1).await.unwrap().succeeded(), expected);
            assert_eq!(emitter.emit(Tick(2)).await.unwrap().succeeded(), expected - 1);
        }
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn dropped_emit_catches_the_panic_of_a_listener_that_it_drops() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let bomb = Bomb;
        let on = emitter
            .on("bomb", move |_: &Tick| {
                let _bomb = &bomb;
            })
            .unwrap();
        let _slow =
            emitter.on_async("slow", async |_: Arc<Tick>| std::future::pending::<()>().await).unwrap();
        let mut emit = emitter.emit(Tick(1));
        assert!(poll_once(&mut emit).is_pending());
        on.off();
        drop(emit);
        Ok(())
    })
    .await
    .unwrap();
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn listener_that_panics_on_drop_does_not_affect_another() {
    scope(async |n: &Nursery| {
        let (emitter, received) = (Emitter::new(n), Received::default());
        let bomb = Bomb;
        let bombs = move |_: &Tick| {
            let _bomb = &bomb;
        };
        let first = emitter.on("bomb", bombs).unwrap();
        let _other = emitter.on("other", received.by("other")).unwrap();
        first.off();
        assert!(emitter.emit(Tick(1)).await.unwrap().is_ok());
        assert_eq!(received.take(), [("other", 1)]);
        let inner: Result<(), motet::task::ScopeError> = Scope::builder()
            .run(async |inner: &Nursery| {
                let bomb = Bomb;
                let bombs = move |_: &Tick| {
                    let _bomb = &bomb;
                };
                emitter.listener("bomb").within(inner).on(bombs).unwrap().forever();
                inner.cancel(Reason::requested("enough"));
                Ok(())
            })
            .await;
        drop(inner);
        assert_eq!(emitter.listener_count::<Tick>(), 1);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn emitter_is_closed_when_its_scope_has_ended() {
    let received = Received::default();
    let mut outlives = None;
    scope(async |n: &Nursery| {
        Scope::builder()
            .run(async |inner: &Nursery| {
                let dead = received.clone();
                let emitter = Emitter::builder(inner).on_dead(move |_| dead.note("dead", 0)).build();
                // A listener of a scope that is still open.
                emitter.listener("outside").within(n).on(received.by("outside")).unwrap().forever();
                outlives = Some(emitter);
                Ok(())
            })
            .await
            .unwrap();
        let emitter = outlives.take().unwrap();
        assert!(emitter.is_closed());
        let EmitterClosedError(Tick(number)) = emitter.emit(Tick(1)).await.unwrap_err();
        assert_eq!(number, 1, "a refused event is handed back");
        let EmitterClosedError(()) = emitter.emit_named("named", ()).await.unwrap_err();
        assert_eq!(emitter.post(Tick(2)).unwrap_err().0, Tick(2));
        assert_eq!(emitter.listener_count::<Tick>(), 0);
        assert!(emitter.on("late", |_: &Tick| ()).is_err());
        emitter.drain().await;
        let late = Emitter::new(&Scope::clone(n));
        assert!(!late.is_closed());
        outlives = Some(late);
        Ok(())
    })
    .await
    .unwrap();
    let late = outlives.unwrap();
    assert!(late.emit(Tick(3)).await.is_err(), "an emitter that never had a listener");
    assert_eq!(received.take(), [], "a refused event reaches neither a listener nor `on_dead`");
}

#[tokio::test]
async fn emitter_of_an_ended_scope_is_closed_from_the_start() {
    let mut ended = None;
    scope(async |n: &Nursery| {
        ended = Some(Scope::clone(n));
        Ok(())
    })
    .await
    .unwrap();
    let emitter = Emitter::new(&ended.unwrap());
    assert!(emitter.is_closed());
    assert_eq!(emitter.post(Tick(1)).unwrap_err().0, Tick(1));
    assert!(emitter.next::<Tick>().await.is_err());
}

#[tokio::test]
async fn closed_emitter_hands_a_refused_listener_back() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        emitter.close();
        let (late, listener) = held();
        let refused = emitter.on("late", listener).unwrap_err();
        assert!(is_held(&late));
        drop(refused);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn release_can_emit_to_an_emitter_made_before_its_resource() {
    let (received, said) = (Received::default(), Arc::new(AtomicUsize::new(0)));
    scope(async |n: &Nursery| {
        Scope::builder()
            .run(async |inner: &Nursery| {
                let emitter = Emitter::new(inner);
                emitter.listener("outside").within(n).on(received.by("outside")).unwrap().forever();
                let (last, says) = (emitter.clone(), Arc::clone(&said));
                let close = move |_: u32, _: Exit| async move {
                    says.store(last.emit(Tick(1)).await.unwrap().succeeded(), Ordering::Relaxed);
                };
                inner.acquire("db", async { Ok::<_, ()>(1) }, close).await.unwrap();
                Ok(())
            })
            .await
            .unwrap();
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!((said.load(Ordering::Relaxed), received.take()), (1, vec![("outside", 1)]));
}
