use std::time::Duration;

use proptest::prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest};
use tokio::time::Instant;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Push(i64),
    /// Puts back one of the entries that are out.
    Return(usize),
    Pop,
}

fn steps(ranks: impl Strategy<Value = i64> + Clone) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => ranks.prop_map(Step::Push),
        1 => any::<usize>().prop_map(Step::Return),
        3 => (0..1u8).prop_map(|_| Step::Pop),
    ];
    proptest::collection::vec(step, 0..200)
}

fn entry(item: u32, rank: i64) -> Entry<u32> {
    Entry { rank, ..Entry::new(item) }
}

/// Items in the order in which they come out, searched for again at each step.
#[derive(Default)]
struct Naive(Vec<(u32, i64)>);

/// The position of a new item, and of an item that comes back, in a naive queue.
struct Order {
    last: fn(&Naive, i64) -> usize,
    first: fn(&Naive, i64) -> usize,
}

const FIFO: Order = Order { last: |naive, _| naive.0.len(), first: |_, _| 0 };
const LIFO: Order = Order { last: |_, _| 0, first: |_, _| 0 };
const PRIORITY: Order = Order {
    last: |naive, rank| naive.0.iter().take_while(|(_, other)| *other <= rank).count(),
    first: |naive, rank| naive.0.iter().take_while(|(_, other)| *other < rank).count(),
};

/// Runs the steps on both, and returns the items that came out of each, including those left at the end.
fn both(mut store: impl Store<u32>, order: &Order, steps: Vec<Step>) -> (Vec<u32>, Vec<u32>) {
    let mut naive = Naive::default();
    let (mut ours, mut theirs, mut out) = (Vec::new(), Vec::new(), Vec::<Entry<u32>>::new());
    for (number, step) in (0..).zip(steps) {
        match step {
            Step::Push(rank) => {
                store.push(entry(number, rank));
                naive.0.insert((order.last)(&naive, rank), (number, rank));
            }
            Step::Return(which) if !out.is_empty() => {
                let back = out.remove(which % out.len());
                naive.0.insert((order.first)(&naive, back.rank), (back.item, back.rank));
                store.push_front(back);
            }
            Step::Return(_) => {}
            Step::Pop => {
                let popped = store.pop();
                ours.extend(popped.as_ref().map(|entry| entry.item));
                theirs.extend((!naive.0.is_empty()).then(|| naive.0.remove(0).0));
                out.extend(popped);
            }
        }
    }
    ours.extend(std::iter::from_fn(|| store.pop()).map(|entry| entry.item));
    theirs.extend(naive.0.into_iter().map(|(item, _)| item));
    (ours, theirs)
}

proptest! {
    #[test]
    fn fifo_store_agrees_with_a_naive_model(steps in steps(0..4i64)) {
        let (ours, naive) = both(Fifo::new(), &FIFO, steps);
        prop_assert_eq!(ours, naive);
    }

    #[test]
    fn lifo_store_agrees_with_a_naive_model(steps in steps(0..4i64)) {
        let (ours, naive) = both(Lifo::new(), &LIFO, steps);
        prop_assert_eq!(ours, naive);
    }

    #[test]
    fn priority_store_of_few_ranks_agrees_with_a_naive_model(steps in steps(-3..3i64)) {
        let (ours, naive) = both(Priority::new(), &PRIORITY, steps);
        prop_assert_eq!(ours, naive);
    }

    /// About as many ranks as levels, so that a rank moves from one half to the other.
    #[test]
    fn priority_store_of_many_ranks_agrees_with_a_naive_model(steps in steps(0..24i64)) {
        let (ours, naive) = both(Priority::new(), &PRIORITY, steps);
        prop_assert_eq!(ours, naive);
    }

    #[test]
    fn priority_store_of_extreme_ranks_agrees_with_a_naive_model(
        steps in steps(prop_oneof![any::<i64>(), (0..3i64).prop_map(|n| i64::MIN + n), (0..3i64).prop_map(|n| i64::MAX - n)])
    ) {
        let (ours, naive) = both(Priority::new(), &PRIORITY, steps);
        prop_assert_eq!(ours, naive);
    }

    #[test]
    fn delayed_entries_come_in_order_at_their_time(
        steps in proptest::collection::vec((0..3u8, 0..20u64), 0..300)
    ) {
        let begin = Instant::now();
        let (mut later, mut naive, mut now) = (Later::new(), Vec::<(Instant, u32)>::new(), begin);
        for (number, (kind, millis)) in (0..).zip(steps) {
            let time = Duration::from_millis(millis);
            match kind {
                0 => {
                    let due = begin + time;
                    later.push(entry(number, 0), due);
                    let at = naive.iter().take_while(|(other, _)| *other <= due).count();
                    naive.insert(at, (due, number));
                }
                1 => now += time / 10,
                _ => {
                    let is_due = naive.first().is_some_and(|(due, _)| *due <= now);
                    let due = is_due.then(|| naive.remove(0).1);
                    prop_assert_eq!(later.pop_due(now).map(|entry| entry.item), due);
                }
            }
            prop_assert_eq!(later.next_due(), naive.first().map(|(due, _)| *due));
            prop_assert_eq!(later.len(), naive.len());
        }
        let left: Vec<u32> = later.drain().map(|entry| entry.item).collect();
        prop_assert_eq!(left, naive.into_iter().map(|(_, item)| item).collect::<Vec<_>>());
    }
}

#[test]
fn emptied_store_frees_most_of_its_memory() {
    fn run(store: &mut impl Store<u32>) {
        for rank in 0..100_000 {
            store.push(entry(0, rank % 40));
        }
        while store.pop().is_some() {}
    }
    let (mut fifo, mut lifo, mut priority) = (Fifo::new(), Lifo::new(), Priority::new());
    run(&mut fifo);
    run(&mut lifo);
    run(&mut priority);
    let mut later = Later::new();
    for number in 0..100_000 {
        later.push(entry(number, 0), Instant::now());
    }
    assert_eq!(later.drain().count(), 100_000);
    for capacity in [fifo.capacity(), lifo.capacity(), priority.capacity(), later.capacity()] {
        assert!(capacity <= 17 * 128, "capacity for {capacity} entries is kept");
    }
}
