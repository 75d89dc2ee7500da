//! Bodies made of random steps, beside what they should emit.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;

use motet::stream::{Yielder, try_generator};
use motet::task::gather;
use proptest::prelude::*;

use super::poll_once;

#[derive(Debug, Clone)]
enum Step {
    Emit,
    /// Polled a single time, and dropped.
    EmitAndDrop,
    EmitInGather,
    /// The reader polls once more than there are items.
    Wait,
    /// As many items of another generator, which waits in between.
    All(u8),
    /// The yielder goes down into a generator, which emits with it, and comes back.
    FromWithin,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Returns,
    Fails,
    Panics,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Emit),
        1 => Just(Step::EmitAndDrop),
        1 => Just(Step::EmitInGather),
        2 => Just(Step::Wait),
        1 => (0_u8..4).prop_map(Step::All),
        1 => Just(Step::FromWithin),
    ]
}

async fn wait() {
    let mut waited = false;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn body(mut y: Yielder<usize>, steps: Vec<Step>, end: End) -> Result<(), &'static str> {
    let mut next = 0;
    let mut number = || {
        next += 1;
        next
    };
    // An emitted item whose future was dropped may still be in the slot; the next emit waits for it.
    for step in steps {
        match step {
            Step::Emit => y.emit(number()).await,
            Step::EmitAndDrop => {
                // So that there is a place.
                wait().await;
                let mut emit = y.emit(number());
                poll_fn(|cx| {
                    assert!(Pin::new(&mut emit).poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
            }
            Step::EmitInGather => {
                let number = number();
                gather([async { y.emit(number).await }]).await;
            }
            Step::Wait => wait().await,
            Step::All(count) => {
                let numbers: Vec<_> = (0..count).map(|_| number()).collect();
                let inner = try_generator(async |mut y| {
                    for number in numbers {
                        wait().await;
                        y.emit(number).await;
                    }
                    Ok::<_, &str>(())
                });
                y.try_emit_all(inner).await?;
            }
            Step::FromWithin => {
                let number = number();
                let mut inner = pin!(try_generator(async |_: Yielder<()>| {
                    y.emit(number).await;
                    Err::<(), _>(())
                }));
                let item = poll_fn(|cx| futures_core::Stream::poll_next(inner.as_mut(), cx)).await;
                assert_eq!(item, Some(Err(())));
            }
        }
    }
    match end {
        End::Returns => Ok(()),
        End::Fails => Err("failed"),
        End::Panics => panic!("panicked"),
    }
}

proptest! {
    #[test]
    fn generator_with_random_steps_yields_its_items_once_in_order(
        steps in prop::collection::vec(step(), 0..12),
        end in prop_oneof![Just(End::Returns), Just(End::Fails), Just(End::Panics)],
    ) {
        let count: usize = steps.iter().map(|step| match step {
            Step::Wait => 0,
            Step::All(count) => usize::from(*count),
            _ => 1,
        }).sum();
        let mut stream = pin!(try_generator(|y| body(y, steps, end)));
        let (mut seen, mut panics, mut ended) = (Vec::new(), 0, false);
        for _ in 0..1_000 {
            match catch_unwind(AssertUnwindSafe(|| poll_once(stream.as_mut()))) {
                Ok(Poll::Ready(Some(item))) => {
                    prop_assert!(!ended);
                    seen.push(item);
                }
                Ok(Poll::Ready(None)) => ended = true,
                Ok(Poll::Pending) => prop_assert!(!ended),
                Err(_) => panics += 1,
            }
        }
        prop_assert!(ended);
        let mut expected: Vec<_> = (1..=count).map(Ok).collect();
        expected.extend((end == End::Fails).then_some(Err("failed")));
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(panics, usize::from(end == End::Panics));
    }
}
