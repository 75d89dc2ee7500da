//! Events and their listeners.

mod emitting;
mod ending;
mod model;
mod posting;
mod reading;
mod threads;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::event::{Event, Pattern};

/// An event that is not `Clone`.
#[derive(Debug, PartialEq)]
struct Tick(u32);

impl Event for Tick {
    const NAME: &'static str = "clock.tick";
}

struct Tock;

impl Event for Tock {
    const NAME: &'static str = "clock.tock";
}

struct Other;

impl Event for Other {
    const NAME: &'static str = "other";
}

const SECOND: Duration = Duration::from_secs(1);

fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

/// Returns the pattern of the names that match `text`.
fn matching(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

/// The calls of listeners, in order.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<(&'static str, u32)>>>);

impl Received {
    fn note(&self, listener: &'static str, number: u32) {
        self.0.lock().unwrap().push((listener, number));
    }

    fn take(&self) -> Vec<(&'static str, u32)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Returns a listener that notes each event.
    fn by(&self, listener: &'static str) -> impl Fn(&Tick) + Send + Sync + use<> {
        let received = self.clone();
        move |tick| received.note(listener, tick.0)
    }

    /// Returns a listener that waits for `time`, and then notes the event.
    fn slowly(
        &self,
        listener: &'static str,
        time: Duration,
    ) -> impl Fn(Arc<Tick>) -> futures_of::Noting + Send + Sync + use<> {
        let received = self.clone();
        move |tick| {
            let received = received.clone();
            Box::pin(async move {
                tokio::time::sleep(time).await;
                received.note(listener, tick.0);
            })
        }
    }
}

mod futures_of {
    pub(super) type Noting = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
}
