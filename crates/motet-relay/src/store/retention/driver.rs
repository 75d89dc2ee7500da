//! Runs the passes of retention.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::time::{Instant, sleep};

use super::candidates::{
    Candidate, RetainedPosition, ShorterPosition, ended_after, next_end, numbers_after, oldest_after,
    retained_after,
};
use super::housekeeping;
use super::settle::Deleted;
use super::steps::{self, Step, keep_times};
use super::{CHANGED_PER_STEP, CLOCK_MARGIN, DueKind, KeepTimes, position, set_position};
use crate::clock::Millis;
use crate::config::Retention;
use crate::store::damage::{end_of_damage, readable};
use crate::store::space::used_bytes;
use crate::store::vacuum::{free_pages_beyond, give_back};
use crate::store::writer::Tx;
use crate::store::{SWEEP_RETRY, Store, StoreError, TenantSeq};

/// A step that has waited longer than this for the writer shows that other callers need it.
const BUSY: Duration = Duration::from_millis(5);

/// The pause after a step, as a multiple of the time that it took: an even share of the writer, and a small one if the
/// writer is busy.
const PAUSE: u32 = 1;
const PAUSE_IF_BUSY: u32 = 4;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Retention that is later than this takes an even share also of a busy writer. Otherwise the store would grow for as long as
/// the writer is busy.
const LATE: Duration = Duration::from_secs(30);

/// Number of steps of a tenant before the next tenant has its turn.
const STEPS_PER_TURN: usize = 16;

/// Number of tenants that one read looks at.
const TENANTS_PER_READ: usize = 100;

/// Number of retained events that a pass looks at and that stay.
const RETAINED_PER_PASS: usize = 1_000;

/// How often retained events, and deletions by size that found every event in use, are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(60 * 60);

/// The pause between two passes is this part of the shortest time, within the bounds.
const PASSES_PER_KEEP: Millis = 60;
const SHORTEST_BETWEEN: Millis = 1_000;
const LONGEST_BETWEEN: Millis = 60_000;

/// If the system's clock has advanced by more than `SUSPECT` since the store was last used, the first pass begins after
/// `HOLD`. A machine whose clock was wrong at the start has set it by then.
const SUSPECT: Millis = 24 * 60 * 60 * 1_000;
const HOLD: Duration = Duration::from_secs(60 * 60);

/// Deletes finished events until the store is closed. `seen` is the latest time at which the store was used.
pub(in crate::store) async fn run(store: Store, relay: Retention, seen: Millis) {
    let ahead = store.clock().retention_now().saturating_sub(seen);
    if seen > 0 && ahead > SUSPECT {
        let hours = ahead / (60 * 60 * 1_000);
        tracing::info!(
            hours,
            "the store was not in use for this time, or the clock is wrong; retention begins in an hour"
        );
        sleep(HOLD).await;
    }
    let signal = Arc::clone(&store.shared.retention);
    let mut driver = Driver::new(store.clone(), relay);
    loop {
        let next = match driver.pass().await {
            Ok(next) => next,
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "retention cannot read the store yet; trying again");
                Some(driver.now())
            }
        };
        sleep(driver.between_passes()).await;
        signal.wait_until(next, driver.now()).await;
    }
}

/// The state of retention that a restart may lose.
#[derive(Debug)]
pub(super) struct Driver {
    store: Store,
    relay: Arc<Retention>,
    /// The shortest time of relay and of all tenants.
    shortest: Option<Millis>,
    /// Rules of tenants that cannot continue because of damage. It does not heal with time.
    stuck: BTreeSet<(TenantSeq, i64)>,
    /// Where the walk over retained events continues.
    retained: RetainedPosition,
    /// Where the walk over events with a time of their own continues.
    shorter: ShorterPosition,
    size_waits_until: Option<Instant>,
    housekeeping_at: Option<Instant>,
    can_vacuum: bool,
}

/// The result of a read about some tenants.
#[derive(Debug, Default)]
struct DueTenants {
    due: Vec<(TenantSeq, DueKind)>,
    /// When the first of them became due.
    since: Option<Millis>,
    /// When the next event of these tenants is due.
    next: Option<Millis>,
    /// The last tenant, if there may be more.
    last: Option<TenantSeq>,
}

const FIRST_RETAINED: RetainedPosition = (0, TenantSeq::numbered(0), 0);
const FIRST_SHORTER: ShorterPosition = (Millis::MIN, 0);

impl Driver {
    pub(super) fn new(store: Store, relay: Retention) -> Self {
        Self {
            store,
            relay: Arc::new(relay),
            shortest: None,
            stuck: BTreeSet::new(),
            retained: FIRST_RETAINED,
            shorter: FIRST_SHORTER,
            size_waits_until: None,
            housekeeping_at: None,
            can_vacuum: true,
        }
    }

