//! Containers of random graphs: whatever fails, hangs, panics or is dropped, each built component is stopped once, in
//! reverse order.

use std::future::pending;
use std::sync::{Arc, Mutex};

use motet::container::{Container, Health, StartError};
use motet::task::{Nursery, Reason, Scope, drain, scope, timeout, unscoped};
use motet_testkit::cancel::Outcome;
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::{Driver, draw, millis, passes, swept};

pub(super) const SINGLETONS: Driver = Driver {
    drives: &[
        "container::Container::start",
        "container::Plan::start",
        "container::Plan::start_only",
        "container::Running::health",
        "container::Running::stop",
    ],
    cancel: cancel_singletons,
    sweep: sweep_singletons,
};

pub(super) const SCOPED: Driver = Driver {
    drives: &["container::Scoped::get", "container::Scoped::get_named", "container::Scoped::close"],
    cancel: cancel_scoped,
    sweep: sweep_scoped,
};

#[test]
fn start_or_stop_dropped_anywhere_stops_each_component_once() {
    cancel_singletons();
}

#[test]
fn every_order_stops_each_component_once_after_its_dependents() {
    passes(sweep_singletons);
}

#[test]
fn scoped_get_dropped_anywhere_stops_each_component_once() {
    cancel_scoped();
}

#[test]
fn every_order_stops_each_scoped_component_that_was_built() {
    passes(sweep_scoped);
}

const NODES: usize = 6;
const STOP_LIMIT: u64 = 200;

type Hooked = std::pin::Pin<Box<dyn Future<Output = Result<(), &'static str>> + Send>>;

/// A component, with its number.
struct Part<const N: usize>;
struct Tag;

/// The behaviour of a part in one of its phases.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Works,
    Fails,
    Panics,
    Hangs,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    /// The factory has deferred a cleanup.
    Begins,
    Built,
    Ready,
    StopBegins,
    StopEnds,
    Cleaned,
}

/// The behaviour of the parts, and the events that they caused.
#[derive(Clone)]
struct World(Arc<Mutex<State>>);

struct State {
    /// For each part: the factory, `on_start` and `on_stop`.
    acts: [[Act; 3]; NODES],
    delays: [[u64; 3]; NODES],
    needs: [&'static [usize]; NODES],
    events: Vec<(usize, Event)>,
}

impl World {
    fn calm() -> Self {
        let state = State {
            acts: [[Act::Works; 3]; NODES],
            delays: [[1; 3]; NODES],
            needs: [&[]; NODES],
            events: Vec::new(),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn drawn() -> Self {
        let world = Self::calm();
        {
            let mut state = world.0.lock().unwrap();
            let trouble = draw(3) > 0;
            for node in 0..NODES {
                for phase in 0..3 {
                    state.delays[node][phase] = draw(40);
                    if trouble && draw(8) == 0 {
                        state.acts[node][phase] = [Act::Fails, Act::Panics, Act::Hangs][draw(3) as usize];
                    }
                }
            }
        }
        world
    }

    fn note(&self, node: usize, event: Event) {
        self.0.lock().unwrap().events.push((node, event));
    }

    fn count(&self, node: usize, event: Event) -> usize {
        self.0.lock().unwrap().events.iter().filter(|noted| **noted == (node, event)).count()
    }

    async fn act(&self, node: usize, phase: usize) -> Result<(), &'static str> {
        let (act, delay) = {
            let state = self.0.lock().unwrap();
            (state.acts[node][phase], state.delays[node][phase])
        };
        yield_now().await;
        sleep(millis(delay)).await;
        match act {
            Act::Works => Ok(()),
            Act::Fails => Err("it fails"),
            Act::Panics => panic!("it panics"),
            Act::Hangs => pending().await,
        }
    }

    async fn build<const N: usize>(self, scope: Scope) -> Result<Part<N>, &'static str> {
        let cleans = self.clone();
        scope.defer("cleanup", async move |_| cleans.note(N, Event::Cleaned)).unwrap();
        self.note(N, Event::Begins);
        self.act(N, 0).await?;
        self.note(N, Event::Built);
        Ok(Part)
    }

