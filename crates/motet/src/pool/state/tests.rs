//! Compares the state with a naive model: lists that are searched, and no times but the deadlines of the callers and the
//! back-off.

#![allow(clippy::vec_box, reason = "entries are boxed wherever they go")]

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::Jitter;
use crate::sync::renew;

#[derive(Debug, Clone, Copy)]
enum PoolStep {
    Acquire,
    /// The waiter of this number, among those that exist.
    GiveUp(usize),
    Look(usize),
    Return(usize),
    Break(usize),
    Detach(usize),
    ConnectEnds,
    ConnectFails,
    CloseEnds,
    Resize(usize),
    Pass(u64),
    Close,
}

fn step() -> impl Strategy<Value = PoolStep> {
    prop_oneof![
        8 => Just(PoolStep::Acquire),
        2 => any::<usize>().prop_map(PoolStep::GiveUp),
        6 => any::<usize>().prop_map(PoolStep::Look),
        5 => any::<usize>().prop_map(PoolStep::Return),
        2 => any::<usize>().prop_map(PoolStep::Break),
        1 => any::<usize>().prop_map(PoolStep::Detach),
        6 => Just(PoolStep::ConnectEnds),
        1 => Just(PoolStep::ConnectFails),
        3 => Just(PoolStep::CloseEnds),
        1 => (2_usize..6).prop_map(PoolStep::Resize),
        2 => (0_u64..60).prop_map(PoolStep::Pass),
        1 => prop_oneof![30 => Just(PoolStep::Acquire), 1 => Just(PoolStep::Close)],
    ]
}

/// A number stands for each connection.
type Subject = PoolState<u32, ()>;

/// The expected content of a waiter's entry.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Found {
    Nothing,
    Connection(u32),
    TimedOut,
    Unavailable,
    Closed,
}

#[derive(Default)]
struct Model {
    min: usize,
    max: usize,
    connects: usize,
    idle: Vec<u32>,
    held: Vec<u32>,
    /// In the order of arrival, with their deadlines, and their keys in the subject.
    waiters: Vec<(usize, Duration, Found)>,
    connecting: usize,
    closing: usize,
    next: u32,
    /// The time before which no connect is started.
    down_until: Option<Duration>,
    stragglers: usize,
    failures: u32,
    is_closed: bool,
}

const PATIENCE: Duration = Duration::from_millis(100);
/// The limit of waiting callers.
const MAX_WAITING: usize = 6;

impl Model {
    fn live(&self) -> usize {
        let handed =
            self.waiters.iter().filter(|(_, _, found)| matches!(found, Found::Connection(_))).count();
        self.idle.len() + self.held.len() + handed
    }

    fn waiting(&self) -> usize {
        self.waiters.iter().filter(|(_, _, found)| *found == Found::Nothing).count()
    }

    fn next_waiter(&mut self) -> Option<&mut (usize, Duration, Found)> {
        self.waiters.iter_mut().find(|(_, _, found)| *found == Found::Nothing)
    }

    fn refuse_all(&mut self, with: Found) {
        while let Some((_, _, found)) = self.next_waiter() {
            *found = with;
        }
    }

    /// Makes a connection free.
    fn give(&mut self, link: u32) {
        match self.next_waiter() {
            Some((_, _, found)) => *found = Found::Connection(link),
            None => self.idle.push(link),
        }
    }

    fn refuse_stranded(&mut self) {
        if self.down_until.is_some() && self.live() + self.connecting == 0 {
            self.refuse_all(Found::Unavailable);
        }
    }

    /// The number of connects to start now.
    fn connect(&mut self, now: Duration) -> usize {
        let mut started = 0;
        while !self.is_closed {
            let total = self.live() + self.connecting + self.closing;
            let may = match self.down_until {
                Some(until) => usize::from(now >= until),
                None => self.connects,
            };
            let is_wanted = self.waiting() > self.connecting || self.live() + self.connecting < self.min;
            if !is_wanted || total >= self.max || self.connecting >= may {
                break;
            }
            self.connecting += 1;
            started += 1;
        }
        started
    }
}

struct Pair {
    model: Model,
    subject: Subject,
    begin: Instant,
    now: Duration,
    held: Vec<Box<PoolEntry<u32>>>,
    closing: VecDeque<Box<PoolEntry<u32>>>,
    max_ever: usize,
}

impl Pair {
    fn new(min: usize, max: usize, connects: usize) -> Self {
        let rules = PoolRules {
            connects,
            max_waiting: MAX_WAITING,
            acquire_timeout: Some(PATIENCE),
            idle_timeout: None,
            tick: None,
            leak_after: None,
            backoff: Backoff::doubling(Duration::from_millis(20), Duration::from_millis(80))
                .with_jitter(Jitter::None),
        };
        Self {
            model: Model { min, max, connects, ..Model::default() },
            subject: PoolState::new(min, max, rules),
            begin: Instant::now(),
            now: Duration::ZERO,
            held: Vec::new(),
            closing: VecDeque::new(),
            max_ever: max,
        }
    }