    fn now(&self) -> Millis {
        self.store.clock().retention_now()
    }

    fn between_passes(&self) -> Duration {
        let between = self.shortest.map_or(LONGEST_BETWEEN, |shortest| shortest / PASSES_PER_KEEP);
        Duration::from_millis(between.clamp(SHORTEST_BETWEEN, LONGEST_BETWEEN).unsigned_abs())
    }

    /// Deletes all that is due. Returns when the next pass is needed, if nothing wakes the driver before.
    pub(super) async fn pass(&mut self) -> Result<Option<Millis>, StoreError> {
        let now = self.now();
        if self.store.shared.retention.take_new_policies() {
            self.shortest = self.shortest_of_all().await?;
        }
        let mut next = self.shortest.map(|shortest| now.saturating_add(shortest));
        let mut wake_at = |at: Option<Millis>| next = next.into_iter().chain(at).min();
        wake_at(self.tenants(now).await?);
        wake_at(self.shorter(now).await?);
        wake_at(self.retained(now).await?);
        wake_at(self.size(now).await?);
        if self.housekeeping_at.is_none_or(|at| at.elapsed() >= HOUSEKEEPING_EVERY) {
            self.housekeeping_at = Some(Instant::now());
            housekeeping::run(self, now).await?;
        }
        self.vacuum().await?;
        Ok(next)
    }

    async fn shortest_of_all(&self) -> Result<Option<Millis>, StoreError> {
        let relay = Arc::clone(&self.relay);
        let read = move |connection: &Connection| {
            let sql = "SELECT min(nullif(json_extract(policy, '$.payload_keep_s'), 0)),
                     min(nullif(json_extract(policy, '$.rows_keep_s'), 0)) FROM tenants WHERE deleted_at IS NULL";
            let own: [Option<Millis>; 2] =
                connection.query_row(sql, [], |row| Ok([row.get(0)?, row.get(1)?]))?;
            let own = own.into_iter().flatten().map(|seconds| seconds * 1_000);
            Ok(own.chain(KeepTimes::of_relay(&relay).shortest()).min())
        };
        self.store.shared.readers.read(read).await
    }

    /// Applies the times of all tenants. Returns when the next event is due.
    async fn tenants(&mut self, now: Millis) -> Result<Option<Millis>, StoreError> {
        let (mut turn, mut since, mut next, mut after) = (Vec::new(), None, None, TenantSeq::numbered(0));
        loop {
            let relay = Arc::clone(&self.relay);
            let read = move |connection: &Connection| due_tenants(connection, &relay, after, now);
            let found = self.store.shared.readers.read(read).await?;
            turn.extend(found.due);
            since = earlier(since, found.since);
            next = earlier(next, found.next);
            match found.last {
                Some(last) => after = last,
                None => break,
            }
        }
        self.store.shared.retention.set_late_since(since);
        turn.retain(|(tenant, kind)| !self.stuck.contains(&(*tenant, kind.stored())));
        // In turns, so that a tenant with many due events does not hold up the others.
        while !turn.is_empty() {
            let mut unfinished = Vec::new();
            for (tenant, kind) in turn {
                let mut steps = 0;
                while self.step_of_tenant(tenant, kind, now).await? {
                    steps += 1;
                    if steps == STEPS_PER_TURN {
                        unfinished.push((tenant, kind));
                        break;
                    }
                }
            }
            turn = unfinished;
        }
        self.store.shared.retention.set_late_since(None);
        Ok(next)
    }

    /// Returns `true` if there may be more to do.
    async fn step_of_tenant(
        &mut self,
        tenant: TenantSeq,
        kind: DueKind,
        now: Millis,
    ) -> Result<bool, StoreError> {
        let step = |limit| {
            let relay = Arc::clone(&self.relay);
            self.step(move |tx| steps::of_tenant(tx, &relay, tenant, kind, now, limit))
        };
        match self.damaged(step(usize::MAX).await, step(1)).await? {
            Some(step) => Ok(step.next.is_some()),
            None => match self.paced(move |tx| steps::pass_over(tx, tenant, kind)).await {
                Err(StoreError::Corrupt(why)) => {
                    tracing::error!(why, tenant = %tenant, "retention of a tenant stops until the next start: its events cannot be read");
                    self.stuck.insert((tenant, kind.stored()));
                    Ok(false)
                }
                passed => passed,
            },
        }
    }

