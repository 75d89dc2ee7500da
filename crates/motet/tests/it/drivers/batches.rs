//! Drives batchers and loaders.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::batch::{Batcher, LoadError, Loader, PostError, SubmitError};
use motet::task::{CancelToken, Nursery, Reason, Scope, detach, drain, timeout};
use motet_testkit::cancel::Outcome;
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::{Driver, draw, millis, passes, swept};

pub(super) const BATCHER: Driver = Driver {
    drives: &[
        "batch::Batcher::submit",
        "batch::Batcher::post",
        "batch::Batcher::flush",
        "batch::Batcher::close",
    ],
    cancel: cancel_batcher,
    sweep: sweep_batcher,
};

pub(super) const LOADER: Driver = Driver {
    drives: &["batch::Loader::load", "batch::Loader::flush", "batch::Loader::close"],
    cancel: cancel_loader,
    sweep: sweep_loader,
};

#[test]
fn batcher_caller_dropped_anywhere_does_not_affect_others() {
    cancel_batcher();
}

#[test]
fn every_order_gives_each_caller_the_answer_to_its_item() {
    passes(sweep_batcher);
}

#[test]
fn load_dropped_anywhere_lets_other_callers_get_their_values() {
    cancel_loader();
}

#[test]
fn every_order_answers_loads_and_puts_no_key_in_a_batch_twice() {
    passes(sweep_loader);
}

/// A batcher or loader in a scope that continues when its caller is dropped.
struct Hosted<B> {
    batches: B,
    end: CancelToken,
    handled: Handled,
}

/// The items that the handler got, batch by batch.
#[derive(Clone, Default)]
struct Handled(Arc<Mutex<Vec<Vec<u32>>>>);

impl Handled {
    fn note(&self, items: Vec<u32>) {
        self.0.lock().unwrap().push(items);
    }

    fn times(&self, item: u32) -> usize {
        self.0.lock().unwrap().iter().flatten().filter(|handled| **handled == item).count()
    }
}

async fn hosted<B: Clone + Send + 'static>(
    open: impl FnOnce(&Scope, Handled) -> B + Send + 'static,
) -> Hosted<B> {
    let (give, given) = oneshot::channel();
    let (end, handled) = (CancelToken::new(), Handled::default());
    let (token, noting) = (end.clone(), handled.clone());
    detach("host", async move {
        let ended = Scope::builder().run_send(async move |n: &Nursery| {
            drop(give.send(open(n, noting)));
            token.cancelled().await;
            Ok(())
        });
        ended.await.unwrap();
    });
    Hosted { batches: given.await.unwrap(), end, handled }
}

fn cancel_batcher() {
    let report = cancel_everywhere(
        async || {
            hosted(|scope, handled| {
                Batcher::builder(scope)
                    .max_items(3)
                    .max_waiting(3)
                    .max_in_flight(1)
                    .max_delay(millis(10))
                    .build(move |items: Vec<u32>| {
                        handled.note(items.clone());
                        async move {
                            sleep(millis(3)).await;
                            items.into_iter().map(|item| Ok::<_, &str>(item + 1)).collect::<Vec<_>>()
                        }
                    })
                    .unwrap()
            })
            .await
        },
        async |host| {
            let batcher = &host.batches;
            // Neighbours that are not dropped: they are tasks of their own.
            for item in [10, 20] {
                let (batcher, handled) = (batcher.clone(), host.handled.clone());
                detach("neighbour", async move {
                    assert_eq!(batcher.submit(item).await.unwrap(), item + 1);
                    handled.note(vec![item + 100]);
                });
            }
            yield_now().await;
            assert_eq!(batcher.submit(1).await.unwrap(), 2);
            batcher.post(3).await.unwrap();
            batcher.flush().await;
            assert_eq!(host.handled.times(3), 1);
            batcher.post(4).await.unwrap();
            batcher.close().await;
        },
        async |host, outcome| {
            host.batches.flush().await;
            sleep(millis(50)).await;
            let (handled, stats) = (&host.handled, host.batches.stats());
            assert_eq!((stats.waiting, stats.in_flight, stats.in_line), (0, 0, 0));
            for item in [10, 20] {
                assert_eq!(
                    handled.times(item),
                    handled.times(item + 100),
                    "an item is answered if and only if it was handled"
                );
            }
            let all = outcome == Outcome::Completed(());
            for item in [1, 3, 4, 10, 20] {
                assert!(handled.times(item) <= 1 && (!all || handled.times(item) == 1), "{item}");
            }
            if matches!(outcome, Outcome::Dropped { suspensions } if suspensions > 0) {
                assert_eq!((handled.times(10), handled.times(20)), (1, 1), "a neighbour has no answer");
            }
            host.end.cancel(Reason::requested("the run is over"));
            drain().await;
        },
    );
    assert!(report.points() > 6, "{report:?}");
}

