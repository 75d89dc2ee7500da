//! Generators: the slot between body and stream, whatever becomes of either.

use std::future::{Future, poll_fn};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures_core::{FusedStream, Stream};
use motet::stream::{Yielder, generator, try_generator};
use motet::task::{gather, local_scope, timeout};
use tokio::task::yield_now;
use tokio_stream::StreamExt as _;

use super::{block_on, poll_once};
use crate::notes::Live;

fn message(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast_ref::<&str>().unwrap()).to_owned(),
    }
}

/// Polls an emit a single time.
async fn begin(emit: &mut (impl Future<Output = ()> + Unpin)) {
    poll_fn(|cx| {
        assert!(Pin::new(&mut *emit).poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[test]
fn ended_generator_yields_none_for_ever() {
    let mut stream = pin!(generator(async |mut y| {
        y.emit(1).await;
        y.emit(2).await;
    }));
    assert!(!stream.is_terminated());
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(Some(1)));
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(Some(2)));
    for _ in 0..3 {
        assert_eq!(poll_once(stream.as_mut()), Poll::Ready(None));
        assert!(stream.is_terminated());
        assert_eq!(stream.size_hint(), (0, Some(0)));
    }
}

#[test]
fn error_of_a_try_generator_follows_its_items_once() {
    let mut stream = pin!(try_generator(async |mut y| {
        y.emit(1).await;
        // Emitted by a future that is not awaited to its end.
        begin(&mut y.emit(2)).await;
        Err("no more")?;
        y.emit(3).await;
        Ok(())
    }));
    let expected = [Some(Ok(1)), Some(Ok(2)), Some(Err("no more")), None, None];
    for item in expected {
        assert!(!stream.is_terminated() || item.is_none());
        assert_eq!(poll_once(stream.as_mut()), Poll::Ready(item));
    }
}

#[test]
fn dropped_emit_yields_its_item_after_the_body_ends_or_panics() {
    let mut stream = pin!(generator(async |mut y| begin(&mut y.emit(1)).await));
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(Some(1)));
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(None));

    let mut stream = pin!(generator(async |mut y| {
        begin(&mut y.emit(1)).await;
        panic!("after it was emitted");
    }));
    let payload = catch_unwind(AssertUnwindSafe(|| poll_once(stream.as_mut()))).unwrap_err();
    assert_eq!(message(payload), "after it was emitted");
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(Some(1)));
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(None));
}

#[test]
fn generator_runs_on_demand_and_drops_its_body() {
    for read in 0..6 {
        let (live, emitted) = (Live::default(), AtomicUsize::new(0));
        {
            let mut stream = pin!(generator(async |mut y| {
                let _held = live.enter();
                for _ in 0..4 {
                    emitted.fetch_add(1, Ordering::Relaxed);
                    y.emit(live.enter()).await;
                }
            }));
            let taken: Vec<_> = (0..read)
                .filter_map(|_| match poll_once(stream.as_mut()) {
                    Poll::Ready(item) => item,
                    Poll::Pending => panic!("it never waits"),
                })
                .collect();
            assert_eq!(taken.len(), read.min(4));
            assert_eq!(emitted.load(Ordering::Relaxed), read.min(4), "it runs when it is asked");
            let body = usize::from((1..=4).contains(&read));
            assert_eq!(live.count(), taken.len() + body);
        }
        assert_eq!(live.count(), 0, "after {read} items");
    }
}

#[test]
fn generator_ends_with_a_panic_of_its_body() {
    let live = Live::default();
    let mut stream = pin!(generator(async |mut y| {
        let _held = live.enter();
        y.emit(1).await;
        panic!("in the body");
    }));
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(Some(1)));
    let payload = catch_unwind(AssertUnwindSafe(|| poll_once(stream.as_mut()))).unwrap_err();
    assert_eq!(message(payload), "in the body");
    assert!(stream.is_terminated());
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(None));
    assert_eq!(live.count(), 0);
    // The chain of frames is as it was: an emit elsewhere does not find the one that unwound.
    let mut after = pin!(generator(async |mut y| y.emit("fine").await));
    assert_eq!(poll_once(after.as_mut()), Poll::Ready(Some("fine")));
}

#[test]
fn outer_generator_continues_after_a_caught_inner_panic() {
    let outer = generator(async |mut y| {
        let mut inner = pin!(generator(async |mut inner: Yielder<u8>| {
            inner.emit(1).await;
            panic!("inner");
        }));
        loop {
            match catch_unwind(AssertUnwindSafe(|| poll_once(inner.as_mut()))) {
                Ok(Poll::Ready(Some(item))) => y.emit(item).await,
                Ok(_) => break,
                Err(_) => y.emit(99).await,
            }
        }
    });
    assert_eq!(block_on(outer.collect::<Vec<_>>()), [1, 99]);
}

