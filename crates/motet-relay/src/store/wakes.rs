//! Wakes from the writer to the dispatcher: which endpoints have work, and when the first of it is due.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::TenantSeq;
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

/// A wake of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndpointWake {
    pub(crate) endpoint: i64,
    pub(crate) tenant: TenantSeq,
    pub(crate) wake: Wake,
}

impl EndpointWake {
    pub(super) const fn new(tenant: TenantSeq, endpoint: i64, wake: Wake) -> Self {
        Self { endpoint, tenant, wake }
    }
}

/// Coalesces wakes: at most one entry per endpoint, however far the dispatcher is behind.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    waiting: Mutex<BTreeMap<i64, EndpointWake>>,
    notify: Notify,
}

impl Wakes {
    pub(super) fn add(&self, woken: impl IntoIterator<Item = EndpointWake>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for woken in woken {
            match waiting.entry(woken.endpoint) {
                Entry::Vacant(entry) => {
                    entry.insert(woken);
                }
                Entry::Occupied(mut entry) => {
                    let known = entry.get_mut();
                    known.wake = known.wake.merge(woken.wake);
                }
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
    pub(super) async fn next(&self) -> Vec<EndpointWake> {
        loop {
            let taken = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken.into_values().collect();
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
        let of = |wakes: &[(i64, Wake)]| -> Vec<_> {
            let woken = |(endpoint, wake)| EndpointWake::new(TenantSeq::DEFAULT, endpoint, wake);
            wakes.iter().copied().map(woken).collect()
        };
        wakes.add(of(&[(2, Wake::Due(50)), (1, Wake::Due(30)), (3, Wake::Deleted), (4, Wake::Due(5))]));
        wakes.add(of(&[(2, Wake::Due(40)), (1, Wake::Due(60)), (3, Wake::Due(1)), (4, Wake::Revived(9))]));
        let expected =
            of(&[(1, Wake::Due(30)), (2, Wake::Due(40)), (3, Wake::Deleted), (4, Wake::Revived(5))]);
        assert_eq!(wakes.next().await, expected);
        let mut next = std::pin::pin!(wakes.next());
        assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        wakes.add(of(&[(3, Wake::Due(1))]));
        assert_eq!(next.await, of(&[(3, Wake::Due(1))]));
    }
}
