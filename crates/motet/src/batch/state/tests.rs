//! Compares the state with a naive model: lists of items that are searched from the front at every step.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::{Admission, Batch, BatchLimits, BatchState, Waiter};

/// A step that is applied to both.
#[derive(Debug, Clone)]
enum BatchStep {
    /// A caller adds an item of this weight.
    Bring(u64),
    /// The caller at this index, in line or in a batch, is dropped.
    Leave(usize),
    /// The caller at this index in the line checks for capacity.
    Look(usize),
    /// A caller joins the item of another caller, if that item is in the open batch.
    Join(usize),
    /// The batch in flight at this index ends.
    End(usize),
    Flush,
    Close,
    Abandon,
}

fn steps() -> impl Strategy<Value = Vec<BatchStep>> {
    let step = prop_oneof![
        12 => (0..6_u64).prop_map(BatchStep::Bring),
        4 => (0..40_usize).prop_map(BatchStep::Leave),
        5 => (0..8_usize).prop_map(BatchStep::Look),
        2 => (0..40_usize).prop_map(BatchStep::Join),
        5 => (0..4_usize).prop_map(BatchStep::End),
        1 => Just(BatchStep::Flush),
    ];
    let ends =
        prop_oneof![4 => Just(None), 1 => Just(Some(BatchStep::Close)), 1 => Just(Some(BatchStep::Abandon))];
    (vec(step, 0..120), ends, 0..120_usize).prop_map(|(mut steps, end, at)| {
        if let Some(end) = end {
            steps.insert(at.min(steps.len()), end);
        }
        steps
    })
}

fn limits() -> impl Strategy<Value = BatchLimits> {
    (1..6_usize, 5..12_u64, 1..4_usize, 0..8_usize, 0..6_usize, any::<bool>()).prop_map(
        |(max_items, max_weight, max_in_flight, more, max_in_line, eager)| BatchLimits {
            max_items,
            max_weight,
            max_in_flight,
            max_waiting: max_items + more,
            max_in_line,
            eager,
        },
    )
}

/// A batch of the model, with the callers of each item.
#[derive(Debug, Clone, Default)]
struct Naive {
    number: u64,
    /// Item, weight, and the callers of the item.
    items: Vec<(u32, u64, Vec<u32>)>,
    due: bool,
}

impl Naive {
    fn weight(&self) -> u64 {
        self.items.iter().map(|item| item.1).sum()
    }
}

#[derive(Debug)]
struct Model {
    limits: BatchLimits,
    open: Option<Naive>,
    full: Vec<Naive>,
    flying: Vec<Naive>,
    /// The waiting callers, with the weight, and whether capacity is reserved for them.
    line: Vec<(u32, u64, bool)>,
    begun: u64,
    closed: bool,
}

impl Model {
    fn waiting(&self) -> usize {
        self.full.iter().chain(&self.open).map(|batch| batch.items.len()).sum()
    }

    fn offer(&mut self) {
        loop {
            let kept = self.line.iter().filter(|one| one.2).count();
            let has_capacity = self.closed || self.waiting() + kept < self.limits.max_waiting;
            match self.line.iter_mut().find(|one| !one.2) {
                Some(next) if has_capacity => next.2 = true,
                _ => return,
            }
        }
    }

    fn admits(&self) -> bool {
        let kept = self.line.iter().filter(|one| one.2).count();
        self.line.iter().all(|one| one.2) && self.waiting() + kept < self.limits.max_waiting
    }

    fn bring(&mut self, item: u32, weight: u64) {
        if self.open.as_ref().is_some_and(|open| open.weight() + weight > self.limits.max_weight) {
            self.full.extend(self.open.take());
        }
        let begun = &mut self.begun;
        let open = self.open.get_or_insert_with(|| {
            *begun += 1;
            Naive { number: *begun - 1, ..Naive::default() }
        });
        open.items.push((item, weight, vec![item]));
        if open.items.len() >= self.limits.max_items || open.weight() >= self.limits.max_weight {
            self.full.extend(self.open.take());
        }
    }

    fn go(&mut self) {
        while self.flying.len() < self.limits.max_in_flight {
            let at_once = self.limits.eager && self.flying.is_empty();
            let next = match self.full.is_empty() {
                false => self.full.remove(0),
                true => match self.open.take() {
                    Some(open) if open.due || at_once => open,
                    open => {
                        self.open = open;
                        return;
                    }
                },
            };
            self.flying.push(next);
        }
    }
}

