//! Wakes the driver of retention, so that an idle relay makes no query, and keeps what the metrics show.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use motet::task::timeout;
use tokio::sync::Notify;

use crate::clock::Millis;

/// The driver looks again after this time in any case.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug)]
pub(in crate::store) struct RetentionSignal {
    woken: Notify,
    /// When the driver looks again.
    planned: AtomicI64,
    /// `true` if the times of a tenant may have changed.
    has_new_policies: AtomicBool,
    /// When the oldest event became due that is due and not looked at; [`Millis::MAX`] if there is none.
    late_since: AtomicI64,
}

impl Default for RetentionSignal {
    fn default() -> Self {
        Self {
            woken: Notify::new(),
            planned: AtomicI64::new(Millis::MAX),
            has_new_policies: AtomicBool::new(true),
            late_since: AtomicI64::new(Millis::MAX),
        }
    }
}

impl RetentionSignal {
    /// Wakes the driver because the policy of a tenant was written.
    pub(in crate::store) fn wake_for_policies(&self) {
        self.has_new_policies.store(true, Ordering::Relaxed);
        self.woken.notify_one();
    }

    /// Wakes the driver because the store is too large.
    pub(in crate::store) fn wake_for_space(&self) {
        self.woken.notify_one();
    }

    /// Wakes the driver if the data of an event ends at a time before it looks again.
    pub(in crate::store) fn wake_before(&self, at: Millis) {
        if at < self.planned.load(Ordering::Relaxed) {
            self.woken.notify_one();
        }
    }

    /// Returns `true` once after policies may have changed, and at the start.
    pub(super) fn take_new_policies(&self) -> bool {
        self.has_new_policies.swap(false, Ordering::Relaxed)
    }

    /// Waits until a time, or until the driver is woken.
    pub(super) async fn wait_until(&self, at: Option<Millis>, now: Millis) {
        let at = at.unwrap_or(Millis::MAX);
        self.planned.store(at, Ordering::Relaxed);
        let left = u64::try_from(at.saturating_sub(now)).unwrap_or(0);
        let _woken = timeout(Duration::from_millis(left).min(LONGEST_WAIT), self.woken.notified()).await;
    }

    pub(super) fn set_late_since(&self, since: Option<Millis>) {
        self.late_since.store(since.unwrap_or(Millis::MAX), Ordering::Relaxed);
    }

    /// Returns how late retention is.
    pub(in crate::store) fn lag(&self, now: Millis) -> Duration {
        let since = self.late_since.load(Ordering::Relaxed);
        Duration::from_millis(u64::try_from(now.saturating_sub(since)).unwrap_or(0))
    }
}
