//! From the writer to the dispatcher: which endpoints got work, and when the first of it is due.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::clock::Millis;

/// Coalesces wakes, so that it holds one entry per endpoint at most, however far the dispatcher is behind.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    due: Mutex<HashMap<i64, Millis>>,
    notify: Notify,
}

impl Wakes {
    pub(super) fn add(&self, woken: impl IntoIterator<Item = (i64, Millis)>) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        for (endpoint, at) in woken {
            due.entry(endpoint).and_modify(|known| *known = at.min(*known)).or_insert(at);
        }
        let any = !due.is_empty();
        drop(due);
        if any {
            self.notify.notify_one();
        }
    }

    /// Cancel safe: entries are taken only by the poll that returns them.
    pub(super) async fn next(&self) -> Vec<(i64, Millis)> {
        loop {
            let mut taken: Vec<_> = self.due.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
            if !taken.is_empty() {
                taken.sort_unstable();
                return taken;
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
    async fn wakes_are_merged_to_the_earliest_time_per_endpoint() {
        let wakes = Wakes::default();
        wakes.add([(2, 50), (1, 30)]);
        wakes.add([(2, 40), (1, 60)]);
        assert_eq!(wakes.next().await, [(1, 30), (2, 40)]);
        let mut next = std::pin::pin!(wakes.next());
        assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        wakes.add([(3, 1)]);
        assert_eq!(next.await, [(3, 1)]);
    }
}