#[test]
fn nested_generators_keep_their_items_apart() {
    let numbers = generator(async |mut y| {
        for number in 0..5 {
            yield_now().await;
            y.emit(number).await;
        }
    });
    let doubled = generator(async move |mut y| {
        let mut numbers = pin!(numbers);
        while let Some(number) = numbers.next().await {
            y.emit(number * 2).await;
            y.emit(number * 2 + 1).await;
        }
    });
    let words = generator(async move |mut y| {
        y.emit("begin".to_owned()).await;
        y.emit_all(doubled.map(|number| number.to_string())).await;
    });
    assert_eq!(block_on(words.collect::<Vec<_>>()).join(" "), "begin 0 1 2 3 4 5 6 7 8 9");
}

#[test]
fn outer_yielder_in_an_inner_body_emits_to_the_outer_stream() {
    let outer = generator(async |mut y| {
        let inner = generator(async |mut inner: Yielder<u64>| {
            y.emit("outer").await;
            inner.emit(1).await;
            y.emit("outer again").await;
            inner.emit(2).await;
        });
        assert_eq!(inner.collect::<Vec<_>>().await, [1, 2]);
    });
    assert_eq!(block_on(outer.collect::<Vec<_>>()), ["outer", "outer again"]);
}

#[test]
fn recursive_generator_yields_in_order() {
    fn tree(depth: u32) -> Pin<Box<dyn Stream<Item = u32> + Send>> {
        Box::pin(generator(async move |mut y| {
            if depth > 0 {
                y.emit_all(tree(depth - 1)).await;
                y.emit(depth).await;
                y.emit_all(tree(depth - 1)).await;
            }
        }))
    }
    assert_eq!(block_on(tree(3).collect::<Vec<_>>()), [1, 2, 1, 3, 1, 2, 1]);
}

#[test]
fn generator_may_move_between_threads_between_polls() {
    let mut stream: Pin<Box<dyn Stream<Item = usize> + Send>> = Box::pin(generator(async |mut y| {
        for number in 0..20 {
            y.emit(number).await;
        }
    }));
    for number in 0..20 {
        let polled = thread::spawn(move || {
            // Within a generator of that thread, every other time.
            let mut item = Poll::Pending;
            if number % 2 == 0 {
                let around = generator(async |mut y| {
                    item = poll_fn(|cx| Poll::Ready(stream.as_mut().poll_next(cx))).await;
                    y.emit(()).await;
                });
                let mut around = Box::pin(around);
                assert_eq!(poll_once(around.as_mut()), Poll::Ready(Some(())));
                drop(around);
            } else {
                item = poll_once(stream.as_mut());
            }
            (stream, item)
        });
        let (back, item) = polled.join().unwrap();
        stream = back;
        assert_eq!(item, Poll::Ready(Some(number)));
    }
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(None));
}

fn smuggled<T: 'static>() -> Yielder<T> {
    let out = Mutex::new(None);
    {
        let mut stream = pin!(generator(async |y| *out.lock().unwrap() = Some(y)));
        assert!(matches!(poll_once(stream.as_mut()), Poll::Ready(None)));
    }
    out.into_inner().unwrap().unwrap()
}

#[test]
fn emit_outside_of_its_generator_panics() {
    let mut yielder = smuggled::<u32>();
    let payload = catch_unwind(AssertUnwindSafe(|| block_on(yielder.emit(1)))).unwrap_err();
    assert!(message(payload).starts_with("an item was emitted outside of its generator"));
}

/// With streams known by their address, this wrote two numbers into a slot for text.
#[test]
fn emit_in_another_generator_panics() {
    let mut yielder = smuggled::<(usize, usize)>();
    for _ in 0..100 {
        let mut other = pin!(generator(async |mut y: Yielder<&'static str>| {
            yielder.emit((1, 1)).await;
            y.emit("text").await;
        }));
        let payload = catch_unwind(AssertUnwindSafe(|| poll_once(other.as_mut()))).unwrap_err();
        assert!(message(payload).starts_with("an item was emitted outside"));
        assert_eq!(poll_once(other.as_mut()), Poll::Ready(None));
    }
}

#[test]
fn emit_on_another_thread_panics() {
    let mut stream = pin!(generator(async |mut y: Yielder<u32>| {
        let panicked = thread::scope(|threads| {
            let emits = || catch_unwind(AssertUnwindSafe(|| block_on(y.emit(1))));
            threads.spawn(emits).join().unwrap()
        });
        assert!(message(panicked.unwrap_err()).starts_with("an item was emitted outside"));
        y.emit(2).await;
    }));
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(Some(2)));
}

