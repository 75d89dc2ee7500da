//! Getting a connection: from the pool or from the queue, and checked where it was idle.

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

use super::error::AcquireError;
use super::manager::Manager;
use super::pooled::Pooled;
use super::shared::{Inner, Member, Shared};
use super::state::{At, Entry, Joined, Seen, Stage};
use crate::mutant;
use crate::task::caught::{Quiet, quietly_drop};
use crate::task::renew::renew;
use crate::task::timeout;

pub(super) async fn acquire<M: Manager>(
    shared: &Arc<Shared<M>>,
    site: &'static Location<'static>,
) -> Result<Pooled<M>, AcquireError<M::Error>> {
    let (mut at, mut began) = (At::Back, None);
    loop {
        let mut wait = Wait { shared, at, began, place: None };
        let entry = (&mut wait).await?;
        let Some(now) = check_is_due(shared, &entry) else { return Ok(Pooled::new(shared, entry, site)) };
        let began_to_wait = wait.began.unwrap_or(now);
        drop(wait);
        let left = shared.settings.check_timeout.saturating_sub(entry.checked_for);
        let mut checking = Checking { shared, entry: Some(entry), began: now };
        // Cut off, it is dropped where a panic of that ends; while it runs, its panic is the caller's.
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
        // Before the error is shown, which may panic.
        shared.discard(entry);
        crate::log::debug!(pool = %shared.settings.name, error, "a connection failed its check");
        quietly_drop(outcome);
        // It was its turn, and it got nothing out of it.
        (at, began) = (At::Front, Some(began_to_wait));
    }
}

pub(super) fn try_acquire<M: Manager>(
    shared: &Arc<Shared<M>>,
    site: &'static Location<'static>,
) -> Option<Pooled<M>> {
    let entry = shared.state().take_if(|entry| check_is_due(shared, entry).is_none())?;
    Some(Pooled::new(shared, entry, site))
}

/// The time, if it is one for a check. The clock is read only for a connection that has been idle for a tick or more.
#[inline]
fn check_is_due<M: Manager>(shared: &Shared<M>, entry: &Entry<Inner<M::Connection>>) -> Option<Instant> {
    let after = shared.settings.check_after?;
    if entry.unverified || after.is_zero() {
        return Some(Instant::now());
    }
    let since = entry.since?;
    let now = Instant::now();
    (now.saturating_duration_since(since) >= after).then_some(now)
}

/// A connection that is being checked. Dropped meanwhile, it goes back as one that nobody knows anything about.
struct Checking<'a, M: Manager> {
    shared: &'a Arc<Shared<M>>,
    /// `None` once the check is done.
    entry: Option<Member<M>>,
    began: Instant,
}

impl<M: Manager> Checking<'_, M> {
    fn connection(&mut self) -> &mut M::Connection {
        &mut self.entry.as_mut().expect("there until the check is done").what.connection
    }

    fn done(mut self) -> Member<M> {
        self.entry.take().expect("there until the check is done")
    }
}

impl<M: Manager> Drop for Checking<'_, M> {
    fn drop(&mut self) {
        let Some(mut entry) = self.entry.take() else { return };
        entry.unverified = !mutant!("pool.trust_unverified");
        // What hangs in every check must not go round for ever among callers with less patience than that.
        entry.checked_for += self.began.elapsed();
        let is_hopeless = entry.checked_for >= self.shared.settings.check_timeout;
        if thread::panicking() || is_hopeless || mutant!("pool.discard_unverified") {
            self.shared.discard(entry);
        } else {
            self.shared.put_back(At::Front, entry);
        }
    }
}

/// Waits for a connection. Dropped with one that it was handed, it hands that on.
struct Wait<'a, M: Manager> {
    shared: &'a Arc<Shared<M>>,
    at: At,
    /// When it began to wait; unknown until it has to.
    began: Option<Instant>,
    place: Option<usize>,
}

type Taken<M> = Result<Member<M>, AcquireError<<M as Manager>::Error>>;

impl<M: Manager> Future for Wait<'_, M> {
    type Output = Taken<M>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Taken<M>> {
        let coop = ready!(coop::poll_proceed(cx));
        let taken = match self.place {
            Some(place) => self.look(place, cx.waker()),
            // Where others had to wait it joins them at once, and saves a lock: joining takes what is idle, too.
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
        // Outside of the lock: a waker is somebody's code.
        let mut waker = Some(waker.clone());
        let now = Instant::now();
        let began = *self.began.get_or_insert(now);
        match self.shared.change(|state, todo| state.join(self.at, &mut waker, began, now, todo)) {
            Joined::Got(entry) => Poll::Ready(Ok(entry)),
            Joined::Refused(error) => Poll::Ready(Err(error)),
            Joined::Waits(place) => {
                self.place = Some(place);
                if !self.shared.is_busy.load(Ordering::Relaxed) {
                    self.shared.is_busy.store(true, Ordering::Relaxed);
                }
                Poll::Pending
            }
        }
    }

    fn look(&mut self, place: usize, waker: &Waker) -> Poll<Taken<M>> {
        let taken = renew(waker, |renewal| match self.shared.state().look(place, renewal) {
            Seen::Settled(taken) => Some(Poll::Ready(taken)),
            Seen::Waiting => Some(Poll::Pending),
            Seen::OtherWaker => None,
        });
        if taken.is_ready() {
            self.place = None;
        }
        taken
    }
}

impl<M: Manager> Drop for Wait<'_, M> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let stage = self.shared.state().leave(place);
        match stage {
            Stage::Settled(Ok(entry)) if mutant!("pool.lose_hand_off") => quietly_drop(entry),
            // Nobody has used it.
            Stage::Settled(Ok(entry)) => self.shared.put_back(At::Front, entry),
            Stage::Settled(Err(error)) => quietly_drop(error),
            Stage::Waiting(waker) => drop(waker),
        }
    }
}