    fn ready<const N: usize>(&self) -> impl Fn(Arc<Part<N>>) -> Hooked + use<N> {
        let world = self.clone();
        move |_| {
            let world = world.clone();
            Box::pin(async move {
                world.act(N, 1).await?;
                world.note(N, Event::Ready);
                Ok(())
            })
        }
    }

    fn stop<const N: usize>(&self) -> impl Fn(Arc<Part<N>>) -> Hooked + use<N> {
        let world = self.clone();
        move |_| {
            let world = world.clone();
            Box::pin(async move {
                world.note(N, Event::StopBegins);
                let _ends = StopEnds(world.clone(), N);
                world.act(N, 2).await
            })
        }
    }

    /// Checks the guarantees after the end.
    fn check(&self) {
        let state = self.0.lock().unwrap();
        let events = &state.events;
        let all = |node: usize, event: Event| {
            let at = events.iter().enumerate().filter(move |(_, noted)| **noted == (node, event));
            at.map(|(at, _)| at).collect::<Vec<_>>()
        };
        for node in 0..NODES {
            let built = all(node, Event::Built);
            assert_eq!(built.len(), all(node, Event::StopBegins).len(), "{node}: {events:?}");
            assert_eq!(built.len(), all(node, Event::StopEnds).len(), "{node}: {events:?}");
            assert_eq!(all(node, Event::Begins).len(), all(node, Event::Cleaned).len(), "{node}: {events:?}");
            for (cleaned, ended) in all(node, Event::Cleaned).iter().zip(all(node, Event::StopEnds)) {
                // A part that failed before it was built has no `StopEnds`.
                assert!(
                    built.len() < all(node, Event::Begins).len() || *cleaned > ended,
                    "{node}: {events:?}"
                );
            }
            for needed in state.needs[node] {
                // At most one instance of each part is alive at a time, so the last instance of a dependency outlives
                // its last user.
                if let (Some(cleaned), Some(stops)) =
                    (all(node, Event::Cleaned).last(), all(*needed, Event::StopBegins).last())
                {
                    assert!(cleaned < stops, "{needed} stops before {node}: {events:?}");
                }
                if let Some(begins) = all(node, Event::Begins).first() {
                    let ready = all(*needed, Event::Ready);
                    assert!(
                        ready.first().is_some_and(|ready| ready < begins),
                        "{node} begins early: {events:?}"
                    );
                }
            }
        }
    }
}

struct StopEnds(World, usize);

impl Drop for StopEnds {
    fn drop(&mut self) {
        self.0.note(self.1, Event::StopEnds);
    }
}

/// Provides part `$n`, which depends on the parts in brackets, as a singleton or scoped.
macro_rules! part {
    ($n:literal [$($needs:literal),*]) => {
        (&[$($needs),*], |c, w, scoped| {
            let world = w.clone();
            #[allow(non_snake_case, reason = "arguments named by a number")]
            let factory = move |scope: Scope, $(_: Arc<Part<$needs>>),*| world.build::<$n>(scope);
            let provided = if scoped { c.try_provide_scoped(factory) } else { c.try_provide(factory) };
            provided
                .on_start(w.ready::<$n>())
                .on_stop(w.stop::<$n>())
                .start_timeout(millis(100))
                .stop_timeout(millis(STOP_LIMIT));
        })
    };
}

type Shape = (&'static [usize], fn(&mut Container, &World, bool));

/// The possible dependencies of each part.
const SHAPES: [&[Shape]; NODES] = [
    &[part!(0 [])],
    &[part!(1 []), part!(1[0])],
    &[part!(2 []), part!(2[0]), part!(2[1]), part!(2 [0, 1])],
    &[part!(3 []), part!(3[0]), part!(3[2]), part!(3 [1, 2]), part!(3 [0, 1, 2])],
    &[part!(4 []), part!(4[1]), part!(4[3]), part!(4 [2, 3]), part!(4 [0, 3])],
    &[part!(5[4]), part!(5[0]), part!(5 [3, 4]), part!(5 [1, 2]), part!(5 [0, 1, 2, 3, 4])],
];

fn container(
    world: &World,
    mut shape: impl FnMut(usize) -> usize,
    scoped: impl Fn(usize) -> bool,
) -> Container {
    let mut c = Container::new();
    for (node, shapes) in SHAPES.iter().enumerate() {
        let (needs, provide) = shapes[shape(shapes.len())];
        // A singleton cannot depend on a scoped part.
        provide(&mut c, world, scoped(node));
        world.0.lock().unwrap().needs[node] = needs;
    }
    c
}

fn cancel_singletons() {
    cancel_everywhere(
        async || World::calm(),
        async |world| {
            scope(async |n: &Nursery| {
                let mut c = container(world, |shapes| shapes - 1, |_| false);
                c.value(1_u8).health(|_| async {
                    yield_now().await;
                    Health::Healthy
                });
                let running = c.start(n).await.unwrap();
                assert_eq!(running.health().await.health(), Health::Healthy);
                assert!(running.stop().await.is_ok());
                let alone = container(world, |shapes| shapes - 1, |_| false).check().unwrap();
                drop(alone.start_only::<Part<1>>(n).await.unwrap());
                let all = container(&World::calm(), |_| 0, |_| false).check().unwrap();
                drop(all.start(n).await.unwrap());
                Ok(())
            })
            .await
            .unwrap();
        },
        async |world, outcome| {
            if matches!(outcome, Outcome::Dropped { .. }) {
                drain().await;
            }
            // Two containers one after the other: the second began when the first had stopped.
            for node in 0..NODES {
                assert_eq!(world.count(node, Event::Built), world.count(node, Event::StopEnds));
                assert_eq!(world.count(node, Event::Begins), world.count(node, Event::Cleaned));
            }
            assert_eq!(unscoped(), 0);
        },
    );
}

fn sweep_singletons(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        start_and_end().await;
        health_along_the_graph().await;
    })
}

