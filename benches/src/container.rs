//! Questions: what does it cost to resolve a component after the start, and to start a graph of 50 components?
//!
//! Resolving: each side has 50 singletons, and returns one of them. shaku knows its place at compile time, and has no async
//! components; they are created with the module. The map is the hand-written solution, without checks, order or life cycle.
//!
//! Starting: a binary tree of 50 components, whose factories do nothing, or wait for a millisecond. motet checks the graph,
//! builds independent components in parallel in tasks of a scope, each within a timeout, and stops all of them in reverse
//! order at the end of the scope, which is part of the measured time. froodi and fluxdi build a requested component in the
//! task of the caller; the 25 leaves are requested one after the other, as in their documentation. Timeouts and the rollback
//! of a failed start are guarantees of motet only.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use fluxdi::{Injector, Provider, Shared};
use froodi::DefaultScope::App;
use froodi::{Inject, registry};
use motet::container::{Container, Running};
use motet::task::{Nursery, scope};
use shaku::{Component, HasComponent, Interface, module};
use tokio::runtime::{Builder, Runtime};

use crate::measure::{both, both_of};
use crate::report::{Case, Cases};

const NODES: u32 = 50;

struct Node<const N: usize>;

trait Named: Interface {
    fn name(&self) -> &'static str;
}

#[derive(Component)]
#[shaku(interface = Named)]
struct Last;

impl Named for Last {
    fn name(&self) -> &'static str {
        "last"
    }
}

module! {
    Module { components = [Last], providers = [] }
}

/// Passes each node, and the node that it depends on, to a macro.
macro_rules! tree {
    ($each:ident!($($with:tt)*)) => {
        $each!(($($with)*)
        1 < 0, 2 < 0, 3 < 1, 4 < 1, 5 < 2, 6 < 2, 7 < 3, 8 < 3, 9 < 4, 10 < 4,
        11 < 5, 12 < 5, 13 < 6, 14 < 6, 15 < 7, 16 < 7, 17 < 8, 18 < 8, 19 < 9, 20 < 9,
        21 < 10, 22 < 10, 23 < 11, 24 < 11, 25 < 12, 26 < 12, 27 < 13, 28 < 13, 29 < 14, 30 < 14,
        31 < 15, 32 < 15, 33 < 16, 34 < 16, 35 < 17, 36 < 17, 37 < 18, 38 < 18, 39 < 19, 40 < 19,
        41 < 20, 42 < 20, 43 < 21, 44 < 21, 45 < 22, 46 < 22, 47 < 23, 48 < 23, 49 < 24,
        )
    };
}

macro_rules! ours {
    (($c:ident, $work:ident) $($node:literal < $needs:literal,)*) => {
        $c.provide(|| async { $work().await; Node::<0> });
        $($c.provide(|_: Arc<Node<$needs>>| async { $work().await; Node::<$node> });)*
    };
}

macro_rules! by_froodi {
    (($work:ident) $($node:literal < $needs:literal,)*) => {
        froodi::async_impl::Container::new(registry! {
            scope(App) [
                provide(|| async { $work().await; Ok(Node::<0>) }),
                $(provide(|Inject(_needed): Inject<Node<$needs>>| async { $work().await; Ok(Node::<$node>) })),*
            ],
        })
    };
}

macro_rules! by_froodi_now {
    (() $($node:literal < $needs:literal,)*) => {
        froodi::Container::new(registry! {
            scope(App) [
                provide(|| Ok(Node::<0>)),
                $(provide(|Inject(_needed): Inject<Node<$needs>>| Ok(Node::<$node>))),*
            ],
        })
    };
}

macro_rules! by_fluxdi {
    (($injector:ident, $work:ident) $($node:literal < $needs:literal,)*) => {
        $injector.provide::<Node<0>>(Provider::root_async(|_| async { $work().await; Shared::new(Node::<0>) }));
        $($injector.provide::<Node<$node>>(Provider::root_async(|injector| async move {
            let _needed = injector.resolve_async::<Node<$needs>>().await;
            $work().await;
            Shared::new(Node::<$node>)
        }));)*
    };
}

macro_rules! by_hand {
    (($map:ident) $($node:literal < $needs:literal,)*) => {
        $($map.insert(TypeId::of::<Node<$node>>(), Arc::new(Node::<$node>));)*
    };
}