    /// Erases the data of events whose own time has ended. Returns when the next one ends.
    async fn shorter(&mut self, now: Millis) -> Result<Option<Millis>, StoreError> {
        let mut in_use = 0;
        loop {
            let from = self.shorter;
            let step = |limit| self.step(move |tx| steps::shorter(tx, from, now, limit));
            let Some(step) = self.damaged(step(usize::MAX).await, step(1)).await? else {
                let next = move |connection: &Connection| ended_after(connection, from, now, 1);
                match self.past_damage(next).await? {
                    Some((next, _)) => self.shorter = next,
                    None => {
                        self.shorter = FIRST_SHORTER;
                        break;
                    }
                }
                continue;
            };
            in_use += step.in_use;
            match step.next {
                Some(next) => self.shorter = next,
                None => {
                    self.shorter = FIRST_SHORTER;
                    break;
                }
            }
            if in_use >= RETAINED_PER_PASS {
                break;
            }
        }
        let next = self.store.shared.readers.read(move |connection| next_end(connection, now)).await?;
        Ok(earlier(next, (in_use > 0).then(|| now.saturating_add(LONGEST_BETWEEN))))
    }

    /// Looks again at some events that were in use. Returns when the next ones are looked at.
    async fn retained(&mut self, now: Millis) -> Result<Option<Millis>, StoreError> {
        let any = |connection: &Connection| Ok(!retained_after(connection, FIRST_RETAINED)?.is_empty());
        if !self.store.shared.readers.read(any).await? {
            return Ok(None);
        }
        let mut in_use = 0;
        while in_use < RETAINED_PER_PASS {
            let (from, relay) = (self.retained, Arc::clone(&self.relay));
            let step = |limit| {
                let relay = Arc::clone(&relay);
                self.step(move |tx| steps::retained(tx, &relay, from, now, limit))
            };
            let Some(step) = self.damaged(step(usize::MAX).await, step(1)).await? else {
                match self.past_damage(move |connection| retained_after(connection, from)).await? {
                    Some(next) => self.retained = next,
                    None => {
                        self.retained = FIRST_RETAINED;
                        break;
                    }
                }
                continue;
            };
            in_use += step.in_use;
            match step.next {
                Some(next) => self.retained = next,
                None => {
                    self.retained = FIRST_RETAINED;
                    break;
                }
            }
        }
        Ok(Some(now.saturating_add(LONGEST_BETWEEN)))
    }

    /// Deletes the oldest events while the store is too large. Returns when it looks again.
    async fn size(&mut self, now: Millis) -> Result<Option<Millis>, StoreError> {
        let Some(max_bytes) = self.relay.max_bytes else { return Ok(None) };
        let used = self.store.shared.readers.read(used_bytes).await?;
        if used <= max_bytes || self.size_waits_until.is_some_and(|until| Instant::now() < until) {
            return Ok(None);
        }
        let mut deleted = Deleted::default();
        loop {
            let step = |limit| self.step(move |tx| steps::by_size(tx, max_bytes, now, limit));
            let Some(step) = self.damaged(step(usize::MAX).await, step(1)).await? else {
                if self.pass_over_by_size().await? {
                    continue;
                }
                break;
            };
            deleted.rows += step.deleted.rows;
            if step.next.is_none() {
                break;
            }
        }
        let used = self.store.shared.readers.read(used_bytes).await?;
        if used <= max_bytes {
            self.size_waits_until = None;
            tracing::info!(
                rows = deleted.rows,
                used,
                max_bytes,
                "the oldest events were deleted: the store was too large"
            );
            return Ok(None);
        }
        self.size_waits_until = Some(Instant::now() + LOOK_AGAIN);
        tracing::warn!(
            used,
            max_bytes,
            "the store is larger than --max-bytes, and all events that are left are in use"
        );
        Ok(Some(now.saturating_add(LONGEST_BETWEEN)))
    }

