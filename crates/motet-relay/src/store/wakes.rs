//! Wakes from the writer to the dispatcher: which endpoints have work, and when the first of it is due.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::clock::Millis;

/// The reason why the dispatcher must look at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The endpoint has a delivery that is due at this time.
    Due(Millis),
    /// A delivery was made due again at this time; it may be in flight.
    Revived(Millis),
    /// The endpoint was deleted; its pending deliveries must be moved to the dead letters.
    Deleted,
}

impl Wake {
    /// Merges two wakes: the earlier time counts, and a deletion is final.
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Deleted, _) | (_, Self::Deleted) => Self::Deleted,
            (Self::Due(a), Self::Due(b)) => Self::Due(a.min(b)),
            (Self::Due(a) | Self::Revived(a), Self::Due(b) | Self::Revived(b)) => Self::Revived(a.min(b)),
        }
    }
}

/// Coalesces wakes: at most one entry per endpoint, however far the dispatcher is behind.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    waiting: Mutex<BTreeMap<i64, Wake>>,
    notify: Notify,
}

impl Wakes {
    pub(super) fn add(&self, woken: impl IntoIterator<Item = (i64, Wake)>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for (endpoint, wake) in woken {
            match waiting.entry(endpoint) {
                Entry::Vacant(entry) => {
                    entry.insert(wake);
                }
                Entry::Occupied(mut entry) => *entry.get_mut() = entry.get().merge(wake),
            }
        }
        let any = !waiting.is_empty();
        drop(waiting);
        if any {
            self.notify.notify_one();
        }
    }

    /// Waits for wakes and returns them in the order of the endpoints.
    ///
    /// # Cancel safety
    /// Safe: entries are taken only by the poll that returns them.
    pub(super) async fn next(&self) -> Vec<(i64, Wake)> {
        loop {
            let taken = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken.into_iter().collect();
            }
            // `Notify` keeps a permit for a wake between the check and the wait.
            self.notify.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn wakes_of_an_endpoint_merge_to_the_earliest_or_its_deletion() {
        let wakes = Wakes::default();
        wakes.add([(2, Wake::Due(50)), (1, Wake::Due(30)), (3, Wake::Deleted), (4, Wake::Due(5))]);
        wakes.add([(2, Wake::Due(40)), (1, Wake::Due(60)), (3, Wake::Due(1)), (4, Wake::Revived(9))]);
        let expected = [(1, Wake::Due(30)), (2, Wake::Due(40)), (3, Wake::Deleted), (4, Wake::Revived(5))];
        assert_eq!(wakes.next().await, expected);
        let mut next = std::pin::pin!(wakes.next());
        assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        wakes.add([(3, Wake::Due(1))]);
        assert_eq!(next.await, [(3, Wake::Due(1))]);
    }
}
