//! Following the events, from one of them on, as they come.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::task::coop::consume_budget;

use super::events::{COLUMNS, from_row};
use super::tail::{After, Followed, Following, MOST_AT_ONCE};
use super::{EventRow, Store, StoreError};
use crate::pattern::Pattern;

/// One read of the store looks at so many events, and takes so many bytes of data and one event more.
const MOST_LOOKED_AT: usize = 1_024;
const MOST_BYTES: usize = 64 << 10;

/// Gives events in the order in which they were stored, each once: what is on disk already, and then what comes.
///
/// It holds no transaction and no lock between two calls, and at most a page of events in one.
#[derive(Debug)]
pub(crate) struct Follower {
    store: Store,
    following: Following,
    /// The last event that was given, or passed over.
    position: i64,
    /// `None` for all.
    patterns: Option<Vec<Pattern>>,
}

/// The next events, at least one.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) events: Vec<Arc<Followed>>,
    pub(crate) from: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
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
        let following = Arc::clone(&self.inner.tail).follow();
        let position = match after {
            None => following.newest(),
            // The place before the first one.
            Some(0) => 0,
            Some(after) if self.has_event(after).await? => after,
            Some(_) => return Ok(None),
        };
        Ok(Some(Follower { store: self.clone(), following, position, patterns }))
    }

    async fn has_event(&self, seq: i64) -> Result<bool, StoreError> {
        let has = move |connection: &Connection| {
            let mut statement = connection.prepare_cached("SELECT 1 FROM events WHERE seq = ?1")?;
            Ok(statement.query_row([seq], |_| Ok(())).optional()?.is_some())
        };
        self.inner.feed_readers.read(has).await
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
    pub(crate) async fn next(&mut self) -> Result<Next, StoreError> {
        loop {
            consume_budget().await;
            let (mut events, from) = match self.following.after(self.position) {
                After::Nothing => {
                    self.following.wait(self.position).await;
                    continue;
                }
                After::Events(events) => {
                    self.position = events.last().map_or(self.position, |last| last.row.seq);
                    (events, Source::Memory)
                }
                After::Stored => {
                    let page = self.read().await?;
                    self.position = page.upto;
                    (page.events, Source::Disk)
                }
            };
            if let (Some(patterns), Source::Memory) = (&self.patterns, from) {
                events.retain(|event| is_wanted(Some(patterns), &event.row.event_type));
            }
            if !events.is_empty() {
                return Ok(Next { events, from });
            }
        }
    }

    async fn read(&self) -> Result<Page, StoreError> {
        let newest = self.following.newest();
        let (position, patterns) = (self.position, self.patterns.clone());
        let read = move |connection: &Connection| page(connection, position, patterns.as_deref());
        let mut page = self.store.inner.feed_readers.read(read).await?;
        if page.is_last {
            // Whatever its number is, there is nothing before it.
            page.upto = page.upto.max(newest);
        }
        Ok(page)
    }
}

struct Page {
    events: Vec<Arc<Followed>>,
    upto: i64,
    is_last: bool,
}

fn page(connection: &Connection, after: i64, patterns: Option<&[Pattern]>) -> Result<Page, StoreError> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2"))?;
    let mut rows = statement.query(params![after, MOST_LOOKED_AT])?;
    let (mut events, mut bytes, mut looked_at, mut upto) = (Vec::new(), 0, 0, after);
    while events.len() < MOST_AT_ONCE && bytes < MOST_BYTES {
        let Some(row) = rows.next()? else {
            return Ok(Page { events, upto, is_last: looked_at < MOST_LOOKED_AT });
        };
        looked_at += 1;
        upto = row.get(0)?;
        // The data of what is not wanted is not read at all.
        if is_wanted(patterns, row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?) {
            let event: EventRow = from_row(row)?;
            if std::str::from_utf8(&event.data).is_err() {
                return Err(StoreError::Corrupt(format!("event {upto} is not text")));
            }
            bytes += event.data.len();
            events.push(Followed::new(event));
        }
    }
    Ok(Page { events, upto, is_last: false })
}

fn is_wanted(patterns: Option<&[Pattern]>, event_type: &str) -> bool {
    patterns.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.selects(event_type)))
}
