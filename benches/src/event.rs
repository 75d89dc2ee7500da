//! Question: what does it cost to tell 0, 1, 8 or 64 listeners of an event?
//!
//! Each side emits one event of eight bytes, and each listener looks at it. Ours gives the result of every listener,
//! keeps a panic of one from the others, skips one that is off, takes part in tokio's budget, and finds the event by
//! its type at every emit. `Vec<Box<dyn Fn>>` is the floor: a loop over closures with none of that. A broadcast channel
//! has receivers and no listeners, so each receiver reads the event here in turn: no results, and one that is slow
//! misses events or holds up the others. `event-emitter-rs` runs each listener on a thread of its own, of which it
//! hands out the handles, joined here; it and `async-event-emitter` encode the event once and decode it for each.
//! Node's `EventEmitter` is called from a script beside this, for sync listeners; a listener that throws there stops
//! the rest.

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;

use event_emitter_rs::EventEmitter;
use futures::future::join_all;
use motet::event::{Emitter, Event, Subscription};
use motet::task::Scope;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast;
use typed_emitter::TypedEmitter;

use crate::measure::{Cost, both_of, one_of};
use crate::report::{Case, Cases, say};

const COUNTS: [usize; 4] = [0, 1, 8, 64];

/// Emits of one call, so that entering the runtime does not show.
const EMITS: u32 = 1_000;

struct Tick(u64);

impl Event for Tick {
    const NAME: &'static str = "tick";
}

/// What every listener does.
fn look(tick: &Tick) {
    black_box(tick.0);
}

pub(crate) fn run(cases: &mut Cases) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    sync_listeners(cases, &runtime);
    async_listeners(cases, &runtime);
    node(cases, &runtime);
}

/// Our emitter with so many listeners. It outlives its scope here, and so do they: the scope is never ended.
struct Ours {
    emitter: Emitter,
    _on: Vec<Subscription>,
}

impl Ours {
    fn new(runtime: &Runtime, listen: impl Fn(&Emitter) -> Subscription, count: usize) -> Self {
        // The scope stays open as long as its future is kept: so this is a scope that is leaked on purpose.
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut open = Box::pin(async move {
            let body = async |n: &motet::task::Nursery| {
                sender.send(Scope::clone(n)).expect("it is waited for");
                std::future::pending::<()>().await;
                Ok(())
            };
            drop(Scope::builder().run(body).await);
        });
        runtime.block_on(async {
            let polled = futures::poll!(&mut open);
            assert!(polled.is_pending());
        });
        #[allow(clippy::mem_forget, reason = "see above")]
        std::mem::forget(open);
        let emitter = Emitter::new(&receiver.recv().expect("the scope is open"));
        let on = (0..count).map(|_| listen(&emitter)).collect();
        Self { emitter, _on: on }
    }

    fn sync(runtime: &Runtime, count: usize) -> Self {
        let listen = |emitter: &Emitter| emitter.on("listener", look).expect("the scope is open");
        Self::new(runtime, listen, count)
    }

    fn asynchronous(runtime: &Runtime, count: usize) -> Self {
        let listen = |emitter: &Emitter| {
            let listener = async |tick: Arc<Tick>| look(&tick);
            emitter.on_async("listener", listener).expect("the scope is open")
        };
        Self::new(runtime, listen, count)
    }

    fn emit(&self, runtime: &Runtime) {
        runtime.block_on(async {
            for number in 0..u64::from(EMITS) {
                drop(black_box(self.emitter.emit(Tick(number)).await));
            }
        });
    }
}