/// The answer of the handler to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Value(u32),
    Failed(u32),
    BatchFailed(u32),
    Panicked,
    Mismatch,
    Never,
}

/// The settings that are drawn for a run.
#[derive(Debug, Clone, Copy)]
struct Drawn {
    max_items: usize,
    in_flight: usize,
    delay: Option<Duration>,
    trouble: bool,
    slow: u64,
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<u32, Said>>>, Arc<Mutex<usize>>);

/// The handler: it checks that limits hold, and records its answers.
async fn handle(items: Vec<(u32, Instant)>, drawn: Drawn, seen: Seen) -> Result<Vec<Result<u32, u32>>, u32> {
    assert!(!items.is_empty() && items.len() <= drawn.max_items);
    if let (Some(delay), true) = (drawn.delay, drawn.in_flight > 50) {
        let oldest = items.iter().map(|item| item.1.elapsed()).max().unwrap();
        motet::always!(
            oldest <= delay + millis(2),
            "no batch waits longer than its delay from its first item"
        );
    }
    let running = {
        let mut running = seen.1.lock().unwrap();
        *running += 1;
        *running
    };
    motet::always!(running <= drawn.in_flight, "the number of batches in flight stays within its limit");
    struct Out(Seen);
    impl Drop for Out {
        fn drop(&mut self) {
            *self.0.1.lock().unwrap() -= 1;
        }
    }
    let _out = Out(seen.clone());
    let end = if drawn.trouble { draw(8) } else { 7 };
    for (id, _) in &items {
        let said = match end {
            0 => Said::Panicked,
            1 => Said::Mismatch,
            2 => Said::BatchFailed(items.len() as u32),
            _ if id % 3 == 0 => Said::Failed(id * 10),
            _ => Said::Value(id * 10),
        };
        let before = seen.0.lock().unwrap().insert(*id, said);
        motet::always!(before.is_none(), "no item is in two batches");
    }
    sleep(millis(draw(drawn.slow))).await;
    match end {
        0 => panic!("a bug in the handler"),
        1 => Ok(vec![Ok(1); items.len() + 1]),
        2 => Err(items.len() as u32),
        _ => Ok(items
            .into_iter()
            .map(|(id, _)| if id % 3 == 0 { Err(id * 10) } else { Ok(id * 10) })
            .collect()),
    }
}

type Item = (u32, Instant);

/// The number of ways in which the batcher ends.
const ENDS: u64 = 5;

