//! The steps of running jobs, for their driver.

use std::num::NonZeroU32;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::scan::{Candidate, Job, ScanLimits, ScanPage, delivery_of, scan};
use super::{ReplayFilter, ReplayMode, ReplayState, ReplayWake, end};
use crate::store::backlog::Counted;
use crate::store::deliveries::{DueCause, insert_pending, revive};
use crate::store::endpoints::{EndpointRow, find as find_endpoint};
use crate::store::writer::Tx;
use crate::store::{HoldReason, Store, StoreError, TenantSeq, policy};

/// Number of rows that one step looks at.
const ROWS: usize = 1_000;

/// The estimated size of the rows of a delivery.
const DELIVERY_BYTES: usize = 256;

/// A job takes at most this part of the rate of an endpoint.
const PART_OF_RATE: f64 = 5.0;

/// Jobs wait while the pending deliveries of the tenant are this part of its limit: also deliveries that fail stay pending,
/// and new events must not be refused because of them.
const PART_OF_BACKLOG: u64 = 2;

/// The deliveries of one step take at most this part of a second, so that they are no burst.
const STEP_SECONDS: f64 = 0.1;

/// A running job at one of its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReplayPart {
    pub(crate) endpoint: i64,
    pub(crate) replay: i64,
}

/// The limits of all jobs together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplayLimits {
    /// Maximum number of deliveries of an endpoint that jobs have made due and that are not attempted yet.
    pub(crate) waiting: u64,
    /// The rate of the endpoints that have none of their own.
    pub(crate) rate: Option<NonZeroU32>,
}

/// The maximum numbers of deliveries per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ReplayRates {
    /// Of all jobs at the endpoint together.
    pub(crate) endpoint: Option<f64>,
    /// Of the job at the endpoint.
    pub(crate) job: Option<f64>,
}