/// Requests every leaf of the tree.
macro_rules! leaves {
    ($ask:ident!($from:ident)) => {
        $ask!($from: 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49)
    };
}

macro_rules! ask_froodi {
    ($from:ident: $($leaf:literal)*) => {
        $(black_box($from.get::<Node<$leaf>>().await.expect("it is provided"));)*
    };
}

macro_rules! ask_fluxdi {
    ($from:ident: $($leaf:literal)*) => {
        $(black_box($from.try_resolve_async::<Node<$leaf>>().await.expect("it is provided"));)*
    };
}

async fn nothing() {}

async fn a_millisecond() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub(crate) fn run(cases: &mut Cases) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    resolve(&runtime, cases);
    start(&runtime, cases);
}

/// A container with all nodes, started in a scope that stays open.
fn running(runtime: &Runtime, then: impl FnOnce(&Running)) {
    let mut c = Container::new();
    tree!(ours!(c, nothing));
    c.shared::<dyn Named>(Arc::new(Last));
    let done = runtime.block_on(scope(async |n: &Nursery<Infallible>| {
        let running = c.start(n).await.expect("it starts");
        then(&running);
        Ok(())
    }));
    done.expect("nothing fails");
}

fn resolve(runtime: &Runtime, cases: &mut Cases) {
    running(runtime, |ours| {
        let mut add = |case: &str, rival_name, ours: &mut dyn FnMut(), rival: &mut dyn FnMut()| {
            let (ours, rival) = both(ours, rival);
            cases.extend(Case::median_and_minimum(case, rival_name, ours, rival));
        };
        let module = Module::builder().build();
        let mut map: HashMap<TypeId, Arc<dyn Any + Send + Sync>> = HashMap::new();
        tree!(by_hand!(map));
        let froodi = tree!(by_froodi_now!());
        add(
            "get a trait object",
            "shaku resolve",
            &mut || drop(black_box(ours.get::<dyn Named>())),
            &mut || {
                let named: Arc<dyn Named> = module.resolve();
                drop(black_box(named));
            },
        );
        add(
            "borrow a trait object",
            "shaku resolve_ref",
            &mut || {
                black_box(ours.get_ref::<dyn Named>().map(|named| named.name()).ok());
            },
            &mut || {
                let named: &dyn Named = module.resolve_ref();
                black_box(named.name());
            },
        );
        add(
            "get",
            "HashMap<TypeId, Arc<dyn Any>>",
            &mut || drop(black_box(ours.get::<Node<40>>())),
            &mut || {
                let found = map.get(&TypeId::of::<Node<40>>()).cloned();
                drop(black_box(found.and_then(|any| any.downcast::<Node<40>>().ok())));
            },
        );
        add("get", "froodi get, synchronous", &mut || drop(black_box(ours.get::<Node<40>>())), &mut || {
            drop(black_box(froodi.get::<Node<40>>()));
        });
    });
}

fn start(runtime: &Runtime, cases: &mut Cases) {
    let mut add = |case: &str, rival_name, ours: &mut dyn FnMut(), rival: &mut dyn FnMut()| {
        let (ours, rival) = both_of(NODES, ours, rival);
        cases.extend(Case::median_and_minimum(case, rival_name, ours, rival));
    };
    macro_rules! sides {
        ($case:literal, $work:ident) => {
            let mut ours = || {
                let mut c = Container::new();
                tree!(ours!(c, $work));
                let done = runtime.block_on(scope(async |n: &Nursery<Infallible>| {
                    let running = c.start(n).await.expect("it starts");
                    drop(black_box(running.get::<Node<49>>()));
                    Ok(())
                }));
                done.expect("nothing fails");
            };
            add($case, "froodi", &mut ours, &mut || {
                let container = tree!(by_froodi!($work));
                runtime.block_on(async {
                    leaves!(ask_froodi!(container));
                    container.close().await;
                });
            });
            add($case, "fluxdi", &mut ours, &mut || {
                let injector = Injector::root();
                tree!(by_fluxdi!(injector, $work));
                runtime.block_on(async {
                    leaves!(ask_fluxdi!(injector));
                });
            });
        };
    }
    sides!("start 50, each does nothing", nothing);
    sides!("start 50, each waits 1 ms", a_millisecond);
}