fn sweep_batcher(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let drawn = Drawn {
            max_items: 1 + draw(5) as usize,
            in_flight: [1, 2, 3, 100][draw(4) as usize],
            delay: (draw(3) > 0).then(|| millis(draw(10))),
            trouble: draw(2) == 0,
            slow: 1 + draw(12),
        };
        let in_line = [0, 1, 3, 100][draw(4) as usize];
        let (eager, waiting, end) = (draw(4) == 0, drawn.max_items + draw(4) as usize, draw(ENDS));
        let seen = Seen::default();
        let options = Scope::builder().policy(motet::task::Policy::Isolate);
        let ran = options.run(async |outer: &Nursery| {
            let (give, given) = oneshot::channel();
            let ending = CancelToken::new();
            let (token, handling) = (ending.clone(), seen.clone());
            let host = outer.spawn("host", async move {
                Scope::builder()
                    .run_send(async move |n: &Nursery| {
                        let builder = Batcher::builder(n).name("swept").max_items(drawn.max_items);
                        let builder = builder.max_in_flight(drawn.in_flight).max_waiting(waiting);
                        let builder = builder.max_in_line(in_line);
                        let builder = if eager { builder.eager() } else { builder };
                        let handler = move |items: Vec<Item>| handle(items, drawn, handling.clone());
                        let batcher = builder.max_delay(drawn.delay).build(handler).unwrap();
                        drop(give.send(batcher));
                        let reason = token.cancelled().await.clone();
                        if reason.text() == Some("cancel") {
                            n.cancel(Reason::requested("the service stops"));
                        }
                        Ok(())
                    })
                    .await
            });
            let batcher: Batcher<Item, u32, u32> = given.await.unwrap();
            let callers: Vec<_> = (0..12)
                .map(|id| {
                    let (batcher, seen) = (batcher.clone(), seen.clone());
                    let (at, patience) = (draw(15), if draw(3) == 0 { draw(8) } else { 2_000 });
                    outer.spawn("caller", async move {
                        sleep(millis(at)).await;
                        let begin = Instant::now();
                        let asked = timeout(millis(patience), batcher.submit((id, begin))).await;
                        // A wait that times out may find the answer at that very moment.
                        assert!(begin.elapsed() < millis(1_000), "a caller is not woken");
                        judge(id, patience, asked.ok(), &seen);
                        motet::always!(
                            batcher.stats().in_line <= in_line,
                            "the number of callers in line stays within its limit"
                        );
                    })
                })
                .collect();
            let posters: Vec<_> = (100..104)
                .map(|id| {
                    let (batcher, at) = (batcher.clone(), draw(15));
                    outer.spawn("poster", async move {
                        sleep(millis(at)).await;
                        match timeout(millis(2_000), batcher.post((id, Instant::now()))).await {
                            Ok(Ok(())) => true,
                            Ok(Err(PostError::Closed((back, _)) | PostError::Full((back, _))))
                                if back == id =>
                            {
                                false
                            }
                            other => panic!("a post waits without end, or returns another item: {other:?}"),
                        }
                    })
                })
                .collect();
            sleep(millis(10 + draw(20))).await;
            // Without a delay, only this call runs the remaining items.
            batcher.flush().await;
            sleep(millis(draw(15))).await;
            let stats = batcher.clone();
            match end {
                0 => {
                    batcher.close().await;
                    let stats = batcher.stats();
                    motet::always!((stats.waiting, stats.in_flight) == (0, 0), "closed means drained");
                }
                1 => ending.cancel(Reason::requested("cancel")),
                2 => ending.cancel(Reason::requested("end")),
                _ => {
                    sleep(millis(20)).await;
                    batcher.flush().await;
                }
            }
            for caller in callers {
                caller.await.unwrap();
            }
            let mut posted = Vec::new();
            for (poster, id) in posters.into_iter().zip(100..) {
                if poster.await.unwrap() {
                    posted.push(id);
                }
            }
            let failed_posts = |stats: &Batcher<Item, u32, u32>| stats.stats().failed_posts;
            if end == 3 {
                // The last handles are dropped: posted items run, though no handle is left.
                if batcher.try_post((110, Instant::now())).is_ok() {
                    posted.push(110);
                }
                drop((batcher, stats));
                sleep(millis(200)).await;
                let is_handled = |id| seen.0.lock().unwrap().contains_key(id);
                assert!(posted.iter().all(is_handled), "a posted item is lost with its handle");
                ending.cancel(Reason::requested("end"));
                drop(host.await);
                return Ok(());
            }
            ending.cancel(Reason::requested("end"));
            drop(host.await);
            let handled = seen.0.lock().unwrap().clone();
            let lost = posted.iter().filter(|id| !handled.contains_key(id)).count() as u64;
            let failed = posted
                .iter()
                .filter(|id| handled.get(id).is_some_and(|said| !matches!(said, Said::Value(_))));
            let failed = failed.count() as u64;
            let now = stats.stats();
            assert_eq!(
                (now.waiting, now.in_flight, now.in_line),
                (0, 0, 0),
                "items, batches or callers are left"
            );
            if end == 1 {
                // A batch that ran when it was cancelled counts as failed, whatever its handler would have returned.
                assert!(
                    failed_posts(&stats) >= lost,
                    "{lost} posts are lost, and {} are counted",
                    failed_posts(&stats)
                );
            } else {
                assert_eq!((lost, failed_posts(&stats)), (0, failed), "posts or their failures are lost");
            }
            motet::sometimes!(end == 1 && lost > 0, "a post is lost with its scope, and counted");
            Ok(())
        });
        ran.await.unwrap();
    })
}

