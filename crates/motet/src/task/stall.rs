use std::cell::OnceCell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Name;
use super::child::Spec;

/// The number of active watches. Without one, a poll costs one relaxed load.
static WATCHES: AtomicUsize = AtomicUsize::new(0);
static THREADS: Mutex<Vec<Weak<Slot>>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: OnceCell<Arc<Slot>> = const { OnceCell::new() };
}

/// The task that a thread polls now.
#[derive(Default)]
struct Slot(Mutex<Option<Polling>>);

#[derive(Clone)]
struct Polling {
    name: Name,
    site: &'static Location<'static>,
    since: Instant,
}

/// A poll that takes too long, and delays all other tasks of its thread.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stall {
    /// The task.
    pub task: Name,
    /// The place in the code where the task was started.
    pub site: &'static Location<'static>,
    /// The duration of its poll so far.
    pub running: Duration,
}

/// Reports polls that run longer than a limit, until it is dropped.
///
/// It watches the tasks of scopes in every runtime of the process, from its own thread and by the real clock, since a task
/// that blocks its thread delays timers as well. While a watch is active, each poll reads the clock; without a watch, a poll
/// costs one relaxed load.
///
/// # Drop
/// The watch and its thread end. The drop waits for a report that is running, unless the report itself drops the watch.
#[must_use = "the watch ends when this is dropped"]
pub struct StallWatch {
    stop: Option<Sender<()>>,
    watcher: Option<JoinHandle<()>>,
}

impl StallWatch {
    /// Starts a watch. `report` is called once for each poll that runs longer than `limit`, while it still runs.
    ///
    /// A limit of 10 ms to 100 ms finds blocking calls and not busy moments. The watch looks at all threads once in every
    /// quarter of the limit, but at most once a millisecond, so it notices a stall at most that much after the limit. With
    /// zero it reports every poll that it sees running, with [`Duration::MAX`] none.
    ///
    /// # Errors
    /// The operating system refuses a further thread.
    pub fn start(limit: Duration, mut report: impl FnMut(Stall) + Send + 'static) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let watcher = std::thread::Builder::new().name("motet-stall-watch".to_owned()).spawn(move || {
            let mut reported = Vec::new();
            let turn = (limit / 4).max(Duration::from_millis(1));
            while stopped.recv_timeout(turn) == Err(RecvTimeoutError::Timeout) {
                let stalls = stalls(limit);
                // A poll is known by its thread and its beginning.
                reported.retain(|known| stalls.iter().any(|(stall, _)| stall == known));
                for (key, stall) in stalls {
                    if !reported.contains(&key) {
                        reported.push(key);
                        report(stall);
                    }
                }
            }
        })?;
        WATCHES.fetch_add(1, Ordering::Relaxed);
        Ok(Self { stop: Some(stop), watcher: Some(watcher) })
    }
}

impl Drop for StallWatch {
    fn drop(&mut self) {
        WATCHES.fetch_sub(1, Ordering::Relaxed);
        drop(self.stop.take());
        if let Some(watcher) = self.watcher.take()
            // Its own report may drop it.
            && watcher.thread().id() != std::thread::current().id()
            && watcher.join().is_err()
        {
            crate::log::error!("the report of a stall watch panicked");
        }
    }
}

impl fmt::Debug for StallWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StallWatch").finish_non_exhaustive()
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, site, running } = self;
        write!(f, "task `{task}` ({site}) has blocked its thread for {running:?}")
    }
}

type Key = (usize, Instant);

#[allow(clippy::disallowed_methods, reason = "a blocked thread blocks tokio's clock, too")]
fn stalls(limit: Duration) -> Vec<(Key, Stall)> {
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    threads.retain(|slot| slot.strong_count() > 0);
    let slots: Vec<Arc<Slot>> = threads.iter().filter_map(Weak::upgrade).collect();
    drop(threads);
    let now = Instant::now();
    let stalled = slots.iter().filter_map(|slot| {
        let polling = slot.lock().clone()?;
        let running = now.saturating_duration_since(polling.since);
        let key = (Arc::as_ptr(slot).addr(), polling.since);
        (running > limit).then_some((key, Stall { task: polling.name, site: polling.site, running }))
    });
    stalled.collect()
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Polling>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks a poll while a watch is active, until it is dropped. Without a watch it holds a null pointer and only compares it.
// `ManuallyDrop`: the compiler would call a drop function even if it is empty.
pub(crate) struct Watch(ManuallyDrop<Option<Box<Watched>>>);

/// Holds the poll that this poll is nested in.
struct Watched {
    slot: Arc<Slot>,
    around: Option<Polling>,
}

/// Marks a poll of the child while a watch is active.
#[inline]
pub(crate) fn polling(spec: &Spec) -> Watch {
    let watched = if WATCHES.load(Ordering::Relaxed) == 0 { None } else { mark(spec) };
    Watch(ManuallyDrop::new(watched))
}

impl Drop for Watch {
    #[inline]
    fn drop(&mut self) {
        if self.0.is_some() {
            over(self.0.take());
        }
    }
}

#[cold]
fn over(watched: Option<Box<Watched>>) {
    drop(watched);
}

#[cold]
#[allow(clippy::disallowed_methods, reason = "a blocked thread blocks tokio's clock, too")]
fn mark(spec: &Spec) -> Option<Box<Watched>> {
    let own = OWN.try_with(|own| {
        Arc::clone(own.get_or_init(|| {
            let slot = Arc::new(Slot::default());
            THREADS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&slot));
            slot
        }))
    });
    // The thread ends, and polls no further tasks.
    let slot = own.ok()?;
    let polling = Polling { name: spec.name.clone(), site: spec.site, since: Instant::now() };
    let around = slot.lock().replace(polling);
    Some(Box::new(Watched { slot, around }))
}

impl Drop for Watched {
    fn drop(&mut self) {
        *self.slot.lock() = self.around.take();
    }
}
