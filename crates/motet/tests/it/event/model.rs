//! Compares an emitter with a list.

use std::sync::{Arc, Mutex};

use motet::event::{AnyEvent, Emitter, Subscription};
use motet::task::{Nursery, scope};
use proptest::prelude::*;

use super::{Tick, Tock, matching};

#[derive(Debug, Clone)]
enum Step {
    On { priority: i32, once: bool, receives: Target },
    Off(usize),
    EmitTick,
    EmitTock,
    EmitNamed,
    PostTick,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    Tick,
    TickLater,
    Clock,
    All,
}

fn step() -> impl Strategy<Value = Step> {
    let receives = prop::sample::select(vec![Target::Tick, Target::TickLater, Target::Clock, Target::All]);
    prop_oneof![
        5 => (-2..3, prop::bool::weighted(0.3), receives)
            .prop_map(|(priority, once, receives)| Step::On { priority, once, receives }),
        2 => (0_usize..20).prop_map(Step::Off),
        3 => Just(Step::EmitTick),
        1 => Just(Step::EmitTock),
        1 => Just(Step::EmitNamed),
        1 => Just(Step::PostTick),
    ]
}

/// A listener of the model.
struct Listed {
    number: usize,
    priority: i32,
    once: bool,
    receives: Target,
}

#[derive(Default)]
struct Model(Vec<Listed>);

impl Model {
    fn add(&mut self, listed: Listed) {
        self.0.push(listed);
        // The sort is stable.
        self.0.sort_by_key(|listed| -listed.priority);
    }

    fn hear(&mut self, tick: bool, named: bool) -> Vec<usize> {
        let receives = |listed: &Listed| match listed.receives {
            Target::Tick | Target::TickLater => tick,
            Target::Clock => !named,
            Target::All => true,
        };
        let received = self.0.iter().filter(|listed| receives(listed)).map(|listed| listed.number).collect();
        self.0.retain(|listed| !(listed.once && receives(listed)));
        received
    }
}

type Notes = Arc<Mutex<Vec<usize>>>;

fn listen(emitter: &Emitter, notes: &Notes, listed: &Listed) -> Subscription {
    let (notes, number) = (Arc::clone(notes), listed.number);
    let mut listener = emitter.listener("listener").priority(listed.priority);
    if listed.once {
        listener = listener.once();
    }
    let note = move || notes.lock().unwrap().push(number);
    match listed.receives {
        Target::Tick => listener.on(move |_: &Tick| note()).unwrap(),
        Target::TickLater => {
            let listener = listener.on_async(move |_: Arc<Tick>| {
                note();
                tokio::task::yield_now()
            });
            listener.unwrap()
        }
        Target::Clock => listener.on_pattern(matching("clock.*"), move |_: &dyn AnyEvent| note()).unwrap(),
        Target::All => {
            let listener = listener.on_pattern_async(matching(">"), move |_| {
                note();
                async {}
            });
            listener.unwrap()
        }
    }
}

async fn agrees(steps: Vec<Step>) {
    scope(async |n: &Nursery| {
        let (emitter, notes) = (Emitter::new(n), Notes::default());
        let (mut model, mut on) = (Model::default(), Vec::new());
        for (number, step) in steps.into_iter().enumerate() {
            let (received, posted) = match step {
                Step::On { priority, once, receives } => {
                    let listed = Listed { number, priority, once, receives };
                    on.push((number, listen(&emitter, &notes, &listed)));
                    model.add(listed);
                    continue;
                }
                Step::Off(at) => {
                    if !on.is_empty() {
                        let (number, subscription) = on.remove(at % on.len());
                        subscription.off();
                        model.0.retain(|listed| listed.number != number);
                    }
                    continue;
                }
                Step::EmitTick => (emitter.emit(Tick(1)).await.unwrap().into_result().unwrap(), false),
                Step::EmitTock => (emitter.emit(Tock).await.unwrap().into_result().unwrap(), false),
                Step::EmitNamed => {
                    (emitter.emit_named("named", ()).await.unwrap().into_result().unwrap(), false)
                }
                Step::PostTick => (emitter.post(Tick(2)).unwrap().queued, true),
            };
            // Enough yields for each task to end.
            for _ in 0..if posted { 4 } else { 0 } {
                tokio::task::yield_now().await;
            }
            let expected =
                model.hear(matches!(step, Step::EmitTick | Step::PostTick), matches!(step, Step::EmitNamed));
            let mut seen = std::mem::take(&mut *notes.lock().unwrap());
            assert_eq!(seen.len(), received);
            if posted {
                seen.sort_by_key(|number| expected.iter().position(|expected| expected == number));
            }
            assert_eq!(seen, expected);
            let ticks = model.0.len();
            assert_eq!(emitter.listener_count::<Tick>(), ticks);
            assert!(
                on.iter().all(|(number, on)| on.is_on() == model.0.iter().any(|one| one.number == *number))
            );
        }
        Ok(())
    })
    .await
    .unwrap();
}

proptest! {
    #[test]
    fn emitter_agrees_with_a_list_of_listeners(steps in prop::collection::vec(step(), 0..40)) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(agrees(steps));
    }
}
