use std::collections::BTreeMap;
use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

/// The holders of connections, with time and call site: recorded only if leaks are reported.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// The holders that are not reported yet, the longest first.
    timely: BTreeMap<Held, &'static Location<'static>>,
    overdue: BTreeMap<Held, &'static Location<'static>>,
    next: u64,
}

/// The key of a holder: since when, and a number.
pub(in crate::pool) type Held = (Instant, u64);

impl Holders {
    pub(super) fn add(&mut self, since: Instant, site: &'static Location<'static>) -> Held {
        let held = (since, self.next);
        self.next += 1;
        self.timely.insert(held, site);
        held
    }

    pub(super) fn remove(&mut self, held: Held) {
        if self.timely.remove(&held).is_none() {
            self.overdue.remove(&held);
        }
    }

    /// The time at which the longest of the holders that are not reported yet acquired its connection.
    pub(super) fn longest(&self) -> Option<Instant> {
        self.timely.first_key_value().map(|((since, _), _)| *since)
    }

    /// Moves holders to the reported ones, and returns them.
    pub(super) fn report(
        &mut self,
        now: Instant,
        after: Duration,
    ) -> Vec<(&'static Location<'static>, Duration)> {
        let mut reported = Vec::new();
        while let Some(first) = self.timely.first_entry() {
            let since = first.key().0;
            if now.duration_since(since) < after {
                break;
            }
            let (held, site) = first.remove_entry();
            self.overdue.insert(held, site);
            reported.push((site, now.duration_since(since)));
        }
        reported
    }

    pub(super) fn overdue(&self) -> &BTreeMap<Held, &'static Location<'static>> {
        &self.overdue
    }

    /// All holders.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Instant, &'static Location<'static>)> {
        self.overdue.iter().chain(&self.timely).map(|((since, _), site)| (*since, *site))
    }
}
