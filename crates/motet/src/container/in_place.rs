//! Futures that mostly do not wait: they are first polled in place, and become a task once they wait.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::sim;
use crate::task::ambient::Inside;
use crate::task::core::Core;

/// Decides whether the next future may begin in place. After a future that has blocked the thread for long, the others
/// begin as tasks: they may block as well, and there are more threads.
#[derive(Default)]
pub(crate) struct InPlace {
    kept_busy: AtomicBool,
}

/// A future that takes this long has blocked the thread. A task costs some microseconds, and waking another thread for it
/// some more.
const LONG: Duration = Duration::from_micros(100);

/// A simulation tries both choices.
const EITHER: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not zero");

impl InPlace {
    /// Returns `true` if the next future may begin in place.
    pub(crate) fn may_begin(&self) -> bool {
        // Relaxed suffices: a stale value costs only time.
        !self.kept_busy.load(Ordering::Relaxed) && sim::choice(EITHER) != Some(0)
    }

    /// Notes how long the first poll of a future took.
    pub(crate) fn note(&self, took: Duration) {
        if took >= LONG {
            self.kept_busy.store(true, Ordering::Relaxed);
        }
    }

    /// Polls the future once, like a task of `scope` would. Returns the future if it has to continue as a task.
    ///
    /// The waker of this poll does nothing: the new task polls the future again at once.
    pub(crate) fn begin<F: Future>(
        &self,
        scope: &Arc<Core>,
        mut future: Pin<Box<F>>,
    ) -> Result<F::Output, Pin<Box<F>>> {
        if !self.may_begin() {
            return Err(future);
        }
        let begun = Instant::now();
        let polled = {
            let _inside = Inside::enter(scope);
            future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        self.note(begun.elapsed());
        match polled {
            Poll::Ready(output) => Ok(output),
            Poll::Pending => Err(future),
        }
    }
}