/// The callers of the real state.
#[derive(Debug)]
struct Real {
    state: BatchState<u32, u32, u64>,
    /// In line: the caller, and its key.
    line: Vec<(u32, usize)>,
    /// In a batch: the caller, the number of the batch, the slot, the weight.
    seated: Vec<(u32, u64, u32, u64)>,
    flying: Vec<Batch<u32, u32, u64>>,
    woken: Vec<u32>,
}

impl Real {
    fn settle(&mut self) {
        while let Some(batch) = self.state.next() {
            self.seated.retain(|slot| slot.1 != batch.number);
            self.flying.push(batch);
        }
        self.state.offer(&mut self.woken);
    }
}

/// The callers and the items that answer them, through the slot map.
fn answered(batch: &Batch<u32, u32, u64>) -> Vec<(u32, u32)> {
    let answers = batch.slot_map.by_slot(batch.items.clone());
    let waiters = batch.waiters.iter().enumerate();
    waiters
        .filter_map(|(at, slot)| match slot {
            Waiter::Asked(who) => Some((*who, answers.get(at).copied().flatten().expect("an answer"))),
            Waiter::Posted | Waiter::Gone => None,
        })
        .collect()
}

fn run(limits: BatchLimits, steps: Vec<BatchStep>) -> Result<(), TestCaseError> {
    let mut model = Model {
        limits,
        open: None,
        full: Vec::new(),
        flying: Vec::new(),
        line: Vec::new(),
        begun: 0,
        closed: false,
    };
    let mut real = Real {
        state: BatchState::new(limits),
        line: Vec::new(),
        seated: Vec::new(),
        flying: Vec::new(),
        woken: Vec::new(),
    };
    let mut next = 0;
    for step in steps {
        match step {
            BatchStep::Bring(weight) => {
                let who = next;
                next += 1;
                let door = real.state.admission(None);
                let expected = match (model.closed, model.admits()) {
                    (true, _) => Admission::Closed,
                    (false, true) => Admission::Open,
                    (false, false) => Admission::Full,
                };
                prop_assert_eq!(door, expected);
                match door {
                    Admission::Open => enter(&mut real, &mut model, who, weight),
                    Admission::Full => {
                        prop_assert_eq!(real.state.may_join_line(), model.line.len() < limits.max_in_line);
                        if model.line.len() >= limits.max_in_line {
                            continue;
                        }
                        real.line.push((who, real.state.line.join(who)));
                        model.line.push((who, weight, false));
                    }
                    Admission::Closed => {}
                }
            }
            BatchStep::Look(at) if at < real.line.len() => {
                let (who, place) = real.line[at];
                let (_, weight, offered) = model.line[at];
                let expected = match (model.closed, offered) {
                    (true, _) => Admission::Closed,
                    (false, true) => Admission::Open,
                    (false, false) => Admission::Full,
                };
                prop_assert_eq!(real.state.admission(Some(place)), expected);
                if expected != Admission::Full {
                    real.state.line.leave(place);
                    real.line.remove(at);
                    model.line.remove(at);
                }
                if expected == Admission::Open {
                    enter(&mut real, &mut model, who, weight);
                }
            }
            BatchStep::Leave(at) if at < real.line.len() => {
                let (_, place) = real.line.remove(at);
                real.state.line.leave(place);
                model.line.remove(at);
            }
            BatchStep::Leave(at) if at - real.line.len() < real.seated.len() => {
                let (who, number, slot, weight) = real.seated.remove(at - real.line.len());
                let (item, _, _) =
                    real.state.leave(number, slot, weight).expect("the batch does not run yet");
                let waits = model.full.iter_mut().chain(&mut model.open);
                let batch = waits.into_iter().find(|batch| batch.number == number).expect("the same batches");
                let of = batch.items.iter().position(|item| item.2.contains(&who)).expect("the same items");
                batch.items[of].2.retain(|asker| *asker != who);
                let gone = batch.items[of].2.is_empty().then(|| batch.items.remove(of).0);
                prop_assert_eq!(item, gone);
                model.full.retain(|batch| !batch.items.is_empty());
                model.open = model.open.take().filter(|open| !open.items.is_empty());
            }
            BatchStep::Join(at) if at < real.seated.len() => {
                let (asked, number, _, _) = real.seated[at];
                let Some(open) = model.open.as_mut().filter(|open| open.number == number) else { continue };
                let item =
                    open.items.iter_mut().find(|item| item.2.contains(&asked)).expect("the same items");
                let who = next;
                next += 1;
                item.2.push(who);
                // The items of a batch are numbered in the order in which they were added.
                let batch = real.state.open().expect("the same batch");
                let key = u64::from(item.0);
                let (of, there) = batch.candidate(key, 0).expect("each key was recorded");
                prop_assert_eq!(there, Some(&item.0));
                let (weight, slot) = (item.1, batch.join(of, who));
                real.seated.push((who, number, slot, weight));
            }
            BatchStep::End(at) if at < real.flying.len() => {
                let mut batch = real.flying.remove(at);
                real.state.end(batch.number);
                let naive = model.flying.remove(at);
                prop_assert_eq!(batch.number, naive.number);
                prop_assert!(batch.items.len() <= limits.max_items && !batch.items.is_empty());
                prop_assert!(batch.weight <= limits.max_weight);
                let items: Vec<u32> = naive.items.iter().map(|item| item.0).collect();
                let before = answered(&batch);
                batch.items = batch.slot_map.in_order(batch.items);
                prop_assert_eq!(&batch.items, &items);
                let mut got = answered(&batch);
                prop_assert_eq!(&got, &before);
                got.sort_unstable();
                let asked = naive.items.iter();
                let mut expected: Vec<(u32, u32)> =
                    asked.flat_map(|item| item.2.iter().map(|who| (*who, item.0))).collect();
                expected.sort_unstable();
                prop_assert_eq!(got, expected);
            }
            BatchStep::Flush => {
                prop_assert_eq!(real.state.flush(), model.begun);
                model.open.iter_mut().for_each(|open| open.due = true);
            }
            BatchStep::Close => {
                real.state.close();
                model.closed = true;
                model.open.iter_mut().for_each(|open| open.due = true);
            }
            BatchStep::Abandon => {
                let left = real.state.abandon();
                let items: Vec<Vec<u32>> =
                    left.into_iter().map(|mut batch| batch.slot_map.in_order(batch.items)).collect();
                let full = std::mem::take(&mut model.full);
                let expected = full.into_iter().chain(model.open.take());
                let expected: Vec<Vec<u32>> =
                    expected.map(|batch| batch.items.iter().map(|item| item.0).collect()).collect();
                prop_assert_eq!(items, expected);
                real.seated.clear();
                model.closed = true;
            }
            BatchStep::Leave(_) | BatchStep::Look(_) | BatchStep::Join(_) | BatchStep::End(_) => continue,
        }
        real.settle();
        model.go();
        model.offer();
        prop_assert_eq!(real.state.waiting(), model.waiting());
        prop_assert!(real.state.waiting() <= limits.max_waiting);
        prop_assert_eq!(real.state.in_flight(), model.flying.len());
        let first_open =
            model.full.iter().chain(&model.open).chain(&model.flying).map(|batch| batch.number).min();
        let ended = first_open.unwrap_or(model.begun);
        prop_assert!(real.state.window.have_ended(ended) && !real.state.window.have_ended(ended + 1));
        let mut woken: Vec<u32> = model.line.iter().filter(|one| one.2).map(|one| one.0).collect();
        woken.retain(|who| !real.woken.contains(who));
        prop_assert!(woken.is_empty(), "{woken:?} have capacity and were not woken");
    }
    Ok(())
}

