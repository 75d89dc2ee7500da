//! What mostly has nothing to wait for: it begins in place, and becomes a task once it waits.

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

/// Whether the next one may begin in place. One that has kept the thread for long has the others begin in tasks: they
/// may, too, and there are more threads.
#[derive(Default)]
pub(crate) struct InPlace {
    kept_busy: AtomicBool,
}

/// A task costs some microseconds, and another thread that wakes up for it some more.
const LONG: Duration = Duration::from_micros(100);

/// A simulation tries both.
const EITHER: NonZeroUsize = NonZeroUsize::new(2).expect("more than none");

impl InPlace {
    /// Polls the future one time, as a task of the scope would. Gives it back if it is to become one.
    ///
    /// Its waker wakes nobody: the task polls it again at once.
    pub(crate) fn begin<F: Future>(
        &self,
        scope: &Arc<Core>,
        mut future: Pin<Box<F>>,
    ) -> Result<F::Output, Pin<Box<F>>> {
        // Relaxed: that it is missed for a moment makes no difference but in time.
        let as_task = self.kept_busy.load(Ordering::Relaxed) || sim::choice(EITHER) == Some(0);
        if as_task {
            return Err(future);
        }
        let begun = Instant::now();
        let polled = {
            let _inside = Inside::enter(scope);
            future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        if begun.elapsed() >= LONG {
            self.kept_busy.store(true, Ordering::Relaxed);
        }
        match polled {
            Poll::Ready(output) => Ok(output),
            Poll::Pending => Err(future),
        }
    }
}
