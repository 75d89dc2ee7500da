//! Random streams, beside what a plain loop makes of them.

use std::time::Duration;

use motet::stream::{StreamCombinators as _, generator};
use motet::task::{Nursery, scope};
use proptest::prelude::*;
use tokio::task::yield_now;
use tokio::time::sleep;
use tokio_stream::StreamExt as _;

use super::{Numbers, block_on};
use crate::notes::Live;

const MS: Duration = Duration::from_millis(1);

/// The wait before an item: none, a yield, or some milliseconds.
#[derive(Debug, Clone, Copy)]
enum Pause {
    No,
    Yield,
    Millis(u8),
}

impl Pause {
    async fn wait(self) {
        match self {
            Self::No => {}
            Self::Yield => yield_now().await,
            Self::Millis(millis) => sleep(MS * millis.into()).await,
        }
    }
}

fn pause() -> impl Strategy<Value = Pause> {
    prop_oneof![6 => Just(Pause::No), 1 => Just(Pause::Yield), 2 => (1_u8..9).prop_map(Pause::Millis)]
}

/// For each item: the wait before it, the time of its work, and `true` if the work panics.
fn items() -> impl Strategy<Value = Vec<(Pause, Pause, bool)>> {
    prop::collection::vec((pause(), pause(), prop::bool::weighted(0.1)), 0..80)
}

proptest! {
    #[test]
    fn par_map_agrees_with_a_sequential_map(
        items in items(),
        workers in 1_usize..6,
        window in prop::option::of(1_usize..20),
        ordered in any::<bool>(),
        leaves_after in prop::option::of(0_usize..40),
    ) {
        let live = Live::default();
        let expected: Vec<_> = (0..items.len()).map(|at| if items[at].2 { Err(at) } else { Ok(at) }).collect();
        let (mut seen, cut) = block_on(async {
            scope(async |n: &Nursery<()>| {
                let (befores, held) = (items.clone(), live.clone());
                let source = generator(async move |mut y| {
                    for (at, (before, ..)) in befores.into_iter().enumerate() {
                        before.wait().await;
                        y.emit((at, held.enter())).await;
                    }
                });
                let map = source.par_map(workers, move |(at, alive)| {
                    let (_, work, panics) = items[at];
                    async move {
                        work.wait().await;
                        if panics {
                            std::panic::resume_unwind(Box::new(at));
                        }
                        drop(alive);
                        at
                    }
                });
                let map = match window {
                    Some(window) => map.window(window),
                    None => map,
                };
                let started = if ordered { map.ordered(n, "map") } else { map.unordered(n, "map") };
                let mut stream = started.map_err(drop).unwrap();
                let mut seen = Vec::new();
                while leaves_after != Some(seen.len()) {
                    match stream.next_or_panic().await {
                        Some(item) => seen.push(item),
                        None => return Ok((seen, false)),
                    }
                }
                // Read to the end, so that an unread panic does not fail the scope.
                let cut = stream.next_or_panic().await.is_some();
                while stream.next_or_panic().await.is_some() {}
                Ok((seen, cut))
            })
            .await
            .unwrap()
        });
        prop_assert_eq!(live.count(), 0);
        if !ordered {
            if cut {
                seen.sort_unstable();
                seen.dedup();
                prop_assert_eq!(Some(seen.len()), leaves_after);
                prop_assert!(seen.iter().all(|item| expected.contains(item)));
                return Ok(());
            }
            seen.sort_unstable();
            let mut expected = expected;
            expected.sort_unstable();
            prop_assert_eq!(seen, expected);
            return Ok(());
        }
        prop_assert!(expected.starts_with(&seen));
        prop_assert!(cut || seen.len() == expected.len());
    }

    #[test]
    fn chunks_within_agrees_with_a_naive_model(
        pauses in prop::collection::vec(0_u64..12, 0..60),
        max_items in 1_usize..6,
        within in 1_u64..20,
    ) {
        // The naive one: item by item with its time.
        let mut expected: Vec<(u64, Vec<usize>)> = Vec::new();
        let (mut now, mut open): (u64, Option<(u64, Vec<usize>)>) = (0, None);
        for (at, pause) in pauses.iter().enumerate() {
            now += pause;
            if let Some((due, chunk)) = open.take_if(|(due, _)| *due < now) {
                expected.push((due, chunk));
            }
            let (_, chunk) = open.get_or_insert_with(|| (now + within, Vec::new()));
            chunk.push(at);
            if let Some((_, chunk)) = open.take_if(|(_, chunk)| chunk.len() == max_items) {
                expected.push((now, chunk));
            }
        }
        expected.extend(open.map(|(_, chunk)| (now, chunk)));
        let seen = block_on(async {
            let begun = tokio::time::Instant::now();
            let source = generator(async |mut y| {
                for (at, pause) in pauses.iter().enumerate() {
                    if *pause > 0 {
                        sleep(MS * *pause as u32).await;
                    }
                    y.emit(at).await;
                }
            });
            let chunks = source.chunks_within(max_items, MS * within as u32).unwrap();
            chunks.map(|chunk| (begun.elapsed().as_millis() as u64, chunk)).collect::<Vec<_>>().await
        });
        // An item and the end of a chunk in the same millisecond: either may be first.
        let same = |seen: &[(u64, Vec<usize>)]| seen == expected;
        let times: Vec<u64> = pauses.iter().scan(0, |now, pause| { *now += pause; Some(*now) }).collect();
        let tie = expected.iter().any(|(due, _)| times.contains(due));
        if !same(&seen) {
            prop_assert!(tie, "{:?} is not {:?}", seen, expected);
            let all: Vec<usize> = seen.iter().flat_map(|(_, chunk)| chunk.clone()).collect();
            prop_assert_eq!(all, (0..pauses.len()).collect::<Vec<_>>());
            for (at, chunk) in &seen {
                prop_assert!(!chunk.is_empty() && chunk.len() <= max_items);
                prop_assert!(*at <= times[chunk[0]] + within);
            }
        }
    }
}
