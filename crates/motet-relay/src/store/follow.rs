//! Follows the events from a given event on.

use std::sync::Arc;

use rusqlite::{Connection, params};
use tokio::task::coop::consume_budget;

use super::damage::{Damage, end_of_damage, readable};
use super::events::{COLUMNS, from_row, has_event, of_tenant};
use super::retention::deleted_upto;
use super::tail::{FeedEvent, MAX_AT_ONCE, TailRead, TailSubscription};
use super::{Store, StoreError, TenantSeq, Unreadable};
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
    selection: Selection,
    /// The last event that was returned or skipped, of any tenant.
    scanned: i64,
    /// The last of these events that belongs to the tenant.
    position: i64,
}

/// The events that a follower returns.
#[derive(Debug, Clone)]
struct Selection {
    /// `None` selects the events of all tenants.
    tenant: Option<TenantSeq>,
    /// `None` selects all event types.
    patterns: Option<Vec<Pattern>>,
}

impl Selection {
    fn has_tenant(&self, tenant: TenantSeq) -> bool {
        self.tenant.is_none_or(|own| own == tenant)
    }

    fn has_type(&self, event_type: &str) -> bool {
        let patterns = self.patterns.as_ref();
        patterns.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.selects(event_type)))
    }
}

/// The reason why a reader cannot continue after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FollowRefusal {
    /// The tenant has no such event, and retention has not deleted it.
    Unknown,
    /// Retention has deleted events after this one. `oldest` is the oldest event that is stored, if there is one.
    Deleted { oldest: Option<i64> },
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
    /// Follows the events of a tenant, or of all tenants, after event `after`; `None` follows the events that are
    /// published from now on. Refuses an event after which the reader would have a gap.
    pub(crate) async fn follow(
        &self,
        tenant: Option<TenantSeq>,
        after: Option<i64>,
        patterns: Option<Vec<Pattern>>,
    ) -> Result<Result<Follower, FollowRefusal>, StoreError> {
        let subscription = Arc::clone(&self.shared.tail).follow();
        let (scanned, position) = match after {
            None => {
                let newest = subscription.newest();
                (newest, self.newest_of(tenant, newest).await?)
            }
            Some(after) => {
                let check = move |connection: &Connection| check_start(connection, tenant, after);
                if let Err(refusal) = self.shared.feed_readers.read(check).await? {
                    return Ok(Err(refusal));
                }
                (after, after)
            }
        };
        let selection = Selection { tenant, patterns };
        Ok(Ok(Follower { store: self.clone(), subscription, selection, scanned, position }))
    }

    /// Returns the newest event of the tenant up to `newest`; 0 if there is none.
    async fn newest_of(&self, tenant: Option<TenantSeq>, newest: i64) -> Result<i64, StoreError> {
        let Some(tenant) = tenant else { return Ok(newest) };
        let find = move |connection: &Connection| {
            // Only the index is read.
            let sql = format!("SELECT max(seq) FROM events {} AND seq <= ?2", of_tenant(Some(tenant)));
            let found: Option<i64> =
                connection.prepare_cached(&sql)?.query_row(params![tenant, newest], |row| row.get(0))?;
            Ok(found.unwrap_or(0))
        };
        self.shared.feed_readers.read(find).await
    }
}

impl Follower {
    /// The last event of the tenant that was returned, or skipped because no pattern matches it; 0 before the first
    /// event.
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
            let (events, from) = match self.subscription.after(self.scanned) {
                TailRead::CaughtUp => {
                    self.subscription.wait(self.scanned).await;
                    continue;
                }
                TailRead::Events(mut events) => {
                    self.scanned = events.last().map_or(self.scanned, |last| last.row.seq);
                    events.retain(|event| self.selection.has_tenant(event.row.tenant));
                    self.position = events.last().map_or(self.position, |last| last.row.seq);
                    events.retain(|event| self.selection.has_type(&event.row.event_type));
                    (events, EventSource::Memory)
                }
                TailRead::OnDisk => {
                    let page = self.read().await?;
                    self.scanned = page.upto;
                    self.position = page.own_upto;
                    (page.events, EventSource::Disk)
                }
            };
            if !events.is_empty() {
                return Ok(FollowedEvents { events, from });
            }
        }
    }

    async fn read(&self) -> Result<EventPage, StoreError> {
        let newest = self.subscription.newest();
        let (selection, upto, own_upto) = (self.selection.clone(), self.scanned, self.position);
        let damage = Arc::clone(&self.store.shared.damage);
        let read = move |connection: &Connection| {
            page(
                connection,
                &damage,
                &selection,
                EventPage { events: Vec::new(), upto, own_upto, is_last: false },
            )
        };
        let mut page = self.store.shared.feed_readers.read(read).await?;
        if page.is_last {
            // No event exists between the last row and `newest`, even if the numbers leave a gap.
            page.upto = page.upto.max(newest);
        }
        Ok(page)
    }
}

