//! Lists of attempts, newest first: of an endpoint, and of an event.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::AttemptRow;
use super::management::attempts;
use crate::store::damage::readable;
use crate::store::events::read_event;
use crate::store::listing::{EventFilter, ListPage, ScanBudget, Walk};
use crate::store::{EventRow, Store, StoreError, TenantSeq};

/// An attempt with its event and its endpoint.
#[derive(Debug)]
pub(crate) struct AttemptDetail {
    pub(crate) row: AttemptRow,
    pub(crate) event: i64,
    /// The event, or the reason why it cannot be read. It is read only if it is needed.
    pub(crate) of_event: Option<Result<EventRow, String>>,
    pub(crate) endpoint: i64,
    /// The current URL of the endpoint.
    pub(crate) url: String,
}

/// The attempts that a list contains.
#[derive(Debug, Clone, Default)]
pub(crate) struct AttemptFilter {
    /// `true`: successful attempts, `false`: failed ones.
    pub(crate) is_ok: Option<bool>,
    /// The first digit of the status.
    pub(crate) status_class: Option<u16>,
    /// Conditions on the event; its times are those of the attempt.
    pub(crate) of_event: EventFilter,
    /// `true` if each attempt is returned with its event.
    pub(crate) with_event: bool,
}

/// After [`AttemptRow::COLUMNS`].
const COLUMNS: &str = "d.event_seq, a.endpoint_seq, e.url";

impl Store {
    /// Returns a page of the attempts at an endpoint of the tenant.
    pub(crate) async fn attempts_of_endpoint(
        &self,
        tenant: TenantSeq,
        endpoint: i64,
        filter: AttemptFilter,
        page: Walk,
    ) -> Result<ListPage<AttemptDetail>, StoreError> {
        self.shared
            .readers
            .read(move |connection| {
                let sign = if page.is_descending { "<=" } else { ">=" };
                let order = if page.is_descending { "DESC" } else { "ASC" };
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {}, {COLUMNS} FROM attempts a INDEXED BY attempts_by_endpoint
                     CROSS JOIN deliveries d ON d.seq = a.delivery_seq CROSS JOIN endpoints e ON e.seq = a.endpoint_seq
                     WHERE a.endpoint_seq = ?2 AND a.tenant_seq = ?3 AND a.seq {sign} ?1 ORDER BY a.seq {order}",
                    AttemptRow::COLUMNS
                ))?;
                let mut rows = statement.query(params![page.bound(), endpoint, tenant])?;
                let (budget, mut found) = (ScanBudget::new(), Vec::new());
                while found.len() < page.fetch()
                    && let Some(row) = rows.next()?
                {
                    let mut detail = from_row(row)?;
                    let seq = detail.row.seq;
                    if filter.takes(connection, &mut detail)? {
                        found.push(Ok(detail));
                    }
                    if !budget.spend(seq) {
                        break;
                    }
                }
                Ok(budget.page(found))
            })
            .await
    }

    /// Returns a page of the attempts at an event of the tenant; `endpoint` selects one endpoint.
    pub(crate) async fn attempts_of_event(
        &self,
        tenant: TenantSeq,
        event: i64,
        endpoint: Option<i64>,
        filter: AttemptFilter,
        page: Walk,
    ) -> Result<ListPage<AttemptDetail>, StoreError> {
        self.shared
            .readers
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT d.last_attempt, d.endpoint_seq, e.url FROM deliveries d INDEXED BY deliveries_by_event
                     CROSS JOIN endpoints e ON e.seq = d.endpoint_seq
                     WHERE d.event_seq = ?1 AND d.tenant_seq = ?2 AND (?3 IS NULL OR d.endpoint_seq = ?3)",
                )?;
                let mut rows = statement.query(params![event, tenant, endpoint])?;
                let mut all = Vec::new();
                while let Some(row) = rows.next()? {
                    let (endpoint, url): (i64, String) = (row.get(1)?, row.get(2)?);
                    for row in attempts(connection, row.get(0)?)? {
                        let url = url.clone();
                        all.push(AttemptDetail { row, event, of_event: None, endpoint, url });
                    }
                }
                all.sort_unstable_by_key(|detail| detail.row.seq);
                if page.is_descending {
                    all.reverse();
                }
                let mut found = Vec::new();
                for mut detail in all {
                    if found.len() == page.fetch() {
                        break;
                    }
                    if page.has(detail.row.seq) && filter.takes(connection, &mut detail)? {
                        found.push(Ok(detail));
                    }
                }
                Ok(ListPage { rows: found, stopped_at: None })
            })
            .await
    }

    /// Returns an attempt at an event of the tenant.
    pub(crate) async fn attempt(
        &self,
        tenant: TenantSeq,
        event: i64,
        seq: i64,
    ) -> Result<Option<AttemptDetail>, StoreError> {
        self.shared
            .readers
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {}, {COLUMNS} FROM attempts a CROSS JOIN deliveries d ON d.seq = a.delivery_seq
                     CROSS JOIN endpoints e ON e.seq = a.endpoint_seq
                     WHERE a.seq = ?1 AND a.tenant_seq = ?2 AND d.event_seq = ?3",
                    AttemptRow::COLUMNS
                ))?;
                let found = statement.query_row(params![seq, tenant, event], |row| Ok(from_row(row)));
                found.optional()?.transpose()
            })
            .await
    }
}

impl AttemptFilter {
    fn needs_event(&self) -> bool {
        let EventFilter { types, channel, tag, .. } = &self.of_event;
        self.with_event || types.is_some() || channel.is_some() || tag.is_some()
    }

    /// Returns `true` if the list contains the attempt, and reads its event if it is needed.
    fn takes(&self, connection: &Connection, detail: &mut AttemptDetail) -> Result<bool, StoreError> {
        let attempt = &detail.row.attempt;
        let has_status = self.is_ok.is_none_or(|is_ok| attempt.error.is_none() == is_ok)
            && self
                .status_class
                .is_none_or(|class| attempt.status.is_some_and(|status| status / 100 == class));
        if !has_status || !self.of_event.has_time(attempt.started_at) {
            return Ok(false);
        }
        if !self.needs_event() {
            return Ok(true);
        }
        let read = readable(read_event(connection, detail.event))?;
        let event = read.and_then(|event| event.ok_or_else(|| super::MISSING.to_owned()));
        let EventFilter { types, channel, tag, .. } = self.of_event.clone();
        let without_times = EventFilter { types, channel, tag, since: None, until: None };
        let is_taken = event.as_ref().map_or(without_times.is_empty(), |event| without_times.takes(event));
        // A payload has up to 256 KiB, so it is not kept for nothing.
        detail.of_event = Some(event).filter(|_| self.with_event);
        Ok(is_taken)
    }
}

fn from_row(row: &Row<'_>) -> Result<AttemptDetail, StoreError> {
    let (event, endpoint, url) = (row.get(10)?, row.get(11)?, row.get(12)?);
    Ok(AttemptDetail { row: AttemptRow::read(row)?, event, of_event: None, endpoint, url })
}