    fn at(&self) -> Instant {
        self.begin + self.now
    }

    fn done(&mut self, todo: PoolTodo<u32, ()>) -> usize {
        self.closing.extend(todo.close);
        todo.connect
    }

    fn acquire(&mut self) {
        let (mut todo, mut waker) = (PoolTodo::default(), Some(Waker::noop().clone()));
        let joined = self.subject.join(QueueEnd::Back, &mut waker, self.at(), self.at(), &mut todo);
        let model = &mut self.model;
        match joined {
            Joined::Got(entry) => {
                assert_eq!(model.idle.pop(), Some(entry.what), "the connection that was used last");
                model.held.push(entry.what);
                self.held.push(entry);
            }
            Joined::Refused(error) => {
                assert!(model.idle.is_empty());
                match error {
                    Refusal::Closed => assert!(model.is_closed),
                    Refusal::Unavailable(_) => {
                        let until = model.down_until.expect("the backend is down");
                        assert!(model.live() == 0 && (model.connecting > 0 || self.now < until));
                    }
                    Refusal::TooManyWaiting { limit } => {
                        assert_eq!((limit, model.waiting()), (MAX_WAITING, MAX_WAITING));
                    }
                    Refusal::TimedOut { .. } => panic!("a new caller cannot have timed out"),
                }
            }
            Joined::Waits(key) => {
                assert!(model.idle.is_empty() && !model.is_closed && model.waiting() < MAX_WAITING);
                model.waiters.push((key, self.now + PATIENCE, Found::Nothing));
                let started = self.done(todo);
                return assert_eq!(started, self.model.connect(self.now));
            }
        }
        // Only a caller that waits starts connects here; the keeper starts the connects up to the minimum.
        assert_eq!(self.done(todo), 0);
    }

    fn look(&mut self, number: usize) {
        if self.model.waiters.is_empty() {
            return;
        }
        let number = number % self.model.waiters.len();
        let (key, _, found) = self.model.waiters[number];
        let seen = renew(Waker::noop(), |renewal| match self.subject.look(key, renewal) {
            Seen::OtherWaker => None,
            seen => Some(seen),
        });
        match seen {
            Seen::Waiting | Seen::OtherWaker => return assert_eq!(found, Found::Nothing),
            Seen::Settled(Ok(entry)) => {
                assert_eq!(found, Found::Connection(entry.what));
                self.model.held.push(entry.what);
                self.held.push(entry);
            }
            Seen::Settled(Err(error)) => {
                let refused = match error {
                    Refusal::Closed => Found::Closed,
                    Refusal::Unavailable(_) => Found::Unavailable,
                    Refusal::TimedOut { .. } => Found::TimedOut,
                    Refusal::TooManyWaiting { .. } => {
                        panic!("a caller in the queue is not refused for the limit")
                    }
                };
                assert_eq!(found, refused);
            }
        }
        self.model.waiters.remove(number);
    }

    fn give_up(&mut self, number: usize) {
        if self.model.waiters.is_empty() {
            return;
        }
        let (key, _, found) = self.model.waiters.remove(number % self.model.waiters.len());
        match self.subject.leave(key) {
            WaitState::Waiting(_) => assert_eq!(found, Found::Nothing),
            WaitState::Settled(Ok(entry)) => {
                assert_eq!(found, Found::Connection(entry.what));
                self.model.held.push(entry.what);
                self.give_back(entry);
            }
            WaitState::Settled(Err(_)) => assert!(!matches!(found, Found::Nothing | Found::Connection(_))),
        }
    }

    fn give_back(&mut self, entry: Box<PoolEntry<u32>>) {
        let link = entry.what;
        let is_surplus = self.model.is_closed || self.model.live() > self.model.max;
        self.model.held.retain(|held| *held != link);
        match self.subject.give_back(entry) {
            Ok(_) => {
                assert!(!is_surplus);
                self.model.give(link);
            }
            Err(entry) => {
                assert!(is_surplus);
                self.discard(entry);
            }
        }
    }

    /// Discards a connection that no caller of the model holds any more.
    fn discard(&mut self, entry: Box<PoolEntry<u32>>) {
        let mut todo = PoolTodo::default();
        self.subject.discard(entry, &mut todo);
        self.model.closing += 1;
        self.model.refuse_stranded();
        assert_eq!(self.done(todo), 0);
    }

    fn take_held(&mut self, number: usize) -> Option<Box<PoolEntry<u32>>> {
        if self.held.is_empty() {
            return None;
        }
        let number = number % self.held.len();
        Some(self.held.swap_remove(number))
    }