fn enter(real: &mut Real, model: &mut Model, who: u32, weight: u64) {
    model.bring(who, weight);
    let (number, slot) = real.state.push(who, weight, Waiter::Asked(who), |number| (number, None));
    if let Some(open) = real.state.open() {
        open.record_key(u64::from(who), 0);
    }
    real.seated.push((who, number, slot, weight));
}

proptest! {
    #[test]
    fn batch_state_agrees_with_a_naive_model(limits in limits(), steps in steps()) {
        run(limits, steps)?;
    }
}

#[test]
fn wait_line_frees_the_entries_of_callers_that_left() {
    let mut line = super::WaitLine::new();
    let first = line.join(0);
    for who in 1..10_000 {
        let place = line.join(who);
        line.leave(place);
    }
    assert_eq!(line.len(), 1);
    assert!(line.footprint() < 16, "{} entries for one waiting caller", line.footprint());
    line.leave(first);
    assert_eq!((line.len(), line.offered()), (0, 0));
}

#[test]
fn batches_that_ended_behind_a_hanging_one_take_no_memory() {
    let mut window = super::BatchWindow::default();
    let hangs = window.begin();
    for _ in 0..100_000 {
        let number = window.begin();
        window.end(number);
    }
    assert!(window.footprint() < 16, "{} entries for one batch", window.footprint());
    assert!(!window.have_ended(1) && window.have_ended(0));
    window.end(hangs);
    assert!(window.have_ended(100_001) && window.begun() == 100_001);
}
