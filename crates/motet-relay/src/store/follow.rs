//! TailSubscription the events, from one of them on, as they come.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::task::coop::consume_budget;

use super::damage::{Damage, end_of_damage, readable};
use super::events::{COLUMNS, from_row};
use super::tail::{FeedEvent, MAX_AT_ONCE, TailRead, TailSubscription};
use super::{Store, StoreError, Unreadable};
use crate::pattern::Pattern;

/// One read of the store looks at so many events, and takes so many bytes of data and one event more.
const MAX_LOOKED_AT: usize = 1_024;
const MAX_BYTES: usize = 64 << 10;

/// Gives events in the order in which they were stored, each once: what is on disk already, and then what comes.
///
/// It holds no transaction and no lock between two calls, and at most a page of events in one.
#[derive(Debug)]
pub(crate) struct Follower {
    store: Store,
    subscription: TailSubscription,
    /// The last event that was given, or passed over.
    position: i64,
    /// `None` for all.
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
    /// Follows the events after that one, or those to come. `None`: there is no such event.
    pub(crate) async fn follow(
        &self,
        after: Option<i64>,
        patterns: Option<Vec<Pattern>>,
    ) -> Result<Option<Follower>, StoreError> {
        let subscription = Arc::clone(&self.shared.tail).follow();
        let position = match after {
            None => subscription.newest(),
            // The place before the first one.
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
        // What a feed shows of an event that cannot be read is an id to come back with.
        Ok(readable(self.shared.feed_readers.read(has).await)?.unwrap_or(true))
    }
}

impl Follower {
    /// The last event that was given, or passed over because no pattern matches it; 0 before the first.
    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// Waits for the next events.
    ///
    /// # Cancel safety
    /// Safe: what was looked at and not wanted stays passed over, and nothing else is.
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
            // Whatever its number is, there is nothing before it.
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
        // Behind what cannot be read; the next page goes on there.
        let from = page.upto;
        let next = |distance| first_from(connection, from.saturating_add(distance));
        page.upto = end_of_damage(i64::MAX - from, next)?
            .map_or(i64::MAX, |distance| (from + distance - 1).max(from + 1));
        page.events.push(FeedEvent::unreadable(Unreadable { seq: page.upto, why }));
    }
    Ok(page)
}

/// Reads the first event with this number or a higher one, and all of it.
fn first_from(connection: &Connection, seq: i64) -> Result<(), StoreError> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE seq >= ?1 ORDER BY seq LIMIT 1"))?;
    // Only whether it can be read counts.
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
    // From the next number on, and not after the last one: that could lie on a damaged page.
    let mut rows = statement.query(params![page.upto.saturating_add(1), MAX_LOOKED_AT])?;
    let (mut bytes, mut looked_at) = (0, 0);
    while page.events.len() < MAX_AT_ONCE && bytes < MAX_BYTES {
        let Some(row) = rows.next()? else {
            page.is_last = looked_at < MAX_LOOKED_AT;
            return Ok(());
        };
        looked_at += 1;
        page.upto = row.get(0)?;
        // The data of what is not wanted is not read at all.
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
