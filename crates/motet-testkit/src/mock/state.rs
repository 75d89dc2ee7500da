use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::record::History;
use super::step::Step;
use super::{Call, Outcome, PendingCall};

/// Creates the steps after the end of a script.
pub(super) type Maker<A, R> = Arc<dyn Fn() -> Step<A, R> + Send + Sync>;

/// The state that the handles of a function share.
pub(super) struct Shared<A, R> {
    pub(super) name: String,
    /// Not held while foreign code runs: no closure, and no `Clone`, `Debug`, `PartialEq` or `Drop` of `A` or `R`.
    state: Mutex<State<A, R>>,
    /// Notified once for each call that starts to wait for a reply.
    pub(super) arrived: Notify,
}

pub(super) struct State<A, R> {
    pub(super) steps: VecDeque<Step<A, R>>,
    pub(super) then: Option<Maker<A, R>>,
    pub(super) calls: Vec<Call<A>>,
    pub(super) asked: VecDeque<PendingCall<A, R>>,
    running: usize,
    pub(super) max_running: usize,
}

impl<A, R> Shared<A, R> {
    pub(super) fn new(name: String) -> Self {
        let state = State {
            steps: VecDeque::new(),
            then: None,
            calls: Vec::new(),
            asked: VecDeque::new(),
            running: 0,
            max_running: 0,
        };
        Self { name, state: Mutex::new(state), arrived: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<A, R>> {
        // No panic leaves the state half changed: no foreign code runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn history(&self) -> History<'_, A> {
        History { name: &self.name, calls: self.lock().calls.clone() }
    }

    /// Returns the first waiting call whose caller still waits.
    pub(super) fn next_asked(&self) -> Option<PendingCall<A, R>> {
        loop {
            let call = self.lock().asked.pop_front()?;
            if !call.is_cancelled() {
                return Some(call);
            }
        }
    }
}

impl<A, R> State<A, R> {
    /// Records the start of a call; returns its index.
    pub(super) fn begin(&mut self, args: &Arc<A>, step: &'static str, now: Instant) -> usize {
        self.running += 1;
        self.max_running = self.max_running.max(self.running);
        let args = Arc::clone(args);
        self.calls.push(Call { args, step, started: now, ended: None, outcome: Outcome::Running });
        self.calls.len() - 1
    }

    /// Records the end of a call.
    pub(super) fn end(&mut self, index: usize, outcome: Outcome, now: Option<Instant>) {
        self.running -= 1;
        let call = &mut self.calls[index];
        call.outcome = outcome;
        call.ended = Some(now.unwrap_or(call.started));
    }
}
