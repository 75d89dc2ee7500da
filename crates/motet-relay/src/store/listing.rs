//! Lists with filters: a list reads the rows of one index, newest first, and looks at a bounded number of them.

use std::cell::Cell;

use super::Unreadable;
use super::events::EventRow;
use crate::clock::Millis;
use crate::pattern::Pattern;

/// Maximum number of rows that one call looks at.
const MAX_LOOKED_AT: usize = 1_000;

/// A page of a list.
#[derive(Debug)]
pub(crate) struct ListPage<T> {
    pub(crate) rows: Vec<Result<T, Unreadable>>,
    /// The row at which the call stopped because it had looked at enough rows. The next call continues before it.
    pub(crate) stopped_at: Option<i64>,
}

/// Conditions on an event.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventFilter {
    /// The event's type must match a pattern of this list.
    pub(crate) types: Option<Vec<Pattern>>,
    pub(crate) channel: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) since: Option<Millis>,
    pub(crate) until: Option<Millis>,
}

impl EventFilter {
    pub(super) fn is_empty(&self) -> bool {
        let Self { types, channel, tag, since, until } = self;
        types.is_none() && channel.is_none() && tag.is_none() && since.is_none() && until.is_none()
    }

    pub(super) fn takes(&self, event: &EventRow) -> bool {
        let has = |wanted: &Option<String>, names: &[String]| {
            wanted.as_ref().is_none_or(|wanted| names.contains(wanted))
        };
        let types = self.types.as_ref();
        types.is_none_or(|types| types.iter().any(|pattern| pattern.selects(&event.event_type)))
            && has(&self.channel, &event.channels)
            && has(&self.tag, &event.tags)
            && self.has_time(event.created_at)
    }

    /// Returns `true` if the time is at or after `since` and before `until`.
    pub(super) fn has_time(&self, at: Millis) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

/// The number of rows that a call may still look at.
#[derive(Debug)]
pub(super) struct ScanBudget {
    left: Cell<usize>,
    stopped_at: Cell<Option<i64>>,
}

impl ScanBudget {
    pub(super) fn new() -> Self {
        Self { left: Cell::new(MAX_LOOKED_AT), stopped_at: Cell::new(None) }
    }

    /// Returns `false` if the call has looked at enough rows with this one, which it still takes.
    pub(super) fn spend(&self, seq: i64) -> bool {
        self.left.set(self.left.get().saturating_sub(1));
        if self.left.get() == 0 {
            self.stopped_at.set(Some(seq));
        }
        self.left.get() > 0
    }

    pub(super) fn page<T>(&self, rows: Vec<Result<T, Unreadable>>) -> ListPage<T> {
        ListPage { rows, stopped_at: self.stopped_at.get() }
    }
}

/// A page of a list that is read in both directions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    /// The row before the first row of the page; `None` for the first page.
    pub(crate) from: Option<i64>,
    /// `true`: the rows after `from` have lower numbers.
    pub(crate) is_descending: bool,
    pub(crate) limit: usize,
}

impl Walk {
    /// Returns the condition on a column. Its parameters are [`bound`](Self::bound) and [`fetch`](Self::fetch).
    pub(super) fn sql(self, column: &str) -> String {
        let (sign, order) = if self.is_descending { ("<=", "DESC") } else { (">=", "ASC") };
        format!("{column} {sign} ?1 ORDER BY {column} {order} LIMIT ?2")
    }

    /// Returns the first number that the page may contain. The search must not begin at the row before it, whose page in
    /// the database may be damaged.
    pub(super) const fn bound(self) -> i64 {
        match self.from {
            Some(from) if self.is_descending => from.saturating_sub(1),
            Some(from) => from.saturating_add(1),
            None if self.is_descending => i64::MAX,
            None => 0,
        }
    }

    /// Returns the number of rows to read: one more than requested shows whether there is a next page.
    pub(super) const fn fetch(self) -> usize {
        self.limit + 1
    }

    /// Returns `true` if a row is on the page or after it.
    pub(super) fn has(self, seq: i64) -> bool {
        self.from.is_none_or(|from| if self.is_descending { seq < from } else { seq > from })
    }
}