async fn start_and_end() {
    let world = World::drawn();
    let (patience, way) = (draw(300), draw(5));
    let ended = scope(async |n: &Nursery<&'static str>| {
        let c = container(&world, |shapes| draw(shapes as u64) as usize, |_| false);
        let begin = Instant::now();
        let started = match way {
            // The start is dropped.
            0 => match timeout(millis(patience), c.start(n)).await {
                Ok(started) => started,
                Err(_) => {
                    // In the worst case all parts stop one after the other, each within its limits.
                    sleep(millis(NODES as u64 * STOP_LIMIT * 4)).await;
                    world.check();
                    return Ok(());
                }
            },
            // The start is cancelled.
            1 => {
                let outer = Scope::clone(n);
                n.spawn("canceller", async move {
                    sleep(millis(patience)).await;
                    outer.cancel(Reason::requested("enough"));
                });
                c.start(n).await
            }
            _ => c.start(n).await,
        };
        match started {
            Ok(running) => {
                assert!(begin.elapsed() <= millis(100 * NODES as u64));
                for node in 0..NODES {
                    assert_eq!(
                        world.count(node, Event::Ready),
                        1,
                        "the start ended before all components had started"
                    );
                }
                match way {
                    2 => {
                        let report = running.stop().await;
                        assert_eq!(report.components().len(), NODES);
                        let fails = |node: &usize| world.0.lock().unwrap().acts[*node][2] != Act::Works;
                        assert_eq!(report.failures().count(), (0..NODES).filter(fails).count());
                        world.check();
                    }
                    3 => drop(timeout(millis(patience), running.stop()).await),
                    _ => drop(running),
                }
            }
            Err(failed) => {
                world.check();
                let rollback = failed.rollback().expect("factories ran");
                let built = (0..NODES).filter(|node| world.count(*node, Event::Built) > 0);
                assert_eq!(rollback.components().len(), built.count(), "{rollback}");
                if let StartError::Build { first, .. } = &failed {
                    let path: Vec<_> = first.path().collect();
                    assert_eq!(path.last().copied(), Some(first.component()));
                }
            }
        }
        Ok(())
    })
    .await;
    if let Err(ended) = ended {
        assert!(way == 1 || !ended.release_failures().is_empty(), "{ended}");
    }
    world.check();
}

