use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use motet::rng;
use tokio::time::Instant;

use super::line::Line;

/// The limits over all connections of one [`Connections`](super::Connections): idle connections, open connections, and
/// their age.
#[derive(Debug)]
pub(super) struct Kept {
    most_idle: usize,
    most_open: usize,
    longest: Duration,
    open: AtomicUsize,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    next: u64,
    /// The idle connections, the longest idle first.
    lines: BTreeMap<u64, Weak<Line>>,
}

impl Kept {
    pub(super) fn new(most_idle: usize, most_open: usize, longest: Duration) -> Arc<Self> {
        Arc::new(Self { most_idle, most_open, longest, open: AtomicUsize::new(0), idle: Mutex::default() })
    }

    /// Returns the end of life of a connection that is opened now: plus or minus a tenth, so that connections of the
    /// same age do not end together. `None` means no limit.
    pub(super) fn until(&self) -> Option<Instant> {
        let factor = 900 + rng::with(|rng| rng.below(201));
        let longest = self.longest.checked_mul(u32::try_from(factor).ok()?)? / 1_000;
        Instant::now().checked_add(longest)
    }

    /// Counts a connection as open, or returns `None` at the limit.
    pub(super) fn open(self: &Arc<Self>) -> Option<Open> {
        let more = |open| (open < self.most_open).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Open(Arc::clone(self)))
    }

    pub(super) fn most_open(&self) -> usize {
        self.most_open
    }

    /// Counts a connection as idle, and returns its number.
    pub(super) fn add(&self, line: &Arc<Line>) -> u64 {
        let mut idle = self.idle();
        let number = idle.next;
        idle.next += 1;
        idle.lines.insert(number, Arc::downgrade(line));
        number
    }

    pub(super) fn remove(&self, number: u64) {
        self.idle().lines.remove(&number);
    }

    /// Closes the idle connections above the limit.
    pub(super) fn close_surplus(&self) {
        let too_many = self.idle().lines.len().saturating_sub(self.most_idle);
        self.give_up(too_many);
    }

    /// Closes up to `count` idle connections, the longest idle first.
    pub(super) fn give_up(&self, count: usize) {
        for _ in 0..count {
            let Some((number, line)) = self.idle().lines.pop_first() else { return };
            if let Some(line) = line.upgrade() {
                line.give_up(number);
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the idle connections when the last handle of them is dropped, the longest idle first. hyper-util would close
/// them in the order of a hash map, which differs between two runs of a seed.
#[derive(Debug)]
pub(super) struct IdleEnds(pub(super) Arc<Kept>);

impl Drop for IdleEnds {
    fn drop(&mut self) {
        self.0.give_up(usize::MAX);
    }
}

/// A connection that is open or being opened.
#[derive(Debug)]
pub(super) struct Open(Arc<Kept>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
