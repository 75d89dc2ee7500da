//! The forms in which callers write their calls compile, and their futures are `Send` where they should be.

use std::cell::Cell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use motet::resilience::{Attempt, DynPipeline, Error, Hedge, Pipeline, Retry};
use motet::task::{Nursery, scope};
use tokio::task::{LocalSet, yield_now};

use super::millis;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

#[derive(Debug, PartialEq)]
struct Failed(&'static str);

async fn fetch(name: &str) -> Result<usize, Failed> {
    yield_now().await;
    if name.is_empty() { Err(Failed("no name")) } else { Ok(name.len()) }
}

macro_rules! pipeline {
    () => {
        Pipeline::new()
            .fallback(async |error: Error<Failed>| Err::<usize, _>(error))
            .timeout(millis(1_000))
            .retry(Retry::new())
            .hedge(Hedge::after(millis(50)))
            .attempt_timeout(millis(100))
    };
}

#[tokio::test(start_paused = true)]
async fn spawned_calls_may_borrow() {
    let pipeline = Arc::new(pipeline!());
    let retry = Retry::new();
    let name = Arc::new("four".to_owned());
    let sum = scope(async |n: &Nursery<Infallible>| {
        let tasks = [
            n.spawn("local", {
                let pipeline = Arc::clone(&pipeline);
                async move {
                    let local = String::from("four");
                    let one = pipeline.run(|| async { fetch(&local).await }).await.unwrap();
                    one + pipeline.run(async || fetch(&local).await).await.unwrap()
                }
            }),
            n.spawn("arc", {
                let (pipeline, name) = (Arc::clone(&pipeline), Arc::clone(&name));
                async move { pipeline.run(|| fetch(&name)).await.unwrap() }
            }),
            n.spawn("attempts", {
                let (pipeline, name) = (Arc::clone(&pipeline), Arc::clone(&name));
                async move {
                    let numbered = pipeline.run_attempts(|attempt: Attempt<'_, Failed>| {
                        let number = attempt.number() as usize;
                        let name = &name;
                        async move { fetch(name).await.map(|length| length * number) }
                    });
                    numbered.await.unwrap()
                }
            }),
            // A lifetime in the error type is allowed here.
            n.spawn("static", {
                let name = Arc::clone(&name);
                async move {
                    let pipeline =
                        Pipeline::new().timeout(millis(100)).retry(Retry::new()).attempt_timeout(millis(10));
                    let length = async || if name.is_empty() { Err("no name") } else { Ok(&*name) };
                    pipeline.run(length).await.unwrap().len()
                }
            }),
            n.spawn("retry", async move { retry.run(|| fetch(&name)).await.unwrap() }),
            n.spawn("owned", {
                let pipeline = Arc::clone(&pipeline);
                let name = String::from("four");
                async move {
                    let owned = || {
                        let name = name.clone();
                        async move { fetch(&name).await }
                    };
                    pipeline.run(owned).await.unwrap()
                }
            }),
        ];
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        Ok(sum)
    });
    assert_eq!(sum.await.unwrap(), 28);
}

/// A trait as `async_trait` expands it.
trait Fetch: Send + Sync {
    fn fetch<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<usize, Failed>>;
    fn count<'a>(&'a self, log: &'a mut Vec<String>) -> BoxFuture<'a, Result<usize, Failed>>;
}

struct Client {
    retry: Retry,
    pipeline: DynPipeline<usize, Failed>,
}

impl Fetch for Client {
    fn fetch<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<usize, Failed>> {
        Box::pin(async move {
            let one = self.retry.run(async || fetch(name).await).await.map_err(|_| Failed("retry"))?;
            let two = self.pipeline.run(|| async move { fetch(name).await }).await;
            Ok(one + two.map_err(|_| Failed("pipeline"))?)
        })
    }

