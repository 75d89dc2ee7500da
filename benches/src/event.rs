//! Question: what does it cost to pass an event to 0, 1, 8 or 64 listeners?
//!
//! Each side emits one event of eight bytes, and each listener reads it. motet returns the result of every listener, isolates
//! the panic of a listener from the others, skips a removed listener, takes part in tokio's budget, and finds the listeners by
//! the type of the event at every emit. `Vec<Box<dyn Fn>>` is the floor: a loop over closures without these guarantees. A
//! broadcast channel has receivers in place of listeners, which read the event in turn here: it has no results, and a slow
//! receiver misses events. `event-emitter-rs` runs each listener on its own thread, and returns the handles, which are joined
//! here; it and `async-event-emitter` encode the event once and decode it for each listener. Node's `EventEmitter` runs in a
//! separate script, for sync listeners; there, an exception of a listener skips the following ones.

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

/// The emits of a call, so that the cost of entering the runtime is not visible.
const EMITS: u32 = 1_000;

struct Tick(u64);

impl Event for Tick {
    const NAME: &'static str = "tick";
}

/// The work of every listener.
fn look(tick: &Tick) {
    black_box(tick.0);
}

pub(crate) fn run(cases: &mut Cases) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    sync_listeners(cases, &runtime);
    async_listeners(cases, &runtime);
    node(cases, &runtime);
}

/// An emitter of motet with its listeners. Its scope does not end.
struct Ours {
    emitter: Emitter,
    _on: Vec<Subscription>,
}

impl Ours {
    fn new(runtime: &Runtime, listen: impl Fn(&Emitter) -> Subscription, count: usize) -> Self {
        // A scope stays open while its future exists, so the future is leaked.
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
    // A thread for each listener of each emit: fewer cases and fewer emits.
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

/// Node measures itself, directly before motet.
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
        // Its allocations are not counted.
        let theirs = Cost::figure(nanoseconds(median), nanoseconds(minimum));
        let ours = Ours::sync(runtime, count);
        let ours = one_of(EMITS, || ours.emit(runtime));
        cases.extend(Case::median_and_minimum(&format!("{count} sync"), "node EventEmitter", ours, theirs));
    }
}
