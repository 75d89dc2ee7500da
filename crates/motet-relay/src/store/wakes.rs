//! From the writer to the dispatcher: which endpoints got work, and when the first of it is due.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::clock::Millis;

/// What happened to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// It has a delivery that is due then.
    Due(Millis),
    /// A delivery was made due again, then; it may be one that is being attempted.
    Revived(Millis),
    /// It is deleted, and what it is owed is to be buried.
    Deleted,
}

impl Wake {
    /// Both at once: the earlier time; and a deletion is final.
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Deleted, _) | (_, Self::Deleted) => Self::Deleted,
            (Self::Due(a), Self::Due(b)) => Self::Due(a.min(b)),
            (Self::Due(a) | Self::Revived(a), Self::Due(b) | Self::Revived(b)) => Self::Revived(a.min(b)),
        }
    }
}

/// Coalesces wakes, so that it holds one entry per endpoint at most, however far the dispatcher is behind.
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

    /// In the order of the endpoints. Cancel safe: entries are taken only by the poll that returns them.
    pub(super) async fn next(&self) -> Vec<(i64, Wake)> {
        loop {
            let taken = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken.into_iter().collect();
            }
            // A permit is kept for a wake between the look and the wait.
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
    async fn wakes_merge_to_the_earliest_time_per_endpoint() {
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