/// Checks that each caller gets one answer: the handler's answer to its item, or the item.
fn judge(id: u32, patience: u64, asked: Option<Result<u32, SubmitError<Item, u32>>>, seen: &Seen) {
    let said = seen.0.lock().unwrap().get(&id).copied().unwrap_or(Said::Never);
    let Some(answer) = asked else {
        assert!(patience < 2_000, "a caller waits without end, and the answer is {said:?}");
        motet::sometimes!(said == Said::Never, "an item is removed with its caller");
        return;
    };
    let fits = match (&answer, said) {
        (Ok(value), Said::Value(expected)) => *value == expected,
        (Err(SubmitError::Failed(error)), Said::Failed(expected)) => *error == expected,
        (Err(SubmitError::BatchFailed(error)), Said::BatchFailed(expected)) => **error == expected,
        (Err(SubmitError::Panicked(message)), Said::Panicked) => &**message == "a bug in the handler",
        (Err(SubmitError::Mismatch { items, answers }), Said::Mismatch) => *answers == items + 1,
        (Err(SubmitError::Closed((back, _)) | SubmitError::Full((back, _))), Said::Never) => *back == id,
        // The batch had begun: the handler's answer is lost.
        (Err(SubmitError::Cancelled), said) => said != Said::Never,
        _ => false,
    };
    motet::sometimes!(matches!(answer, Err(SubmitError::Cancelled)), "a batch is cancelled while it runs");
    motet::sometimes!(matches!(answer, Err(SubmitError::Closed(_))), "an item is handed back");
    motet::sometimes!(matches!(answer, Err(SubmitError::Full(_))), "a caller is refused");
    motet::sometimes!(matches!(answer, Err(SubmitError::Panicked(_))), "the handler panics");
    assert!(fits, "the handler answered {said:?}, and the caller got {answer:?}");
}

/// A key type in which many keys have the same hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key(u32);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 % 2).hash(state);
    }
}

fn lookup(keys: Vec<Key>, handled: &Handled) -> Vec<Result<u32, u32>> {
    let mut distinct: Vec<u32> = keys.iter().map(|key| key.0).collect();
    handled.note(distinct.clone());
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), keys.len(), "a key is in a batch twice");
    keys.into_iter().map(|key| if key.0 == 3 { Err(key.0) } else { Ok(key.0 * 10) }).collect()
}

fn fits(key: u32, loaded: &Result<Arc<u32>, LoadError<Key, u32>>) -> bool {
    match loaded {
        Ok(value) => key != 3 && **value == key * 10,
        Err(LoadError::Failed(error)) => key == 3 && **error == 3,
        Err(LoadError::Closed(back)) => back.0 == key,
        Err(_) => false,
    }
}