#[test]
fn dropped_or_leaked_emits_yield_in_order_if_they_had_room() {
    let stream = generator(async |mut y| {
        begin(&mut y.emit(1)).await;
        y.emit(2).await;
        // Never polled: never emitted.
        drop(y.emit(0));
        let mut leaked = ManuallyDrop::new(y.emit(3));
        begin(&mut *leaked).await;
        // There is no place for it in this turn.
        let mut late = y.emit(4);
        begin(&mut late).await;
        begin(&mut late).await;
        late.await;
        // And one that is dropped before there is a place takes its item with it.
        begin(&mut y.emit(5)).await;
        begin(&mut y.emit(0)).await;
    });
    assert_eq!(block_on(stream.collect::<Vec<_>>()), [1, 2, 3, 4, 5]);
}

#[test]
fn emit_returns_only_after_its_item_is_taken() {
    let taken = AtomicUsize::new(0);
    let stream = generator(async |mut y| {
        for number in 1..4 {
            let mut emit = y.emit(number);
            begin(&mut emit).await;
            // Again, in the same turn.
            begin(&mut emit).await;
            emit.await;
            assert_eq!(taken.load(Ordering::Relaxed), number);
        }
    });
    block_on(async {
        let mut stream = pin!(stream);
        while let Some(number) = stream.next().await {
            taken.store(number, Ordering::Relaxed);
        }
    });
}

/// Executors of the body's own poll a future again only when it is woken.
#[test]
fn emit_in_gather_or_a_local_scope_is_woken() {
    let stream = generator(async |mut y| {
        gather([async {
            y.emit(1).await;
            y.emit(2).await;
        }])
        .await;
        let y = Mutex::new(y);
        local_scope(async |n| {
            let emits = n.spawn(async {
                let mut y = std::mem::replace(&mut *y.lock().unwrap(), smuggled());
                for number in 3..6 {
                    y.emit(number).await;
                    yield_now().await;
                }
            });
            n.spawn(async { yield_now().await });
            emits.await;
        })
        .await;
    });
    let read = async {
        let mut stream = pin!(stream);
        let mut items = Vec::new();
        while let Some(item) = stream.next().await {
            items.push(item);
            yield_now().await;
        }
        items
    };
    let read = block_on(async { timeout(Duration::from_secs(5), read).await });
    assert_eq!(read.expect("it is woken"), [1, 2, 3, 4, 5]);
}

#[test]
fn emit_from_a_waker_panics_and_adds_no_item_to_the_stream() {
    struct Evil(Mutex<Option<Yielder<u32>>>);
    impl Wake for Evil {
        fn wake(self: Arc<Self>) {
            let mut inner = self.0.lock().unwrap().take();
            if let Some(y) = &mut inner {
                // Outside: the body is not being polled.
                let polled = catch_unwind(AssertUnwindSafe(|| {
                    let mut emit = y.emit(7);
                    Pin::new(&mut emit).poll(&mut Context::from_waker(Waker::noop())).is_pending()
                }));
                assert!(polled.is_err());
            }
        }
    }
    let evil = Arc::new(Evil(Mutex::new(None)));
    let waker = Waker::from(Arc::clone(&evil));
    let mut stream = pin!(generator(async |mut y| {
        let mut emit = ManuallyDrop::new(y.emit(1));
        poll_fn(|_| {
            assert!(Pin::new(&mut *emit).poll(&mut Context::from_waker(&waker)).is_pending());
            Poll::Ready(())
        })
        .await;
        *evil.0.lock().unwrap() = Some(y);
        let mut turns = 0;
        poll_fn(|_| {
            turns += 1;
            if turns > 1 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }));
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(Some(1)));
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(None));
    assert!(evil.0.lock().unwrap().is_none(), "it was woken when its item had been taken");
}

#[test]
fn endless_generator_lets_other_tasks_run() {
    block_on(async {
        let (told, tells) = mpsc::channel();
        #[allow(clippy::disallowed_methods, reason = "a task beside the reader")]
        let other = tokio::spawn(async move { told.send(()).unwrap() });
        let mut stream = pin!(generator(async |mut y| loop {
            y.emit(()).await;
        }));
        while tells.try_recv().is_err() {
            assert_eq!(stream.next().await, Some(()));
        }
        other.await.unwrap();
    });
}

#[test]
fn generator_is_send() {
    fn sends<T: Send>(value: T) -> T {
        value
    }
    let stream = sends(generator(async |mut y| {
        yield_now().await;
        y.emit(String::from("sent")).await;
    }));
    block_on(async {
        #[allow(clippy::disallowed_methods, reason = "another task")]
        let read = tokio::spawn(async move { stream.collect::<Vec<_>>().await });
        assert_eq!(read.await.unwrap(), ["sent"]);
    });
}
