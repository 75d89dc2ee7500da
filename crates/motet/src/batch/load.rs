use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::coop;

use super::entering::{Denied, Entered, Entering, Key, Wants};
use super::error::{LoadError, PostError};
use super::shared::BatchShared;
use super::slots::Answer;
use crate::mutant;
use crate::sim::Site;

/// The future of [`Loader::load`](super::Loader::load).
#[must_use = "a key is not looked up until the future is awaited"]
pub(super) struct Load<'a, K, V, E> {
    entering: Entering<'a, Asked<K>, Arc<V>, Arc<E>>,
    key: Arc<K>,
    hash: u64,
    /// Set once the key is in a batch.
    entered: Option<EnteredKey<K, V, E>>,
    site: Site,
}

/// A key in a batch.
pub(super) struct Asked<K> {
    /// The key for comparisons.
    pub(super) key: Arc<K>,
    /// The key for the handler. It is cloned before the key enters the batch, so that a panic of the clone is a panic
    /// of the caller.
    pub(super) own: Option<K>,
}

/// A key is moved, and never pinned.
impl<K> Unpin for Asked<K> {}

type EnteredKey<K, V, E> = Entered<Asked<K>, Arc<V>, Arc<E>>;

impl<'a, K: Eq + Clone, V, E> Load<'a, K, V, E> {
    #[track_caller]
    pub(super) fn new(shared: &'a Arc<BatchShared<Asked<K>, Arc<V>, Arc<E>>>, key: K, hash: u64) -> Self {
        let key = Arc::new(key);
        let asked = Asked { key: Arc::clone(&key), own: None };
        let site = Site::named("loader", "load", || Some(shared.name.to_string()));
        Self { site, entering: Entering::new(shared, asked), key, hash, entered: None }
    }

    /// Joins the callers of the same key in the open batch. If there is none, adds the key, or waits for capacity.
    ///
    /// Keys are compared without a lock, since that is code of the user. So the result is checked again under the lock.
    #[allow(clippy::type_complexity, reason = "the output of `Entering`, for keys")]
    fn seek(&mut self, cx: &Context<'_>) -> Poll<Result<EnteredKey<K, V, E>, PostError<Asked<K>>>> {
        let shared = self.entering.shared();
        let mut key = Key { hash: self.hash, before: 0, batch: None };
        loop {
            let mut state = shared.state();
            let is_closed = state.is_closed();
            let found = state.open().filter(|_| !is_closed).and_then(|open| {
                if key.batch != Some(open.number) {
                    key = Key { before: 0, batch: Some(open.number), ..key };
                }
                let (number, theirs) = open.candidate(key.hash, key.before)?;
                Some((open.number, number, theirs.map(|asked| Arc::clone(&asked.key))))
            });
            let opened = state.is_open();
            drop(state);
            let waker = cx.waker().clone();
            let theirs = found.as_ref().and_then(|(_, _, theirs)| theirs.as_ref());
            let mut is_same = theirs.is_some_and(|theirs| **theirs == *self.key);
            if mutant!("batch.join_any") {
                is_same = theirs.is_some();
            }
            match found {
                Some((batch, number, _)) if is_same => {
                    let mut state = shared.state();
                    let open = state.open().filter(|open| open.number == batch);
                    let still = open
                        .filter(|open| matches!(open.candidate(key.hash, key.before), Some((_, Some(_)))));
                    // Not moved into the closure, which is dropped under the lock: dropping a waker may run code of the
                    // user.
                    let mut waker = Some(waker);
                    let joined = still
                        .and_then(|open| Some((Arc::clone(&open.slots), open.join(number, waker.take()?))));
                    drop(state);
                    if let Some((slots, slot)) = joined {
                        self.entering.leave_line();
                        return Poll::Ready(Ok(Entered { slots, slot, weight: 0 }));
                    }
                }
                // Another key of the same hash, or a key that was removed.
                Some(_) => key.before += 1,
                None => {
                    if !opened {
                        key = Key { before: 0, batch: None, ..key };
                    }
                    if let Some(asked) = self.entering.item() {
                        asked.own.get_or_insert_with(|| K::clone(&self.key));
                    }
                    match self.entering.enter(Wants::Answer, Some(waker), Some(key)) {
                        Ok(entered) => return Poll::Ready(Ok(entered)),
                        Err(Denied::Refused(refused)) => return Poll::Ready(Err(refused)),
                        Err(Denied::Waits) => return Poll::Pending,
                        Err(Denied::Changed) => {}
                    }
                }
            }
        }
    }

    fn closed(&self) -> LoadError<K, E> {
        LoadError::Closed(K::clone(&self.key))
    }
}

impl<K: Eq + Clone, V, E> Future for Load<'_, K, V, E> {
    type Output = Result<Arc<V>, LoadError<K, E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.site.enter();
        let polled = self.poll_inner(cx);
        entered.leave(polled)
    }
}

impl<K: Eq + Clone, V, E> Load<'_, K, V, E> {
    fn poll_inner(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let budget = ready!(coop::poll_proceed(cx));
        let this = &mut *self;
        let Some(Entered { slots, slot, .. }) = &this.entered else {
            let entered = ready!(this.seek(cx));
            budget.made_progress();
            return match entered {
                Ok(entered) => {
                    this.entered = Some(entered);
                    Poll::Pending
                }
                Err(PostError::Full(_)) => Poll::Ready(Err(LoadError::Full(K::clone(&this.key)))),
                // A key has no weight.
                Err(PostError::Closed(_) | PostError::TooHeavy { .. }) => Poll::Ready(Err(this.closed())),
            };
        };
        let Some(answer) = this.entering.shared().answer(slots, *slot, cx) else { return Poll::Pending };
        budget.made_progress();
        this.entered = None;
        Poll::Ready(match answer {
            Answer::Each(result) => result.map_err(LoadError::Failed),
            Answer::All(failure) => Err(LoadError::of_batch(failure)),
            Answer::Back(_) => Err(this.closed()),
        })
    }
}

impl<K, V, E> Drop for Load<'_, K, V, E> {
    fn drop(&mut self) {
        if let Some(Entered { slots, slot, weight }) = self.entered.take() {
            self.entering.shared().leave(&slots, slot, weight);
        }
    }
}