fn cancel_loader() {
    cancel_everywhere(
        async || {
            hosted(|scope, handled| {
                let loader = Loader::builder(scope).max_items(3).max_delay(millis(10));
                let handler = move |keys: Vec<Key>| {
                    let answers = lookup(keys, &handled);
                    async move {
                        sleep(millis(2)).await;
                        answers
                    }
                };
                loader.build(handler).unwrap()
            })
            .await
        },
        async |host| {
            let loader: &Loader<Key, u32, u32> = &host.batches;
            for key in [1, 2] {
                let (loader, handled) = (loader.clone(), host.handled.clone());
                detach("neighbour", async move {
                    let loaded = loader.load(Key(key)).await;
                    assert!(fits(key, &loaded) && loaded.is_ok());
                    handled.note(vec![key + 100]);
                });
            }
            yield_now().await;
            assert_eq!(*loader.load(Key(1)).await.unwrap(), 10);
            assert_eq!(host.handled.times(1), 1, "the key was looked up once");
            assert!(loader.load(Key(3)).await.is_err());
            loader.flush().await;
            loader.close().await;
        },
        async |host, outcome| {
            sleep(millis(50)).await;
            if outcome != (Outcome::Dropped { suspensions: 0 }) {
                assert_eq!(
                    (host.handled.times(101), host.handled.times(102)),
                    (1, 1),
                    "neighbours are answered"
                );
            }
            let stats = host.batches.stats();
            assert_eq!((stats.waiting, stats.in_flight, stats.in_line), (0, 0, 0));
            host.end.cancel(Reason::requested("the run is over"));
            drain().await;
        },
    );
}

fn sweep_loader(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let handled = Handled::default();
        let max_keys = 1 + draw(4) as usize;
        let (waiting, in_flight, delay, slow) =
            (max_keys + draw(3) as usize, 1 + draw(3) as usize, millis(draw(8)), 1 + draw(6));
        let ran = Scope::builder().run(async |n: &Nursery| {
            let noting = handled.clone();
            let builder = Loader::builder(n).max_items(max_keys).max_waiting(waiting);
            let builder = builder.max_in_flight(in_flight).max_delay(delay);
            let loader = builder
                .build(move |keys: Vec<Key>| {
                    assert!(keys.len() <= max_keys);
                    let answers = lookup(keys, &noting);
                    async move {
                        sleep(millis(draw(slow))).await;
                        answers
                    }
                })
                .unwrap();
            let closes = draw(2) == 0;
            let callers: Vec<_> = (0..14)
                .map(|caller| {
                    let (loader, key, at) = (loader.clone(), caller % 5, draw(8));
                    let patience = if draw(3) == 0 { draw(8) } else { 2_000 };
                    n.spawn("caller", async move {
                        sleep(millis(at)).await;
                        let begin = Instant::now();
                        let loaded = timeout(millis(patience), loader.load(Key(key))).await;
                        assert!(begin.elapsed() < millis(1_000), "a caller is not woken");
                        match loaded {
                            Ok(Err(LoadError::Closed(_))) if !closes => panic!("the loader is not closed"),
                            Ok(loaded) => assert!(fits(key, &loaded), "{loaded:?}"),
                            Err(_) => assert!(patience < 2_000, "a caller waits without end"),
                        }
                    })
                })
                .collect();
            sleep(millis(draw(12))).await;
            if closes {
                loader.close().await;
            }
            for caller in callers {
                caller.await.unwrap();
            }
            loader.flush().await;
            let stats = loader.stats();
            assert_eq!((stats.waiting, stats.in_flight, stats.in_line), (0, 0, 0));
            let asked = handled.0.lock().unwrap().iter().flatten().count();
            motet::sometimes!(!closes && asked < 14, "a key is asked for once for many");
            Ok(())
        });
        ran.await.unwrap();
    })
}
