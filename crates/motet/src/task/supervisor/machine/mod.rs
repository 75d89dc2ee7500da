//! The decisions of a supervisor, as a pure state machine: `now` is an argument, and no function waits.

mod window;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use self::window::Window;
use super::child::Restart;
use super::error::{ChildRunError, FailureCause, SupervisorError};
use super::watch::{ChildState, ChildStatus};
use crate::rng::Rng;
use crate::sync::quietly_drop;
use crate::task::Name;
use crate::{Backoff, rng};

/// How many failures the error of a supervisor carries.
const FAILURES: usize = 8;

/// The next action of the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Start(usize),
    Stop(usize),
}

/// How a child ended.
#[derive(Debug)]
pub(super) enum End {
    Returned,
    Failed(FailureCause),
    /// It was dropped on demand.
    Dropped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Up,
    Down,
}

pub(super) struct Machine {
    supervisor: Name,
    window: Window,
    backoff: Backoff,
    mode: Mode,
    slots: Vec<Slot>,
    failures: VecDeque<ChildRunError>,
    gave_up: Option<SupervisorError>,
}

struct Slot {
    status: ChildStatus,
    restart: Restart,
    /// Failures in a row, for the backoff.
    attempt: u32,
    /// When it became ready, since its last start.
    ready_at: Option<Instant>,
    /// Whether it ever was: then the children after it have been started.
    has_been_ready: bool,
}

impl Slot {
    fn is_alive(&self) -> bool {
        matches!(self.status.state, ChildState::Starting | ChildState::Running | ChildState::Stopping)
    }

    /// Whether the children after this one may be started: it is ready, or has been.
    fn lets_next_start(&self) -> bool {
        self.has_been_ready || matches!(self.status.state, ChildState::Stopped | ChildState::Failed)
    }
}

impl Machine {
    pub(super) fn new(supervisor: Name, max_restarts: u32, within: Duration, backoff: Backoff) -> Self {
        Self {
            supervisor,
            window: Window::new(max_restarts, within),
            backoff,
            mode: Mode::Up,
            slots: Vec::new(),
            failures: VecDeque::new(),
            gave_up: None,
        }
    }

    pub(super) fn add(&mut self, name: Name, restart: Restart) {
        let status = ChildStatus { name, state: ChildState::Waiting, restarts: 0, last_failure: None };
        self.slots.push(Slot { status, restart, attempt: 0, ready_at: None, has_been_ready: false });
    }

    /// Returns the next command, or `None` if there is none now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Command> {
        match self.mode {
            Mode::Up => self.next_start(now).map(Command::Start),
            Mode::Down => self.next_stop().map(Command::Stop),
        }
    }

    fn next_start(&mut self, now: Instant) -> Option<usize> {
        for (child, slot) in self.slots.iter_mut().enumerate() {
            match slot.status.state {
                ChildState::Waiting => {}
                ChildState::Backoff { until } if until <= now => slot.status.restarts += 1,
                _ if slot.lets_next_start() => continue,
                // In order: the ones after it wait until it is ready.
                _ => return None,
            }
            slot.status.state = ChildState::Starting;
            slot.ready_at = None;
            return Some(child);
        }
        None
    }

    /// The next child to stop: one at a time, the last started first.
    fn next_stop(&mut self) -> Option<usize> {
        let (child, last) = self.slots.iter_mut().enumerate().rfind(|(_, slot)| slot.is_alive())?;
        if last.status.state == ChildState::Stopping {
            return None;
        }
        last.status.state = ChildState::Stopping;
        Some(child)
    }

    pub(super) fn ready(&mut self, child: usize, now: Instant) {
        let slot = &mut self.slots[child];
        // A child that is being stopped stays in that state.
        if slot.status.state == ChildState::Starting {
            slot.status.state = ChildState::Running;
            slot.ready_at = Some(now);
            slot.has_been_ready = true;
        }
    }

    pub(super) fn ended(&mut self, child: usize, end: End, now: Instant) {
        rng::with(|rng| self.ended_with(child, end, now, rng));
    }

    fn ended_with(&mut self, child: usize, end: End, now: Instant, rng: &mut Rng) {
        let slot = &mut self.slots[child];
        let permanent = slot.restart == Restart::Permanent;
        let cause = match (end, self.mode) {
            (End::Failed(cause), _) => cause,
            (End::Returned, Mode::Up) if permanent => FailureCause::Returned,
            (End::Returned | End::Dropped, _) => {
                slot.status.state = ChildState::Stopped;
                return;
            }
        };
        let failure = ChildRunError { child: slot.status.name.clone(), at: now, cause };
        // What goes may hold the last reference to an error, whose drop is a user's code.
        quietly_drop(slot.status.last_failure.replace(failure.clone()));
        if self.failures.len() == FAILURES {
            quietly_drop(self.failures.pop_front());
        }
        self.failures.push_back(failure);
        if self.mode == Mode::Down || slot.restart == Restart::Temporary {
            slot.status.state = ChildState::Failed;
        } else if self.window.admit(now) {
            let up = slot.ready_at.map(|at| now.duration_since(at));
            if up.is_some_and(|up| up >= self.window.within()) {
                slot.attempt = 0;
            }
            // A wait beyond the end of the clock would be no wait at all.
            let until = now.checked_add(self.backoff.delay(slot.attempt, rng)).unwrap_or(now + FAR);
            slot.attempt = slot.attempt.saturating_add(1);
            slot.status.state = ChildState::Backoff { until };
        } else {
            slot.status.state = ChildState::Failed;
            self.gave_up = Some(SupervisorError {
                supervisor: self.supervisor.clone(),
                child: slot.status.name.clone(),
                max_restarts: self.window.max(),
                within: self.window.within(),
                failures: self.failures.iter().cloned().collect(),
            });
            self.stop();
        }
    }

    /// From now on children are stopped, and none is started.
    pub(super) fn stop(&mut self) {
        self.mode = Mode::Down;
        for slot in &mut self.slots {
            if matches!(slot.status.state, ChildState::Waiting | ChildState::Backoff { .. }) {
                slot.status.state = ChildState::Stopped;
            }
        }
    }

    /// Whether the start is over: every child was ready, or ended for good, before a stop.
    pub(super) fn is_started(&self) -> bool {
        self.mode == Mode::Up && self.slots.iter().all(Slot::lets_next_start)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.mode == Mode::Down
    }

    /// When a backoff is over.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let until = |slot: &Slot| match slot.status.state {
            ChildState::Backoff { until } => Some(until),
            _ => None,
        };
        self.slots.iter().filter_map(until).min()
    }

    /// Whether all children have ended for good.
    pub(super) fn is_over(&self) -> bool {
        self.slots.iter().all(|slot| matches!(slot.status.state, ChildState::Stopped | ChildState::Failed))
    }

    pub(super) fn outcome(mut self) -> Result<(), SupervisorError> {
        let gave_up = self.gave_up.take();
        self.failures.into_iter().for_each(quietly_drop);
        self.slots.into_iter().for_each(quietly_drop);
        gave_up.map_or(Ok(()), Err)
    }

    pub(super) fn statuses(&self) -> Vec<ChildStatus> {
        self.slots.iter().map(|slot| slot.status.clone()).collect()
    }
}

/// Ten years.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests;