async fn health_along_the_graph() {
    scope(async |n: &Nursery| {
        let mut c = Container::new();
        let asked = [draw(3), draw(3), draw(3)].map(|level| match level {
            0 => Health::Unhealthy,
            1 => Health::Degraded,
            _ => Health::Healthy,
        });
        let hangs = draw(4) == 0;
        let ask = move |at: usize| async move {
            sleep(millis(draw(20))).await;
            if hangs && at == 0 {
                pending::<()>().await;
            }
            asked[at]
        };
        c.value(1_u8).health(move |_| ask(0)).health_timeout(millis(50));
        c.provide(|_: Arc<u8>| async { 2_u16 }).health(move |_| ask(1));
        c.provide(|_: Arc<u16>| async { 3_u32 }).health(move |_| ask(2));
        let running = c.start(n).await.unwrap();
        let report = running.health().await;
        let mut least = if hangs { Health::Unhealthy } else { asked[0] };
        for (at, component) in report.components().iter().enumerate() {
            if at > 0 {
                least = least.min(asked[at]);
            }
            assert_eq!(component.health, least);
        }
        Ok(())
    })
    .await
    .unwrap();
}

fn cancel_scoped() {
    cancel_everywhere(
        async || World::calm(),
        async |world| {
            scope(async |n: &Nursery| {
                let mut c = container(world, |shapes| shapes - 1, |node| node > 1);
                c.provide_scoped(|_: Arc<Part<2>>| async { 7_u8 }).named(Tag);
                let running = c.start(n).await.unwrap();
                let scoped = running.within(n).unwrap();
                scoped.get::<Part<4>>().await.unwrap();
                assert_eq!(*scoped.get_named::<Tag, u8>().await.unwrap(), 7);
                assert!(scoped.close().await.is_ok());
                Ok(())
            })
            .await
            .unwrap();
        },
        async |world, outcome| {
            if matches!(outcome, Outcome::Dropped { .. }) {
                drain().await;
            }
            world.check();
            assert_eq!(unscoped(), 0);
        },
    );
}

fn sweep_scoped(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let world = World::drawn();
        let singletons = draw(3) as usize;
        {
            // The singletons start without failures: this test is about scoped parts.
            let mut state = world.0.lock().unwrap();
            for node in 0..singletons {
                state.acts[node] = [Act::Works; 3];
                state.delays[node] = [0; 3];
            }
        }
        let (patience, way) = (draw(200), draw(4));
        let ended = scope(async |n: &Nursery<&'static str>| {
            let c = container(&world, |shapes| draw(shapes as u64) as usize, |node| node >= singletons);
            let running = c.start(n).await.unwrap();
            let inner = scope(async |inner: &Nursery<&'static str>| {
                let scoped = Arc::new(running.within(inner).unwrap());
                let askers: Vec<_> = (0..4)
                    .map(|_| {
                        let (scoped, which, patience) = (Arc::clone(&scoped), draw(2), draw(400));
                        n.spawn("asker", async move {
                            let asked = async {
                                match which {
                                    0 => scoped.get::<Part<5>>().await.is_ok(),
                                    _ => scoped.get::<Part<3>>().await.is_ok(),
                                }
                            };
                            timeout(millis(patience), asked).await.unwrap_or(false)
                        })
                    })
                    .collect();
                if way == 0 {
                    sleep(millis(patience)).await;
                    drop(running.stop().await);
                    world.check();
                }
                for asker in askers {
                    asker.await.unwrap();
                }
                if way == 1 {
                    inner.cancel(Reason::requested("enough"));
                    pending::<()>().await;
                }
                if way >= 2 {
                    // A part that failed is built again, now without failures.
                    sleep(millis(2_000)).await;
                    world.0.lock().unwrap().acts.iter_mut().for_each(|acts| acts[..2].fill(Act::Works));
                    scoped.get::<Part<5>>().await.unwrap();
                    scoped.get::<Part<3>>().await.unwrap();
                    let scoped = Arc::into_inner(scoped).unwrap();
                    match way {
                        2 => drop(scoped.close().await),
                        _ => drop(scoped),
                    }
                }
                Ok(())
            });
            drop(inner.await);
            if way != 0 {
                for node in singletons..NODES {
                    let (built, stopped) =
                        (world.count(node, Event::Built), world.count(node, Event::StopEnds));
                    assert_eq!(built, stopped, "the scope ended before the part was stopped");
                }
            }
            Ok(())
        })
        .await;
        drop(ended);
        world.check();
    })
}