    fn step(&mut self, step: PoolStep) {
        let mut todo = PoolTodo::default();
        match step {
            PoolStep::Acquire => return self.acquire(),
            PoolStep::GiveUp(number) => return self.give_up(number),
            PoolStep::Look(number) => return self.look(number),
            PoolStep::Return(number) => {
                if let Some(entry) = self.take_held(number) {
                    self.give_back(entry);
                }
                return;
            }
            PoolStep::Break(number) => {
                if let Some(entry) = self.take_held(number) {
                    self.model.held.retain(|held| *held != entry.what);
                    self.discard(entry);
                }
                return;
            }
            PoolStep::Detach(number) => {
                let Some(entry) = self.take_held(number) else { return };
                self.model.held.retain(|held| *held != entry.what);
                self.subject.detach(&entry, self.begin + self.now, &mut todo);
                self.model.refuse_stranded();
            }
            PoolStep::ConnectEnds => {
                if self.model.connecting == 0 {
                    return;
                }
                // Far beyond the end: the test checks that no expiry of a closed connection is kept.
                let expires = Some(self.begin + Duration::from_secs(86_400));
                self.subject.connected(self.model.next, expires, self.begin + self.now, &mut todo);
                let model = &mut self.model;
                let link = model.next;
                (model.connecting, model.next, model.down_until) = (model.connecting - 1, link + 1, None);
                if model.is_closed || model.live() >= model.max {
                    model.closing += 1;
                } else {
                    model.give(link);
                }
            }
            PoolStep::ConnectFails => {
                if self.model.connecting == 0 {
                    return;
                }
                let cause = Arc::new(ConnectError::Failed(()));
                self.subject.connect_failed(cause, self.begin + self.now, &mut todo);
                let model = &mut self.model;
                model.connecting -= 1;
                if model.down_until.is_none() {
                    (model.failures, model.stragglers) = (0, model.connecting);
                    model.down_until = Some(self.now + Duration::from_millis(20));
                } else if model.stragglers > 0 {
                    model.stragglers -= 1;
                } else {
                    model.failures = (model.failures + 1).min(2);
                    model.down_until = Some(self.now + Duration::from_millis(20 << model.failures));
                }
                model.refuse_stranded();
            }
            PoolStep::CloseEnds => {
                if self.closing.pop_front().is_none() {
                    return;
                }
                self.subject.connection_closed(self.begin + self.now, &mut todo);
                self.model.closing -= 1;
            }
            PoolStep::Resize(max) => {
                let max = max.max(self.model.min);
                self.max_ever = self.max_ever.max(max);
                self.subject.resize(max, self.begin + self.now, &mut todo);
                let model = &mut self.model;
                model.max = max;
                while model.live() > max && !model.idle.is_empty() {
                    model.idle.remove(0);
                    model.closing += 1;
                }
            }
            PoolStep::Pass(millis) => {
                self.now += Duration::from_millis(millis);
                drop(self.subject.keep(self.begin + self.now, Waker::noop().clone(), &mut todo));
                for (_, deadline, found) in &mut self.model.waiters {
                    if *found == Found::Nothing && *deadline <= self.now {
                        *found = Found::TimedOut;
                    }
                }
            }
            PoolStep::Close => {
                self.subject.close(&mut todo);
                let model = &mut self.model;
                model.is_closed = true;
                model.refuse_all(Found::Closed);
                model.closing += model.idle.len();
                model.idle.clear();
            }
        }
        let started = self.done(todo);
        assert_eq!(started, self.model.connect(self.now));
    }

    fn check(&self) {
        let (counts, model) = (self.subject.counts(), &self.model);
        assert_eq!(
            (counts.idle, counts.live, counts.connecting, counts.closing, counts.waiting),
            (model.idle.len(), model.live(), model.connecting, model.closing, model.waiting())
        );
        assert!(counts.live + counts.connecting + counts.closing <= self.max_ever);
        assert!(counts.idle == 0 || counts.waiting == 0, "a caller waits while a connection is idle");
        assert_eq!(self.closing.len(), model.closing, "each connection is closed once");
        assert_eq!(self.subject.expiries.len(), model.live(), "the expiry of a closed connection is kept");
        if let Some(alarm) = self.subject.next_alarm() {
            let retries = self.subject.down.is_some();
            assert!(
                alarm > self.begin + self.now || retries || counts.waiting > 0,
                "work is due and was not done"
            );
        }
    }
}

proptest! {
    #[test]
    fn pool_state_agrees_with_a_naive_model(
        (min, max) in (0_usize..3, 2_usize..6),
        connects in 1_usize..4,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut pair = Pair::new(min, max, connects);
        for step in steps {
            pair.step(step);
            pair.check();
        }
    }
}