    /// Returns the first row of a walk, so that the walk continues after it; `None` if it cannot be read either.
    async fn past_damage<T: Send + 'static>(
        &self,
        next: impl FnOnce(&Connection) -> Result<Vec<T>, StoreError> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let found = readable(self.store.shared.readers.read(next).await)?;
        Ok(found.ok().and_then(|rows| rows.into_iter().next()))
    }

    /// Moves the position of the deletions by size past the next event, which cannot be read or written. Returns `false` if
    /// the damage extends to the end.
    async fn pass_over_by_size(&self) -> Result<bool, StoreError> {
        let find = |connection: &Connection| {
            let from = position(connection, steps::BY_SIZE, DueKind::Rows)?;
            if let Ok(events) = readable(oldest_after(connection, from, 1))? {
                return Ok(events.first().map_or(0, |event| event.seq));
            }
            let next = |distance: i64| oldest_after(connection, from.saturating_add(distance), 1).map(drop);
            let end = end_of_damage(i64::MAX - from, next)?;
            Ok(end.map_or(0, |distance| from.saturating_add(distance)))
        };
        let upto = self.store.shared.readers.read(find).await?;
        self.paced(move |tx| set_position(tx.connection, steps::BY_SIZE, DueKind::Rows, upto)).await?;
        Ok(upto > 0)
    }

    /// Returns free pages to the file system, except for some that new events use soon.
    async fn vacuum(&mut self) -> Result<(), StoreError> {
        while self.can_vacuum && self.store.shared.readers.read(free_pages_beyond).await? > 0 {
            match self.paced(|tx| give_back(tx.connection)).await {
                Ok(()) => {}
                Err(StoreError::Corrupt(why)) => {
                    tracing::error!(
                        why,
                        "free space is not given back to the file system until the next start"
                    );
                    self.can_vacuum = false;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Runs a step and counts what it has deleted.
    async fn step<P, F>(&self, job: F) -> Result<Step<P>, StoreError>
    where
        P: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<Step<P>, StoreError> + Clone + Send + 'static,
    {
        let step = self.paced(job).await?;
        metrics::counter!("relay_retention_rows_total").increment(step.deleted.rows);
        metrics::counter!("relay_retention_payloads_total").increment(step.deleted.payloads);
        Ok(step)
    }

    /// If a step has found damage, runs the step for one event only. Returns `None` if it is this event that cannot be read
    /// or written.
    async fn damaged<P>(
        &self,
        step: Result<Step<P>, StoreError>,
        single: impl Future<Output = Result<Step<P>, StoreError>>,
    ) -> Result<Option<Step<P>>, StoreError> {
        let Err(StoreError::Corrupt(_)) = step else { return step.map(Some) };
        self.store.rebuild_indexes_soon().await?;
        match single.await {
            Err(StoreError::Corrupt(_)) => Ok(None),
            step => step.map(Some),
        }
    }

    /// Runs a job of the writer until it succeeds, and then pauses, so that other callers have most of the writer while they
    /// need it.
    pub(super) async fn paced<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, StoreError> + Clone + Send + 'static,
    {
        loop {
            while self.store.shared.scrub.is_freeing() {
                sleep(SWEEP_RETRY).await;
            }
            let (job, began) = (job.clone(), Instant::now());
            let timed = move |tx: &mut Tx<'_>| {
                let waited = began.elapsed();
                Ok((job(tx)?, waited))
            };
            match self.store.write(CHANGED_PER_STEP, timed).await {
                Ok((done, waited)) => {
                    let is_late = self.store.shared.retention.lag(self.now()) > LATE;
                    let share = if waited > BUSY && !is_late { PAUSE_IF_BUSY } else { PAUSE };
                    sleep((began.elapsed() * share).min(LONGEST_PAUSE)).await;
                    return Ok(done);
                }
                Err(error @ (StoreError::Closed | StoreError::Corrupt(_))) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "retention cannot delete rows yet; trying again");
                    sleep(SWEEP_RETRY).await;
                }
            }
        }
    }

    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn relay(&self) -> &Retention {
        &self.relay
    }
}

fn earlier(one: Option<Millis>, other: Option<Millis>) -> Option<Millis> {
    one.into_iter().chain(other).min()
}

/// Reads which tenants have due events.
fn due_tenants(
    connection: &Connection,
    relay: &Retention,
    after: TenantSeq,
    now: Millis,
) -> Result<DueTenants, StoreError> {
    let mut found = DueTenants::default();
    let mut of_tenants = BTreeMap::new();
    let sql = "SELECT min(tenant_seq) FROM events INDEXED BY events_by_tenant WHERE tenant_seq > ?1";
    let mut last = after;
    while of_tenants.len() < TENANTS_PER_READ {
        let next: Option<TenantSeq> = connection.prepare_cached(sql)?.query_row([last], |row| row.get(0))?;
        let Some(tenant) = next else { break };
        last = tenant;
        of_tenants.insert(tenant, keep_times(connection, relay, tenant)?);
    }
    found.last = (of_tenants.len() == TENANTS_PER_READ).then_some(last);
    for (tenant, keep) in of_tenants {
        for kind in DueKind::ALL {
            let Some(keep) = keep.and_then(|keep| keep.of(kind)) else { continue };
            let from = position(connection, tenant, kind)?;
            let Some(seq) = numbers_after(connection, tenant, from)?.first().copied() else { continue };
            let due_at = match Candidate::find(connection, seq) {
                Ok(Some(event)) if event.created_at > now.saturating_add(CLOCK_MARGIN) => now,
                Ok(Some(event)) => event.created_at.saturating_add(keep),
                // The step finds the damage again, and passes over the event.
                Ok(None) | Err(StoreError::Corrupt(_)) => now,
                Err(error) => return Err(error),
            };
            if due_at <= now {
                found.due.push((tenant, kind));
                found.since = earlier(found.since, Some(due_at));
            } else {
                found.next = earlier(found.next, Some(due_at));
            }
        }
    }
    Ok(found)
}