fn sync_listeners(cases: &mut Cases, runtime: &Runtime) {
    for count in COUNTS {
        let ours = Ours::sync(runtime, count);
        let case = format!("{count} sync");
        let mut add = |rival_name, rival: &mut dyn FnMut()| {
            let (ours, theirs) = both_of(EMITS, || ours.emit(runtime), rival);
            cases.extend(Case::median_and_minimum(&case, rival_name, ours, theirs));
        };

        let listener = || -> Box<dyn Fn(&Tick)> { Box::new(look) };
        let floor: Vec<_> = (0..count).map(|_| listener()).collect();
        add("Vec<Box<dyn Fn>>", &mut || {
            for number in 0..u64::from(EMITS) {
                let tick = Tick(number);
                black_box(&floor).iter().for_each(|listener| listener(&tick));
            }
        });

        let (sender, receiver) = broadcast::channel(16);
        let mut receivers: Vec<_> = (0..count).map(|_| receiver.resubscribe()).collect();
        drop(receiver);
        add("tokio broadcast", &mut || {
            for number in 0..u64::from(EMITS) {
                let sent = sender.send(number);
                assert_eq!(sent.is_ok(), count > 0);
                for receiver in &mut receivers {
                    black_box(receiver.try_recv().expect("it was sent"));
                }
            }
        });

        let (sender, receiver) = async_broadcast::broadcast(16);
        let mut receivers: Vec<_> = (0..count).map(|_| receiver.new_receiver()).collect();
        drop(receiver);
        add("async-broadcast", &mut || {
            for number in 0..u64::from(EMITS) {
                let sent = sender.try_broadcast(number);
                assert_eq!(sent.is_ok(), count > 0);
                for receiver in &mut receivers {
                    black_box(receiver.try_recv().expect("it was sent"));
                }
            }
        });
    }
    // A thread for each listener of each emit: fewer cases, of fewer emits.
    for count in [0, 1, 8] {
        let ours = Ours::sync(runtime, count);
        let mut theirs = EventEmitter::new();
        for _ in 0..count {
            theirs.on("tick", |number: u64| look(&Tick(number)));
        }
        let rival = || {
            for number in 0..10_u64 {
                for thread in theirs.emit("tick", number) {
                    thread.join().expect("no listener panics");
                }
            }
        };
        let ours = one_of(EMITS, || ours.emit(runtime));
        let rival = one_of(10, rival);
        cases.extend(Case::median_and_minimum(&format!("{count} sync"), "event-emitter-rs", ours, rival));
    }
}

fn async_listeners(cases: &mut Cases, runtime: &Runtime) {
    for count in COUNTS {
        let ours = Ours::asynchronous(runtime, count);
        let case = format!("{count} async");
        let mut add = |rival_name, rival: &mut dyn FnMut()| {
            let (ours, theirs) = both_of(EMITS, || ours.emit(runtime), rival);
            cases.extend(Case::median_and_minimum(&case, rival_name, ours, theirs));
        };

        let listen = async |tick: Arc<Tick>| look(&tick);
        add("join_all", &mut || {
            runtime.block_on(async {
                for number in 0..u64::from(EMITS) {
                    let tick = Arc::new(Tick(number));
                    join_all((0..count).map(|_| Box::pin(listen(Arc::clone(&tick))))).await;
                }
            });
        });

        let theirs = TypedEmitter::<&str, u64, ()>::new();
        for _ in 0..count {
            theirs.on("tick", |number| async move { look(&Tick(number)) });
        }
        add("typed-emitter", &mut || {
            runtime.block_on(async {
                for number in 0..u64::from(EMITS) {
                    theirs.emit("tick", number).await;
                }
            });
        });

        let theirs = async_event_emitter::AsyncEventEmitter::new();
        for _ in 0..count {
            theirs.on("tick", |number: u64| async move { look(&Tick(number)) });
        }
        add("async-event-emitter", &mut || {
            runtime.block_on(async {
                for number in 0..u64::from(EMITS) {
                    theirs.emit("tick", number).await.expect("a number can be encoded");
                }
            });
        });
    }
}

/// Node measures by itself, right before ours.
fn node(cases: &mut Cases, runtime: &Runtime) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/node/event.mjs");
    let counts = COUNTS.map(|count| count.to_string());
    let output = match Command::new("node").arg(script).args(counts).output() {
        Ok(output) if output.status.success() => output,
        failed => {
            say!("node is left out, since it did not run: {failed:?}");
            return;
        }
    };
    let said = String::from_utf8(output.stdout).expect("the script prints numbers");
    for (count, line) in COUNTS.into_iter().zip(said.lines()) {
        let (median, minimum) = line.split_once(' ').expect("two numbers on a line");
        let nanoseconds = |text: &str| text.parse().expect("a number");
        // What it allocates is not ours to count.
        let theirs = Cost::figure(nanoseconds(median), nanoseconds(minimum));
        let ours = Ours::sync(runtime, count);
        let ours = one_of(EMITS, || ours.emit(runtime));
        cases.extend(Case::median_and_minimum(&format!("{count} sync"), "node EventEmitter", ours, theirs));
    }
}