    fn count<'a>(&'a self, log: &'a mut Vec<String>) -> BoxFuture<'a, Result<usize, Failed>> {
        Box::pin(async move {
            let pipeline = Pipeline::new().timeout(millis(10_000)).retry(self.retry.clone());
            let counted = pipeline.run_with(log, |log| {
                Box::pin(async move {
                    yield_now().await;
                    log.push("called".to_owned());
                    if log.len() < 3 { Err(Failed("too few")) } else { Ok(log.len()) }
                })
            });
            let one = counted.await.map_err(|_| Failed("pipeline"))?;
            let two = self.retry.run_with(log, |log| Box::pin(async move { Ok::<_, Failed>(log.len()) }));
            Ok(one + two.await.map_err(|_| Failed("retry"))?)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn method_with_a_boxed_future_may_use_a_policy_of_its_object() {
    let client = Client { retry: Retry::new(), pipeline: pipeline!().boxed() };
    let client: Box<dyn Fetch> = Box::new(client);
    assert_eq!(client.fetch("four").await, Ok(8));
    assert_eq!(client.count(&mut Vec::new()).await, Ok(6));
}

#[tokio::test(start_paused = true)]
async fn generic_code_may_spawn_a_call_of_a_pipeline() {
    fn spawned<F, Fut>(n: &Nursery<Infallible>, operation: F) -> motet::task::Task<usize>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<usize, String>> + Send + 'static,
    {
        let pipeline = Pipeline::new().timeout(millis(100)).retry(Retry::new());
        n.spawn("generic", async move { pipeline.run(operation).await.unwrap() })
    }
    let sum = scope(async |n: &Nursery<Infallible>| {
        let mut calls = 0;
        let counts = move || {
            calls += 1;
            async move { Ok(calls) }
        };
        Ok(spawned(n, counts).await.unwrap())
    });
    assert_eq!(sum.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn operation_that_is_not_send_runs_on_a_local_set() {
    let calls = Rc::new(Cell::new(0));
    let pipeline = Rc::new(pipeline!());
    let set = LocalSet::new();
    let done = set.run_until(async {
        let (calls, pipeline) = (Rc::clone(&calls), Rc::clone(&pipeline));
        let task = tokio::task::spawn_local(async move {
            let counts = || {
                let calls = Rc::clone(&calls);
                async move {
                    yield_now().await;
                    calls.set(calls.get() + 1);
                    if calls.get() < 3 { Err(Failed("too few")) } else { Ok(calls.get()) }
                }
            };
            pipeline.run(counts).await.unwrap()
        });
        task.await.unwrap()
    });
    assert_eq!(done.await, 3);
}

#[tokio::test(start_paused = true)]
async fn run_mut_and_run_with_keep_state_across_cut_off_attempts() {
    let retry = Retry::new().attempts(4).unwrap().attempt_timeout(millis(10));
    let pipeline = Pipeline::new().retry(Retry::new().attempts(4).unwrap()).attempt_timeout(millis(10));
    let mut lengths = Vec::new();
    for alone in [true, false] {
        let mut log = vec![0];
        let mut counts = async || {
            log.push(log.len());
            match log.len() {
                2 => std::future::pending().await,
                3 => Err("too few"),
                enough => Ok(enough),
            }
        };
        let counted =
            if alone { retry.run_mut(&mut counts).await } else { pipeline.run_mut(&mut counts).await };
        lengths.push((counted.unwrap(), log.len()));
        let mut log = Vec::new();
        let counted = pipeline.run_with(&mut log, |log: &mut Vec<u32>| {
            Box::pin(async move {
                log.push(1);
                if log.len() == 1 { std::future::pending().await } else { Ok::<_, &str>(log.len()) }
            })
        });
        lengths.push((counted.await.unwrap(), log.len()));
    }
    assert_eq!(lengths, [(4, 4), (2, 2), (4, 4), (2, 2)]);
}

#[tokio::test(start_paused = true)]
async fn errors_and_values_need_not_be_clone_or_static() {
    struct Odd<'a>(&'a str);
    let text = String::from("borrowed");
    let pipeline = Pipeline::new().timeout(millis(10_000)).retry(Retry::new());
    let first = Cell::new(true);
    let odd = pipeline.run(async || if first.replace(false) { Err(Odd(&text)) } else { Ok(Odd(&text)) });
    assert_eq!(odd.await.ok().unwrap().0, "borrowed");
}

#[tokio::test(start_paused = true)]
async fn boxed_pipelines_of_different_types_share_a_map() {
    let by_name: HashMap<&str, DynPipeline<usize, Failed>> = HashMap::from([
        ("all", pipeline!().boxed()),
        ("none", Pipeline::noop().boxed()),
        (
            "judged",
            Pipeline::new()
                .classify_by(|_: Result<&usize, &Failed>| motet::resilience::Class::success())
                .boxed(),
        ),
    ]);
    for pipeline in by_name.values() {
        assert_eq!(pipeline.clone().run(|| fetch("four")).await.unwrap(), 4);
    }
    // In a spawned task, with a future of an unnamed type.
    let pipeline = by_name["all"].clone();
    let task = scope(async |n: &Nursery<Infallible>| {
        let local = "four".to_owned();
        Ok(n.spawn("dyn", async move { pipeline.run(async || fetch(&local).await).await.unwrap() })
            .await
            .unwrap())
    });
    assert_eq!(task.await.unwrap(), 4);
}