impl ReplayRates {
    fn lowest(self) -> Option<f64> {
        self.endpoint.into_iter().chain(self.job).reduce(f64::min)
    }
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ReplayStep {
    /// The part has looked at some rows, and made `made` deliveries due.
    Moved { made: usize, rates: ReplayRates },
    /// The endpoint has enough deliveries of replays that wait. The signal reports when it has fewer.
    Full,
    /// The endpoint is disabled, or the tenant has reached the limit of its backlog.
    Held,
    /// The part has ended, or its job.
    Ended,
}

/// A part and its job, as stored.
struct StoredPart {
    tenant: TenantSeq,
    mode: ReplayMode,
    filter: ReplayFilter,
    last: i64,
    cursor: i64,
}

impl Store {
    /// Returns the parts of running jobs that are not finished.
    pub(crate) async fn running_replays(&self) -> Result<Vec<(TenantSeq, ReplayPart)>, StoreError> {
        self.shared
            .replay_reader
            .read(|connection| {
                let sql = "SELECT r.tenant_seq, p.replay_seq, p.endpoint_seq FROM replays r INDEXED BY replays_running
                     CROSS JOIN replay_parts p ON p.replay_seq = r.seq
                     WHERE r.state = 'running' AND p.is_finished = 0";
                let mut statement = connection.prepare_cached(sql)?;
                let rows = statement.query_map([], |row| {
                    Ok((row.get(0)?, ReplayPart { replay: row.get(1)?, endpoint: row.get(2)? }))
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Waits for a change that the driver of the replays must look at.
    ///
    /// # Cancel safety
    /// Safe: a wake is taken only by the poll that returns it.
    pub(crate) async fn replay_woken(&self) -> ReplayWake {
        self.shared.replays.next().await
    }

    /// Makes the next deliveries of a part due, and moves its cursor in the same commit.
    ///
    /// # Cancel safety
    /// Dropping the future before the commit has begun changes nothing; after that the step is carried out.
    pub(crate) async fn replay_step(
        &self,
        part: ReplayPart,
        limits: ReplayLimits,
    ) -> Result<ReplayStep, StoreError> {
        let waiting = self.shared.backlogs.of(Counted::Replayed, part.endpoint);
        let free = usize::try_from(limits.waiting.saturating_sub(waiting)).unwrap_or(usize::MAX);
        if free == 0 {
            return Ok(ReplayStep::Full);
        }
        let (damage, vault) = (Arc::clone(&self.shared.damage), Arc::clone(&self.shared.vault));
        let read = move |connection: &Connection| {
            let Some(stored) = find_part(connection, part)? else { return Ok(NextStep::Ended) };
            let Some(endpoint) = find_endpoint(connection, &vault, stored.tenant, part.endpoint)? else {
                return Ok(NextStep::EndpointGone(stored.cursor));
            };
            if is_held(&endpoint) {
                return Ok(NextStep::Held);
            }
            let rates = rates_of(&endpoint, &stored.filter, limits.rate);
            let per_step = rates.lowest().map_or(usize::MAX, |rate| (rate * STEP_SECONDS) as usize).max(1);
            let job = Job::new(stored.tenant, stored.mode, &stored.filter, stored.last)?;
            let scanned = ScanLimits { candidates: free.min(per_step), rows: ROWS };
            let page = scan(connection, &damage, &job, &endpoint, stored.cursor, scanned)?;
            Ok(NextStep::Page { page, from: stored.cursor, rates })
        };
        let (page, from, rates) = match self.shared.replay_reader.read(read).await? {
            NextStep::Ended => return Ok(ReplayStep::Ended),
            NextStep::Held => return Ok(ReplayStep::Held),
            NextStep::EndpointGone(from) => {
                (ScanPage { is_end: true, cursor: from, ..ScanPage::default() }, from, ReplayRates::default())
            }
            NextStep::Page { page, from, rates } => (page, from, rates),
        };
        let page = Arc::new(page);
        let apply = |page: Arc<ScanPage>, from| {
            self.write(1 + page.candidates.len(), move |tx| make(tx, part, &page, from, limits, rates))
        };
        let made = apply(Arc::clone(&page), from).await;
        // A page without candidates has no damaged one: nothing can be left out.
        let (Err(StoreError::Corrupt(_)), false) = (&made, page.candidates.is_empty()) else { return made };
        self.rebuild_indexes_soon().await?;
        // Now that the damage is known, each write has a commit of its own. A candidate at a time finds those that cannot be
        // written, which are left out.
        let (mut made, mut from) = (0, from);
        for candidate in &page.candidates {
            let single = Arc::new(ScanPage {
                candidates: vec![*candidate],
                cursor: candidate.position,
                ..ScanPage::default()
            });
            let step = match apply(Arc::clone(&single), from).await {
                Err(StoreError::Corrupt(why)) => {
                    self.shared.damage.note(&why);
                    let left_out = ScanPage { candidates: Vec::new(), ..*single };
                    apply(Arc::new(left_out), from).await?
                }
                step => step?,
            };
            match step {
                ReplayStep::Moved { made: one, .. } => (made, from) = (made + one, candidate.position),
                other => return Ok(other),
            }
        }
        Ok(ReplayStep::Moved { made, rates })
    }

    /// Ends a job that cannot go on.
    pub(crate) async fn fail_replay(&self, replay: i64, why: String) -> Result<(), StoreError> {
        self.write(1, move |tx| end(tx, replay, ReplayState::Failed, Some(&why))).await
    }
}

/// The result of the read of a step.
enum NextStep {
    Ended,
    Held,
    /// The endpoint is deleted. The part is at this position.
    EndpointGone(i64),
    Page {
        page: ScanPage,
        from: i64,
        rates: ReplayRates,
    },
}

/// Returns `true` if new events of the endpoint are skipped.
fn is_held(endpoint: &EndpointRow) -> bool {
    !endpoint.enabled || endpoint.held == Some(HoldReason::Gone)
}

fn rates_of(endpoint: &EndpointRow, filter: &ReplayFilter, relay: Option<NonZeroU32>) -> ReplayRates {
    let part =
        policy::effective_rate(endpoint.policy.rate, relay).map(|rate| f64::from(rate.get()) / PART_OF_RATE);
    ReplayRates { endpoint: part, job: filter.rate.map(f64::from) }
}

/// Returns a part that is not finished, of a running job.
fn find_part(connection: &Connection, part: ReplayPart) -> Result<Option<StoredPart>, StoreError> {
    type Stored = (TenantSeq, String, String, i64, i64, i64);
    let sql = "SELECT r.tenant_seq, r.mode, r.filter, r.last_event, r.last_delivery, p.cursor
         FROM replay_parts p JOIN replays r ON r.seq = p.replay_seq
         WHERE p.replay_seq = ?1 AND p.endpoint_seq = ?2 AND p.is_finished = 0 AND r.state = 'running'";
    let stored: Option<Stored> = connection
        .prepare_cached(sql)?
        .query_row(params![part.replay, part.endpoint], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })
        .optional()?;
    let Some((tenant, mode, filter, last_event, last_delivery, cursor)) = stored else { return Ok(None) };
    let mode = ReplayMode::read(&mode)?;
    let last = if mode.walks_events() { last_event } else { last_delivery };
    Ok(Some(StoredPart { tenant, mode, filter: policy::parse(&filter)?, last, cursor }))
}

/// Makes the candidates of a page due, as far as the limits admit them, and moves the cursor.
fn make(
    tx: &mut Tx<'_>,
    part: ReplayPart,
    page: &ScanPage,
    from: i64,
    limits: ReplayLimits,
    rates: ReplayRates,
) -> Result<ReplayStep, StoreError> {
    let Some(stored) = find_part(tx.connection, part)? else { return Ok(ReplayStep::Ended) };
    let endpoint = find_endpoint(tx.connection, tx.vault, stored.tenant, part.endpoint)?;
    if stored.cursor != from {
        // Another step of this part was faster.
        return Ok(ReplayStep::Moved { made: 0, rates });
    }
    let is_gone = endpoint.is_none();
    if endpoint.as_ref().is_some_and(is_held) {
        return Ok(ReplayStep::Held);
    }
    let free = limits.waiting.saturating_sub(tx.backlog.replayed(part.endpoint));
    let mut room = usize::try_from(free).unwrap_or(usize::MAX);
    if !is_gone && !page.candidates.is_empty() {
        if room == 0 {
            return Ok(ReplayStep::Full);
        }
        let routes = tx.routes.of(tx.connection, stored.tenant)?;
        if let Some(max) = routes.policy.backlog_max {
            let pending: u64 = routes.endpoints().map(|endpoint| tx.backlog.of(endpoint)).sum();
            // The other half is for new events.
            let max = (max.get() / PART_OF_BACKLOG).max(1);
            room = room.min(usize::try_from(max.saturating_sub(pending)).unwrap_or(usize::MAX));
            if room == 0 {
                return Ok(ReplayStep::Held);
            }
        }
        // Replays stop first when the space becomes scarce.
        tx.space.check(tx.connection, page.candidates.len() * DELIVERY_BYTES)?;
    }
    let candidates = if is_gone { &[][..] } else { &page.candidates[..] };
    let (mut made, mut skipped, mut cursor, mut is_end) = (0, 0, page.cursor, page.is_end);
    for candidate in candidates {
        if made == room {
            (cursor, is_end) = (candidate.position - 1, false);
            break;
        }
        if send(tx, stored.tenant, part.endpoint, stored.mode, candidate)? {
            made += 1;
        } else {
            skipped += 1;
        }
    }
    tx.connection
        .prepare_cached(
            "UPDATE replay_parts SET done = done + ?3, skipped = skipped + ?4, cursor = ?5, is_finished = ?6
             WHERE replay_seq = ?1 AND endpoint_seq = ?2",
        )?
        .execute(params![part.replay, part.endpoint, made, skipped, cursor, is_end])?;
    tx.connection
        .prepare_cached(
            "UPDATE replays SET done = done + ?2, skipped = skipped + ?3, updated_at = ?4 WHERE seq = ?1",
        )?
        .execute(params![part.replay, made, skipped, tx.wall])?;
    if !is_end {
        return Ok(ReplayStep::Moved { made, rates });
    }
    let left = "SELECT 1 FROM replay_parts WHERE replay_seq = ?1 AND is_finished = 0";
    if !tx.connection.prepare_cached(left)?.exists([part.replay])? {
        end(tx, part.replay, ReplayState::Finished, None)?;
    }
    Ok(ReplayStep::Ended)
}

/// Makes the delivery of an event due. Returns `false` if the event or its delivery has changed since the read.
fn send(
    tx: &mut Tx<'_>,
    tenant: TenantSeq,
    endpoint: i64,
    mode: ReplayMode,
    candidate: &Candidate,
) -> Result<bool, StoreError> {
    let stored = "SELECT 1 FROM events WHERE seq = ?1 AND tenant_seq = ?2 AND data IS NOT NULL";
    if !tx.connection.prepare_cached(stored)?.exists(params![candidate.event, tenant])? {
        return Ok(false);
    }
    let known = delivery_of(tx.connection, candidate.event, endpoint)?;
    match known {
        None if mode.walks_events() => {
            insert_pending(tx, tenant, candidate.event, endpoint, DueCause::Replay)?;
        }
        Some(known)
            if mode == ReplayMode::All && !known.is_pending() || mode.states().contains(&known.state) =>
        {
            revive(tx, tenant, known.seq, endpoint, DueCause::Replay)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}
