use std::fmt;

use tokio::sync::watch;

use crate::sim;

/// The requests to reload the program, usually its configuration: see [`Root::reloads`](super::Root::reloads).
///
/// Each clone sees each request. Requests that come before a clone has seen the last one count as one.
#[derive(Clone)]
pub struct Reloads {
    requested: watch::Sender<u64>,
    seen: watch::Receiver<u64>,
}

impl Reloads {
    pub(super) fn new() -> Self {
        let (requested, seen) = watch::channel(0);
        Self { requested, seen }
    }

    /// Takes the requests so far as seen.
    pub(super) fn see_all(&mut self) {
        self.seen.mark_unchanged();
    }

    pub(super) fn request(&self) {
        self.requested.send_modify(|requests| *requests = requests.wrapping_add(1));
    }

    /// Waits for a request that came after the one that was seen last, or after the creation of this handle.
    ///
    /// # Cancel safety
    /// Safe: a request that the dropped future has not returned is seen by the next call.
    #[track_caller]
    pub fn recv(&mut self) -> impl Future<Output = ()> {
        sim::at("reloads", "wait for a request", async move {
            // This handle has a sender, so the channel is open.
            let _open = self.seen.changed().await;
        })
    }
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloads").finish_non_exhaustive()
    }
}
