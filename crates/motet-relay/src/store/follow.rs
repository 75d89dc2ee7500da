//! Follows the events from a given event on.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::task::coop::consume_budget;

use super::damage::{Damage, end_of_damage, readable};
use super::events::{COLUMNS, from_row};
use super::tail::{FeedEvent, MAX_AT_ONCE, TailRead, TailSubscription};
use super::{Store, StoreError, Unreadable};
use crate::pattern::Pattern;

/// Limits of a read of the store: it looks at up to `MAX_LOOKED_AT` events, and ends with the event that brings their
/// data to `MAX_BYTES`.
const MAX_LOOKED_AT: usize = 1_024;
const MAX_BYTES: usize = 64 << 10;

/// Returns the events in the order in which they were stored, each of them once: first from the disk, then as they are
/// published.
///
/// Between two calls it holds no transaction and no lock; during a call it holds at most one page of events.
#[derive(Debug)]
pub(crate) struct Follower {
    store: Store,
    subscription: TailSubscription,
    /// The last event that was returned or skipped.
    position: i64,
    /// `None` selects all events.
    patterns: Option<Vec<Pattern>>,
}

/// The next events, at least one.
#[derive(Debug)]
pub(crate) struct FollowedEvents {
    pub(crate) events: Vec<Arc<FeedEvent>>,
    pub(crate) from: EventSource,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventSource {
    Memory,
    Disk,
}

impl Store {
    /// Follows the events after event `after`; `None` follows the events that are published from now on. Returns
    /// `None` if event `after` does not exist.
    pub(crate) async fn follow(
        &self,
        after: Option<i64>,
        patterns: Option<Vec<Pattern>>,
    ) -> Result<Option<Follower>, StoreError> {
        let subscription = Arc::clone(&self.shared.tail).follow();
        let position = match after {
            None => subscription.newest(),
            // The position before the first event.
            Some(0) => 0,
            Some(after) if self.has_event(after).await? => after,
            Some(_) => return Ok(None),
        };
        Ok(Some(Follower { store: self.clone(), subscription, position, patterns }))
    }

    async fn has_event(&self, seq: i64) -> Result<bool, StoreError> {
        let has = move |connection: &Connection| {
            let mut statement = connection.prepare_cached("SELECT 1 FROM events WHERE seq = ?1")?;
            Ok(statement.query_row([seq], |_| Ok(())).optional()?.is_some())
        };
        // An event that cannot be read has an id as well, from which a client may continue.
        Ok(readable(self.shared.feed_readers.read(has).await)?.unwrap_or(true))
    }
}

impl Follower {
    /// The last event that was returned, or skipped because no pattern matches it; 0 before the first event.
    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// Waits for the next events.
    ///
    /// # Cancel safety
    /// Safe: only events that no pattern matches are skipped.
    pub(crate) async fn next(&mut self) -> Result<FollowedEvents, StoreError> {
        loop {
            consume_budget().await;
            let (mut events, from) = match self.subscription.after(self.position) {
                TailRead::CaughtUp => {
                    self.subscription.wait(self.position).await;
                    continue;
                }
                TailRead::Events(events) => {
                    self.position = events.last().map_or(self.position, |last| last.row.seq);
                    (events, EventSource::Memory)
                }
                TailRead::OnDisk => {
                    let page = self.read().await?;
                    self.position = page.upto;
                    (page.events, EventSource::Disk)
                }
            };
            if let (Some(patterns), EventSource::Memory) = (&self.patterns, from) {
                events.retain(|event| is_wanted(Some(patterns), &event.row.event_type));
            }
            if !events.is_empty() {
                return Ok(FollowedEvents { events, from });
            }
        }
    }

    async fn read(&self) -> Result<EventPage, StoreError> {
        let newest = self.subscription.newest();
        let (position, patterns) = (self.position, self.patterns.clone());
        let damage = Arc::clone(&self.store.shared.damage);
        let read = move |connection: &Connection| page(connection, &damage, position, patterns.as_deref());
        let mut page = self.store.shared.feed_readers.read(read).await?;
        if page.is_last {
            // No event exists between the last row and `newest`, even if the numbers leave a gap.
            page.upto = page.upto.max(newest);
        }
        Ok(page)
    }
}

struct EventPage {
    events: Vec<Arc<FeedEvent>>,
    upto: i64,
    is_last: bool,
}

fn page(
    connection: &Connection,
    damage: &Damage,
    after: i64,
    patterns: Option<&[Pattern]>,
) -> Result<EventPage, StoreError> {
    let mut page = EventPage { events: Vec::new(), upto: after, is_last: false };
    if let Err(why) = readable(read_page(connection, damage, patterns, &mut page))? {
        damage.note(&why);
        // Continues after the rows that cannot be read.
        let from = page.upto;
        let next = |distance| first_from(connection, from.saturating_add(distance));
        page.upto = end_of_damage(i64::MAX - from, next)?
            .map_or(i64::MAX, |distance| (from + distance - 1).max(from + 1));
        page.events.push(FeedEvent::unreadable(Unreadable { seq: page.upto, why }));
    }
    Ok(page)
}

/// Reads the first event with the number `seq` or a higher one completely.
fn first_from(connection: &Connection, seq: i64) -> Result<(), StoreError> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE seq >= ?1 ORDER BY seq LIMIT 1"))?;
    // Only the error matters.
    let _there_is_one = statement.query([seq])?.next()?.is_some();
    Ok(())
}

fn read_page(
    connection: &Connection,
    damage: &Damage,
    patterns: Option<&[Pattern]>,
    page: &mut EventPage,
) -> Result<(), StoreError> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE seq >= ?1 ORDER BY seq LIMIT ?2"))?;
    // `>=` the next number, not `>` the last one: the row with the last number may be on a damaged page.
    let mut rows = statement.query(params![page.upto.saturating_add(1), MAX_LOOKED_AT])?;
    let (mut bytes, mut looked_at) = (0, 0);
    while page.events.len() < MAX_AT_ONCE && bytes < MAX_BYTES {
        let Some(row) = rows.next()? else {
            page.is_last = looked_at < MAX_LOOKED_AT;
            return Ok(());
        };
        looked_at += 1;
        page.upto = row.get(0)?;
        // The data of an event that no pattern matches is not read.
        if is_wanted(patterns, row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?) {
            match readable(from_row(row))? {
                Ok(event) => {
                    bytes += event.data.len();
                    page.events.push(FeedEvent::new(event));
                }
                Err(why) => {
                    damage.note(&why);
                    page.events.push(FeedEvent::unreadable(Unreadable { seq: page.upto, why }));
                }
            }
        }
    }
    Ok(())
}

fn is_wanted(patterns: Option<&[Pattern]>, event_type: &str) -> bool {
    patterns.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.selects(event_type)))
}
