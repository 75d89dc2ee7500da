use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// The items that a worker holds.
enum Hand {
    Nothing,
    Source(usize),
    Items(u64, VecDeque<u64>),
}

struct Model {
    state: State<u64, u64>,
    source: VecDeque<u64>,
    hands: Vec<Hand>,
    collected: Vec<u64>,
    consumed: usize,
}

impl Model {
    fn collect(&mut self) -> Found {
        let mut into = VecDeque::new();
        let found = self.state.collect(std::mem::take(&mut self.consumed), &mut into);
        self.consumed = into.len().saturating_sub(1);
        self.collected.extend(into);
        found
    }

    /// Performs the next step of this worker. With `gives_back`, an item waits, and the items behind it are returned.
    fn step(&mut self, worker: usize, take: usize, gives_back: bool) {
        let hand = std::mem::replace(&mut self.hands[worker], Hand::Nothing);
        self.hands[worker] = match hand {
            Hand::Nothing => match self.state.claim() {
                Claim::Item(number, item) => Hand::Items(number, [item].into()),
                Claim::Source(most) => Hand::Source(most),
                Claim::Wait | Claim::Over => Hand::Nothing,
            },
            Hand::Source(most) => {
                let count = take.min(most).min(self.source.len());
                let items: VecDeque<_> = self.source.drain(..count).collect();
                let first = self.state.took(count, self.source.is_empty());
                Hand::Items(first, items)
            }
            Hand::Items(first, mut items) if gives_back && items.len() > 1 => {
                let waits = items.pop_front().unwrap_or_default();
                self.state.deliver(first, [].into_iter());
                self.state.give_back(first + 1, items.into_iter());
                Hand::Items(first, [waits].into())
            }
            Hand::Items(first, items) => {
                let count = items.len();
                self.state.deliver(first, items.into_iter());
                self.state.timed(count, Duration::from_micros(take as u64 * 40));
                Hand::Nothing
            }
        };
    }
}

proptest! {
    #[test]
    fn every_order_yields_all_results_and_stays_within_the_window(
        ordered in any::<bool>(),
        workers in 1_usize..4,
        window in prop::option::of(1_usize..9),
        count in 0_u64..60,
        steps in prop::collection::vec((0_usize..5, 1_usize..9, any::<bool>()), 0..200),
    ) {
        let order = if ordered { Order::Source } else { Order::Done };
        let mut model = Model {
            state: State::new(order, workers, window),
            source: (0..count).collect(),
            hands: (0..workers).map(|_| Hand::Nothing).collect(),
            collected: Vec::new(),
            consumed: 0,
        };
        let rest = (0..2_000).map(|at| (at % (workers + 1), 1 + at % 7, at % 5 == 0));
        let mut found = Found::Nothing;
        for (who, take, gives_back) in steps.into_iter().chain(rest) {
            match model.hands.get(who) {
                Some(_) => model.step(who, take, gives_back),
                None => found = model.collect(),
            }
            let ahead = model.state.counts().ahead;
            prop_assert!(window.is_none_or(|window| ahead <= window), "{ahead} ahead of {window:?}");
        }
        prop_assert_eq!(found, Found::End);
        if !ordered {
            model.collected.sort_unstable();
        }
        prop_assert_eq!(model.collected, (0..count).collect::<Vec<_>>());
    }
}
