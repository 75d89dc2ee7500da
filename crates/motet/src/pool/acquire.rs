//! Acquiring a connection: an idle one or the next free one, with a check if it was idle for a while.

use std::error::Error;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::thread;
use std::time::Duration;

use tokio::task::coop;
use tokio::time::Instant;

use super::error::{AcquireError, Refusal};
use super::manager::Manager;
use super::pooled::Pooled;
use super::shared::{Member, PoolConnection, PoolShared};
use super::state::{Joined, PoolEntry, QueueEnd, Seen};
use crate::mutant;
use crate::sync::{Quiet, WaitState, quietly_drop, renew};
use crate::task::timeout;

pub(super) async fn acquire<M: Manager>(
    shared: &Arc<PoolShared<M>>,
    site: &'static Location<'static>,
) -> Result<Pooled<M>, AcquireError<M::Error>> {
    let (mut at, mut began) = (QueueEnd::Back, None);
    loop {
        let mut wait = Wait { shared, at, began, key: None };
        let entry = match (&mut wait).await {
            Ok(entry) => entry,
            Err(refusal) => return Err(shared.refused(refusal, wait.began)),
        };
        let Some(now) = check_is_due(shared, &entry) else { return Ok(Pooled::new(shared, entry, site)) };
        let began_to_wait = wait.began.unwrap_or(now);
        drop(wait);
        let left = shared.settings.check_timeout.saturating_sub(entry.checked_for);
        let mut checking = Checking { shared, entry: Some(entry), began: now };
        // If the check is dropped, a panic in its drop is caught; while the check runs, a panic reaches the caller.
        let outcome = timeout(left, Quiet::new(shared.manager.check(checking.connection()))).await;
        let mut entry = checking.done();
        let error: &dyn Error = match &outcome {
            Ok(Ok(())) => {
                (entry.unverified, entry.checked_for) = (false, Duration::ZERO);
                return Ok(Pooled::new(shared, entry, site));
            }
            Ok(Err(error)) => error,
            Err(elapsed) => elapsed,
        };
        // Before the error is formatted, which may panic.
        shared.discard(entry);
        crate::log::debug!(pool = %shared.settings.name, error, "a connection failed its check");
        quietly_drop(outcome);
        // This caller was at the head of the queue and has no connection yet, so it joins at the front again.
        (at, began) = (QueueEnd::Front, Some(began_to_wait));
    }
}

pub(super) fn try_acquire<M: Manager>(
    shared: &Arc<PoolShared<M>>,
    site: &'static Location<'static>,
) -> Option<Pooled<M>> {
    let entry = shared.state().take_if(|entry| check_is_due(shared, entry).is_none())?;
    Some(Pooled::new(shared, entry, site))
}

/// The current time, if the connection has to be checked. The clock is not read for a connection that came back since the
/// last tick, unless a check is due in any case.
#[inline]
fn check_is_due<M: Manager>(
    shared: &PoolShared<M>,
    entry: &PoolEntry<PoolConnection<M::Connection>>,
) -> Option<Instant> {
    let after = shared.settings.check_after?;
    if entry.unverified || after.is_zero() {
        return Some(Instant::now());
    }
    let since = entry.since?;
    let now = Instant::now();
    (now.saturating_duration_since(since) >= after).then_some(now)
}

/// A connection that is being checked. If it is dropped during the check, it returns to the pool as unverified.
struct Checking<'a, M: Manager> {
    shared: &'a Arc<PoolShared<M>>,
    /// `None` once the check is done.
    entry: Option<Member<M>>,
    began: Instant,
}

impl<M: Manager> Checking<'_, M> {
    fn connection(&mut self) -> &mut M::Connection {
        &mut self.entry.as_mut().expect("the entry is present until the check is done").what.connection
    }

    fn done(mut self) -> Member<M> {
        self.entry.take().expect("the entry is present until the check is done")
    }
}

impl<M: Manager> Drop for Checking<'_, M> {
    fn drop(&mut self) {
        let Some(mut entry) = self.entry.take() else { return };
        entry.unverified = true;
        if mutant!("pool.trust_unverified") {
            entry.unverified = false;
        }
        // A connection whose check always hangs must not circulate without end among callers with shorter timeouts.
        entry.checked_for += self.began.elapsed();
        let mut is_hopeless = entry.checked_for >= self.shared.settings.check_timeout;
        if mutant!("pool.discard_unverified") {
            is_hopeless = true;
        }
        if thread::panicking() || is_hopeless {
            self.shared.discard(entry);
        } else {
            self.shared.put_back(QueueEnd::Front, entry);
        }
    }
}

/// Waits for a connection. If it is dropped after a connection was handed to it, that connection goes to the next
/// caller.
struct Wait<'a, M: Manager> {
    shared: &'a Arc<PoolShared<M>>,
    at: QueueEnd,
    /// When the wait began; `None` until the caller has to wait.
    began: Option<Instant>,
    /// The key in the queue, while the caller waits.
    key: Option<usize>,
}

type Taken<M> = Result<Member<M>, Refusal<<M as Manager>::Error>>;

impl<M: Manager> Future for Wait<'_, M> {
    type Output = Taken<M>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Taken<M>> {
        let coop = ready!(coop::poll_proceed(cx));
        let taken = match self.key {
            Some(key) => self.look(key, cx.waker()),
            // If other callers had to wait, this one joins the queue at once and saves a lock: joining also takes an
            // idle connection.
            None if self.shared.is_busy.load(Ordering::Relaxed) => self.join(cx.waker()),
            None => {
                let idle = self.shared.state().take();
                idle.map_or_else(|| self.join(cx.waker()), |entry| Poll::Ready(Ok(entry)))
            }
        };
        if taken.is_ready() {
            coop.made_progress();
        }
        taken
    }
}

impl<M: Manager> Wait<'_, M> {
    fn join(&mut self, waker: &Waker) -> Poll<Taken<M>> {
        // Outside of the lock: cloning a waker runs code of the user.
        let mut waker = Some(waker.clone());
        let now = Instant::now();
        let began = *self.began.get_or_insert(now);
        match self.shared.change(|state, todo| state.join(self.at, &mut waker, began, now, todo)) {
            Joined::Got(entry) => Poll::Ready(Ok(entry)),
            Joined::Refused(error) => Poll::Ready(Err(error)),
            Joined::Waits(key) => {
                self.key = Some(key);
                if !self.shared.is_busy.load(Ordering::Relaxed) {
                    self.shared.is_busy.store(true, Ordering::Relaxed);
                }
                Poll::Pending
            }
        }
    }

    fn look(&mut self, key: usize, waker: &Waker) -> Poll<Taken<M>> {
        let taken = renew(waker, |renewal| match self.shared.state().look(key, renewal) {
            Seen::Settled(taken) => Some(Poll::Ready(taken)),
            Seen::Waiting => Some(Poll::Pending),
            Seen::OtherWaker => None,
        });
        if taken.is_ready() {
            self.key = None;
        }
        taken
    }
}

impl<M: Manager> Drop for Wait<'_, M> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let stage = self.shared.state().leave(key);
        match stage {
            WaitState::Settled(Ok(entry)) => {
                if mutant!("pool.lose_hand_off") {
                    return quietly_drop(entry);
                }
                // The connection was not used.
                self.shared.put_back(QueueEnd::Front, entry);
            }
            WaitState::Settled(Err(error)) => quietly_drop(error),
            WaitState::Waiting(waker) => drop(waker),
        }
    }
}