/// Checks that a reader can continue after an event; 0 is the position before the first event.
fn check_start(
    connection: &Connection,
    tenant: Option<TenantSeq>,
    after: i64,
) -> Result<Result<(), FollowRefusal>, StoreError> {
    let deleted = deleted_upto(connection, tenant)?;
    if after < deleted {
        let sql = format!("SELECT min(seq) FROM events {}", of_tenant(tenant));
        let oldest = connection.prepare_cached(&sql)?.query_row([tenant], |row| row.get(0))?;
        return Ok(Err(FollowRefusal::Deleted { oldest }));
    }
    // The event after which nothing was deleted may itself be deleted. An event that cannot be read has an id as well.
    let is_known =
        after == 0 || after == deleted || readable(has_event(connection, tenant, after))?.unwrap_or(true);
    Ok(if is_known { Ok(()) } else { Err(FollowRefusal::Unknown) })
}

/// Events after a position.
struct EventPage {
    events: Vec<Arc<FeedEvent>>,
    /// The last event that was looked at.
    upto: i64,
    /// The last of them that belongs to the tenant.
    own_upto: i64,
    is_last: bool,
}

fn page(
    connection: &Connection,
    damage: &Damage,
    selection: &Selection,
    mut page: EventPage,
) -> Result<EventPage, StoreError> {
    if deleted_upto(connection, selection.tenant)? > page.upto {
        return Err(StoreError::Overtaken);
    }
    if let Err(why) = readable(read_page(connection, damage, selection, &mut page))? {
        damage.note(&why);
        // Continues after the rows that cannot be read.
        let from = page.upto;
        let next = |distance| first_from(connection, selection.tenant, from.saturating_add(distance));
        page.upto = end_of_damage(i64::MAX - from, next)?
            .map_or(i64::MAX, |distance| (from + distance - 1).max(from + 1));
        page.own_upto = page.upto;
        page.events.push(unreadable(selection, page.upto, why));
    }
    Ok(page)
}

fn unreadable(selection: &Selection, seq: i64, why: String) -> Arc<FeedEvent> {
    FeedEvent::unreadable(selection.tenant.unwrap_or(TenantSeq::DEFAULT), Unreadable { seq, why })
}

/// Reads the first event with the number `seq` or a higher one completely.
fn first_from(connection: &Connection, tenant: Option<TenantSeq>, seq: i64) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM events {} AND seq >= ?2 ORDER BY seq LIMIT 1",
        of_tenant(tenant)
    ))?;
    // Only the error matters.
    let _there_is_one = statement.query(params![tenant, seq])?.next()?.is_some();
    Ok(())
}

fn read_page(
    connection: &Connection,
    damage: &Damage,
    selection: &Selection,
    page: &mut EventPage,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM events {} AND seq >= ?2 ORDER BY seq LIMIT ?3",
        of_tenant(selection.tenant)
    ))?;
    // `>=` the next number, not `>` the last one: the row with the last number may be on a damaged page.
    let mut rows = statement.query(params![selection.tenant, page.upto.saturating_add(1), MAX_LOOKED_AT])?;
    let (mut bytes, mut looked_at) = (0, 0);
    while page.events.len() < MAX_AT_ONCE && bytes < MAX_BYTES {
        let Some(row) = rows.next()? else {
            page.is_last = looked_at < MAX_LOOKED_AT;
            return Ok(());
        };
        looked_at += 1;
        page.upto = row.get(0)?;
        page.own_upto = page.upto;
        // The data of an event that no pattern matches is not read.
        if selection.has_type(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?) {
            match readable(from_row(row))? {
                Ok(event) => {
                    bytes += event.data.len();
                    page.events.push(FeedEvent::new(event));
                }
                Err(why) => {
                    damage.note(&why);
                    page.events.push(unreadable(selection, page.upto, why));
                }
            }
        }
    }
    Ok(())
}
