//! The reads and writes of the dispatcher.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::auto_disable::{self, FAILING, HoldChange};
use super::due::{self, DueCounts, DueRow};
use super::{Attempt, DEAD, DELIVERED, FailureClass, MISSING, PENDING};
use crate::clock::{Millis, millis};
use crate::config::AutoDisable;
use crate::masked::Masked;
use crate::signature::Secret;
use crate::store::backlog::Counted;
use crate::store::damage::{Damage, readable};
use crate::store::endpoints::{EndpointSecrets, OldSecrets};
use crate::store::erasure::ERASED;
use crate::store::events::read_event;
use crate::store::policy::{self, EndpointPolicy, HeaderPrefix, RequestBody, TenantPolicy};
use crate::store::vault::Vault;
use crate::store::writer::Tx;
use crate::store::{EndpointWake, EventRow, Store, StoreError, TenantSeq, Wake};

/// Number of deliveries of a deleted endpoint that become dead letters in one commit: few enough that other callers of
/// the commit do not notice.
const DEAD_LETTERS_PER_COMMIT: usize = 256;

/// The delay until a delivery is attempted again that would be a dead letter, if its row could be written.
const DAMAGED_RETRY: Duration = Duration::from_secs(60 * 60);

/// Number of unreadable deliveries that one turn moves to the dead letters.
const GIVEN_UP_AT_ONCE: usize = 64;

/// The endpoint of a turn's deliveries, with its current settings, not those at the time of the event.
#[derive(Debug)]
pub(crate) struct DeliveryTarget {
    pub(crate) endpoint: i64,
    /// Changes with each change of the URL, the secret or `enabled`. The result of an attempt is applied to the
    /// endpoint only if the generation is still the one of the attempt.
    pub(crate) generation: i64,
    pub(crate) url: String,
    pub(crate) secret: Secret,
    /// Deliveries are also signed with these secrets while they are valid.
    pub(crate) old_secrets: OldSecrets,
    /// Also sent with each delivery.
    pub(crate) headers: Masked<BTreeMap<String, String>>,
    pub(crate) policy: EndpointPolicy,
    pub(crate) body: RequestBody,
    pub(crate) header_prefix: HeaderPrefix,
}

/// A delivery that is due.
#[derive(Debug)]
pub(crate) struct DueDelivery {
    pub(crate) delivery: i64,
    pub(crate) event: i64,
    pub(crate) event_type: String,
    pub(crate) data: Vec<u8>,
    pub(crate) created_at: Millis,
    /// A part of the key of its row in `due`.
    pub(crate) due_at: Millis,
    /// Number of times that the delivery was resent.
    pub(crate) round: i64,
    /// Number of attempts since the delivery was created or last resent.
    pub(crate) round_attempts: u32,
    /// Number of latest attempts in a row that are charged to relay; not included in `round_attempts`.
    pub(crate) relay_attempts: u32,
    /// When the first of these was made, on the scale of due times.
    pub(crate) relay_since: Option<Millis>,
}

/// The result of reading an endpoint's turn.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) state: TurnState,
    /// When the next delivery is due that this turn does not contain, if there is one.
    pub(crate) next_due: Option<Millis>,
    /// Deliveries that cannot be attempted because they or their events cannot be read. They are dead letters now.
    pub(crate) unreadable: Vec<UnreadableDelivery>,
}

impl Turn {
    fn held(next_due: Option<Millis>) -> Self {
        Self { state: TurnState::Held, next_due, unreadable: Vec::new() }
    }
}

/// A pending delivery that cannot be attempted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnreadableDelivery {
    pub(crate) delivery: i64,
    pub(crate) event: i64,
    endpoint: i64,
    due_at: Millis,
    pub(crate) why: String,
    /// `true` if its event was erased: the delivery is skipped, and is no dead letter.
    is_erased: bool,
}

#[derive(Debug)]
pub(crate) enum TurnState {
    /// Deliveries to attempt, at most the requested number.
    Open { target: DeliveryTarget, due: Vec<DueDelivery> },
    /// No attempts are made: the endpoint is paused or disabled, and its deliveries are kept; or it is deleted, and its
    /// deliveries are being moved to the dead letters.
    Held,
}

/// An attempt, the generation of the endpoint that it was made at, and its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttemptOutcome {
    pub(crate) delivery: i64,
    /// The due time that the attempt was made for.
    pub(crate) due_at: Millis,
    pub(crate) round: i64,
    pub(crate) endpoint: i64,
    pub(crate) generation: i64,
    pub(crate) attempt: Attempt,
    pub(crate) verdict: DeliveryVerdict,
}

/// The result of recording an attempt.
#[derive(Debug)]
pub(crate) struct RecordedAttempt {
    /// When the delivery is due again, if it is still pending.
    pub(crate) retry_at: Option<Millis>,
    /// `true` if this attempt made the delivery a dead letter.
    pub(crate) is_dead: bool,
    pub(crate) change: Option<HoldChange>,
}

/// The result of one step of moving deliveries to the dead letters.
#[derive(Debug)]
pub(crate) struct DeadLettered {
    /// The new dead letters: deliveries with their events.
    pub(crate) letters: Vec<(i64, i64)>,
    /// `true` if another step possibly finds more deliveries.
    pub(crate) more: bool,
}

/// The reason of the dead letters of a deleted endpoint.
pub(crate) const DELETED: &str = "the endpoint was deleted";

/// The consequence of an attempt for its delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeliveryVerdict {
    Delivered,
    /// The delivery is due again at this time.
    Retry(Millis),
    Dead {
        reason: String,
    },
}

impl Store {
    /// Returns a wake for each endpoint that has pending deliveries.
    pub(crate) async fn pending_endpoints(&self) -> Result<Vec<EndpointWake>, StoreError> {
        self.shared
            .dispatch_readers
            .read(|connection| {
                // The rows of a deleted tenant are deleted, and become no dead letters.
                let mut endpoints = connection.prepare_cached(
                    "SELECT seq, deleted_at IS NOT NULL, tenant_seq FROM endpoints
                     WHERE tenant_seq NOT IN (SELECT seq FROM tenants INDEXED BY tenants_deleted WHERE deleted_at IS NOT NULL) ORDER BY seq",
                )?;
                let mut earliest =
                    connection.prepare_cached("SELECT min(due_at) FROM due WHERE endpoint_seq = ?1")?;
                let mut pending = Vec::new();
                let mut rows = endpoints.query([])?;
                while let Some(row) = rows.next()? {
                    let (endpoint, is_deleted, tenant): (i64, bool, _) = (row.get(0)?, row.get(1)?, row.get(2)?);
                    let due = earliest.query_row([endpoint], |row| row.get::<_, Option<Millis>>(0));
                    // The turn of the endpoint finds the damage again, and requests a rebuild.
                    let due = readable(due.map_err(StoreError::from))?.unwrap_or(Some(0));
                    if let Some(due) = due {
                        let wake = if is_deleted { Wake::Deleted } else { Wake::Due(due) };
                        pending.push(EndpointWake::new(tenant, endpoint, wake));
                    }
                }
                Ok(pending)
            })
            .await
    }

    /// Returns up to `limit` due deliveries of an endpoint, earliest first, without those in `leased`. Deliveries that
    /// cannot be read become dead letters.
    ///
    /// # Errors
    /// A later call may succeed: the cause may be temporary, or removed by a rebuild of the indexes.
    pub(crate) async fn turn(
        &self,
        endpoint: i64,
        limit: usize,
        leased: Vec<i64>,
    ) -> Result<Turn, StoreError> {
        let now = self.clock().due_now();
        let (damage, vault) = (Arc::clone(&self.shared.damage), Arc::clone(&self.shared.vault));
        let turn = self
            .shared
            .dispatch_readers
            .read(move |connection| turn(connection, &vault, &damage, endpoint, limit, &leased, now))
            .await;
        if let Err(StoreError::Corrupt(_)) = turn {
            self.rebuild_indexes_soon().await?;
        }
        let mut turn = turn?;
        let unreadable = std::mem::take(&mut turn.unreadable);
        turn.unreadable = self.give_up(unreadable).await;
        Ok(turn)
    }

    /// Moves deliveries that cannot be attempted to the dead letters. Returns the deliveries that were moved.
    async fn give_up(&self, unreadable: Vec<UnreadableDelivery>) -> Vec<UnreadableDelivery> {
        let mut given_up = Vec::with_capacity(unreadable.len());
        for delivery in unreadable {
            if !delivery.is_erased {
                self.shared.damage.note(&delivery.why);
            }
            let (seq, given_up_row) = (delivery.delivery, delivery.clone());
            let written = self.write(1, move |tx| give_up(tx, &given_up_row));
            match written.await {
                Ok(_) if delivery.is_erased => {}
                Ok(true) => given_up.push(delivery),
                // The row cannot be written either, or only `due` contains it.
                Ok(false) | Err(StoreError::Corrupt(_)) => self.shared.damage.skip(seq),
                // The next turn finds it again.
                Err(error) => {
                    tracing::warn!(%error, delivery = seq, "cannot move an unreadable delivery to the dead letters yet; trying again")
                }
            }
        }
        given_up
    }

    /// Requests a rebuild of the indexes of deliveries and, if it is damaged, of `due`; at most once a minute.
    pub(in crate::store) async fn rebuild_indexes_soon(&self) -> Result<(), StoreError> {
        if !self.shared.damage.request_rebuild() {
            return Ok(());
        }
        // The writer rebuilds them before its next commit.
        self.write(1, |_| Ok(())).await
    }

    /// Makes no further attempt at a delivery until the next start, because the outcome of the last attempt cannot be
    /// recorded.
    pub(crate) fn skip(&self, delivery: i64) {
        self.shared.damage.skip(delivery);
    }

    /// Records an attempt and its consequences in one commit.
    ///
    /// An attempt that is charged to relay is not counted and does not change the endpoint. An attempt that is charged
    /// to the configuration is counted and does not change the endpoint. A failure at an older generation of the
    /// endpoint means nothing for the current one: the delivery is due at once.
    pub(crate) async fn record(&self, outcome: AttemptOutcome) -> Result<RecordedAttempt, StoreError> {
        let rules = self.shared.auto_disable.clone();
        let outcome = Arc::new(outcome);
        let recording = |extent: RecordExtent| {
            let (rules, outcome) = (rules.clone(), Arc::clone(&outcome));
            self.write(1, move |tx| record(tx, &rules, &outcome, extent))
        };
        match recording(RecordExtent::Whole).await {
            Err(StoreError::Corrupt(_)) => {}
            recorded => return recorded,
        }
        self.rebuild_indexes_soon().await?;
        // Now that the damage is known, each job has a commit of its own.
        for extent in [RecordExtent::Whole, RecordExtent::Delivery] {
            match recording(extent).await {
                Err(StoreError::Corrupt(why)) => self.shared.damage.note(&why),
                recorded => return recorded,
            }
        }
        self.write(1, move |tx| record_in_due(tx, &outcome)).await
    }

    /// Moves some pending deliveries of a deleted endpoint to the dead letters.
    pub(crate) async fn move_to_dead_letters(&self, endpoint: i64) -> Result<DeadLettered, StoreError> {
        let moved = self.write(DEAD_LETTERS_PER_COMMIT, move |tx| {
            let pending = some_pending(tx, endpoint)?;
            let mut letters = Vec::with_capacity(pending.len());
            for row in &pending {
                letters.extend(set_dead_letter(tx, row)?);
            }
            Ok(DeadLettered { letters, more: pending.len() == DEAD_LETTERS_PER_COMMIT })
        });
        match moved.await {
            Err(StoreError::Corrupt(_)) => self.move_singly_to_dead_letters(endpoint).await,
            moved => moved,
        }
    }

    /// Like [`move_to_dead_letters`](Self::move_to_dead_letters), in one commit for each delivery: a row that cannot be
    /// written must not keep the other deliveries pending.
    async fn move_singly_to_dead_letters(&self, endpoint: i64) -> Result<DeadLettered, StoreError> {
        let pending = self.write(1, move |tx| some_pending(tx, endpoint)).await?;
        let mut letters = Vec::with_capacity(pending.len());
        for row in &pending {
            let row = *row;
            match self.write(1, move |tx| set_dead_letter(tx, &row)).await {
                Ok(letter) => letters.extend(letter),
                Err(StoreError::Corrupt(why)) => {
                    self.shared.damage.note(&why);
                    let DueRow { due_at, delivery, .. } = row;
                    self.write(1, move |tx| due::take(tx, endpoint, due_at, delivery)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(DeadLettered { letters, more: pending.len() == DEAD_LETTERS_PER_COMMIT })
    }
}

/// Returns some pending deliveries of an endpoint.
fn some_pending(tx: &Tx<'_>, endpoint: i64) -> Result<Vec<DueRow>, StoreError> {
    let mut statement = tx.connection.prepare_cached(due::OF_ENDPOINT)?;
    let rows = statement.query_map([endpoint], DueRow::read)?;
    Ok(rows.take(DEAD_LETTERS_PER_COMMIT).collect::<Result<_, _>>()?)
}

/// Moves a pending delivery of a deleted endpoint to the dead letters. Returns the delivery and its event.
fn set_dead_letter(tx: &mut Tx<'_>, row: &DueRow) -> Result<Option<(i64, i64)>, StoreError> {
    let DueRow { endpoint, due_at, delivery, event, .. } = *row;
    due::take(tx, endpoint, due_at, delivery)?;
    Ok(set_dead(tx, endpoint, delivery, DELETED)?.then_some((delivery, event)))
}

/// Makes a pending delivery a dead letter. Its row in `due` must be removed as well. Returns `false` if the delivery is
/// not pending.
fn set_dead(tx: &mut Tx<'_>, endpoint: i64, delivery: i64, reason: &str) -> Result<bool, StoreError> {
    let tenant = tx
        .connection
        .prepare_cached(
            "UPDATE deliveries SET state = 2, due_at = NULL, updated_at = ?2, reason = ?3
             WHERE seq = ?1 AND state = 0 RETURNING tenant_seq",
        )?
        .query_row(params![delivery, tx.wall, reason], |row| row.get(0))
        .optional()?;
    if let Some(tenant) = tenant {
        tx.counts.dead(tenant, endpoint);
        tx.backlog.add(Counted::Dead, endpoint, 1);
    }
    Ok(tenant.is_some())
}

/// Moves an unreadable delivery to the dead letters. Returns `false` if it is not pending.
fn give_up(tx: &mut Tx<'_>, unreadable: &UnreadableDelivery) -> Result<bool, StoreError> {
    let UnreadableDelivery { delivery, endpoint, due_at, ref why, is_erased, .. } = *unreadable;
    if is_erased {
        return due::skip_pending(tx, delivery, why);
    }
    due::take(tx, endpoint, due_at, delivery)?;
    set_dead(tx, endpoint, delivery, why)
}

fn turn(
    connection: &Connection,
    vault: &Vault,
    damage: &Damage,
    endpoint: i64,
    limit: usize,
    leased: &[i64],
    now: Millis,
) -> Result<Turn, StoreError> {
    let (target, held, probe_at) = match readable(target(connection, vault, endpoint))? {
        Ok(Some(TargetRead::Open(target, held, probe_at))) => {
            damage.note_secrets(endpoint, None);
            (target, held, probe_at)
        }
        // Its deliveries stay pending: a new secret wakes the endpoint.
        Ok(Some(TargetRead::Lost(why))) => {
            damage.note_secrets(endpoint, Some(&why));
            return Ok(Turn::held(None));
        }
        Ok(None) => return Ok(Turn::held(None)),
        Err(why) => {
            // Its deliveries stay pending: a change or the deletion of the endpoint wakes it again.
            damage.note(&format!("endpoint {endpoint} cannot be read: {why}"));
            return Ok(Turn::held(None));
        }
    };
    let (limit, now) = match (held, probe_at) {
        (FAILING, Some(at)) if at > now => return Ok(Turn::held(Some(at))),
        // The outcome of the probe in flight sets the time of the next probe, or enables the endpoint.
        (FAILING, _) if !leased.is_empty() => return Ok(Turn::held(None)),
        // A probe is one delivery, no matter when it is due.
        (FAILING, _) => (1, Millis::MAX),
        _ => (limit, now),
    };
    let mut pending = connection.prepare_cached(due::OF_ENDPOINT)?;
    let mut due = Vec::with_capacity(limit);
    let mut unreadable = Vec::new();
    let mut next_due = None;
    // The row after the last one shows when the next delivery is due.
    let mut rows = pending.query([endpoint])?;
    while let Some(row) = rows.next()? {
        let row = DueRow::read(row)?;
        let DueRow { due_at, delivery, event, .. } = row;
        if leased.contains(&delivery) || damage.is_skipped(delivery) {
            continue;
        }
        if due_at > now || due.len() == limit || unreadable.len() == GIVEN_UP_AT_ONCE {
            next_due = Some(due_at);
            break;
        }
        match readable(read_delivery(connection, &row))? {
            Ok(Some(delivery_row)) => due.push(delivery_row),
            Ok(None) => {
                // It was resent after the erasure.
                let (why, is_erased) = (ERASED.to_owned(), true);
                unreadable.push(UnreadableDelivery { delivery, event, endpoint, due_at, why, is_erased });
            }
            Err(why) => {
                let is_erased = false;
                unreadable.push(UnreadableDelivery { delivery, event, endpoint, due_at, why, is_erased });
            }
        }
    }
    Ok(Turn { state: TurnState::Open { target, due }, next_due, unreadable })
}

/// An endpoint at which attempts may be made.
enum TargetRead {
    /// With its `held` state and the time of its next probe.
    Open(DeliveryTarget, i64, Option<Millis>),
    /// A secret cannot be decrypted, for this reason.
    Lost(String),
}

/// Returns the endpoint if attempts may be made.
fn target(connection: &Connection, vault: &Vault, endpoint: i64) -> Result<Option<TargetRead>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT e.url, e.secret, e.held, e.probe_at, e.generation, e.old_secrets, e.headers, e.policy,
             t.policy
         FROM endpoints e JOIN tenants t ON t.seq = e.tenant_seq
         WHERE e.seq = ?1 AND e.enabled = 1 AND e.held <> 1 AND e.deleted_at IS NULL AND e.paused = 0
             AND t.paused = 0 AND t.deleted_at IS NULL
             AND NOT EXISTS (SELECT 1 FROM meta WHERE name = 'paused' AND value = 1)",
    )?;
    let mut rows = statement.query([endpoint])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let text = |index| row.get_ref(index)?.as_str().map_err(rusqlite::Error::from);
    let EndpointSecrets { secret, old_secrets, headers, lost } =
        EndpointSecrets::read(vault, endpoint, [text(1)?, text(5)?, text(6)?])?;
    if let Some(lost) = lost.first() {
        return Ok(Some(TargetRead::Lost(lost.to_string())));
    }
    let Some(secret) = secret else { return Ok(None) };
    let own: EndpointPolicy = policy::parse(text(7)?)?;
    let inherited: TenantPolicy = policy::parse(text(8)?)?;
    let target = DeliveryTarget {
        endpoint,
        generation: row.get(4)?,
        url: row.get(0)?,
        secret,
        old_secrets,
        headers,
        body: own.body.or(inherited.body).unwrap_or_default(),
        header_prefix: own.header_prefix.or(inherited.header_prefix).unwrap_or_default(),
        policy: own,
    };
    Ok(Some(TargetRead::Open(target, row.get(2)?, row.get(3)?)))
}

/// Reads the event of a pending delivery. Returns `None` if the event was erased.
fn read_delivery(connection: &Connection, row: &DueRow) -> Result<Option<DueDelivery>, StoreError> {
    let read = read_event(connection, row.event).map_err(|error| match error {
        StoreError::Corrupt(why) => StoreError::Corrupt(format!("its event cannot be read: {why}")),
        other => other,
    })?;
    let event_row = read.ok_or_else(|| StoreError::Corrupt(MISSING.to_owned()))?;
    if event_row.is_erased() {
        return Ok(None);
    }
    let EventRow { event_type, data, created_at, .. } = event_row;
    let DueRow { due_at, delivery, event, round, counts, .. } = *row;
    Ok(Some(DueDelivery {
        delivery,
        event,
        event_type,
        data,
        created_at,
        due_at,
        round,
        round_attempts: counts.attempts,
        relay_attempts: counts.relay_attempts,
        relay_since: counts.relay_since,
    }))
}

/// The row of a delivery, before an outcome is recorded.
#[derive(Debug)]
struct StoredDelivery {
    tenant: TenantSeq,
    event: i64,
    state: i64,
    round: i64,
    due_at: Option<Millis>,
    last_attempt: Option<i64>,
}

impl StoredDelivery {
    fn find(connection: &Connection, delivery: i64) -> Result<Option<Self>, StoreError> {
        let sql =
            "SELECT tenant_seq, event_seq, state, round, due_at, last_attempt FROM deliveries WHERE seq = ?1";
        let read = |row: &Row<'_>| {
            Ok(Self {
                tenant: row.get(0)?,
                event: row.get(1)?,
                state: row.get(2)?,
                round: row.get(3)?,
                due_at: row.get(4)?,
                last_attempt: row.get(5)?,
            })
        };
        Ok(connection.prepare_cached(sql)?.query_row([delivery], read).optional()?)
    }
}

/// The consequence of an outcome for its delivery.
#[derive(Debug, Clone, Copy)]
struct Consequence<'a> {
    state: i64,
    /// If it is pending.
    due_at: Option<Millis>,
    reason: Option<&'a str>,
}

impl<'a> Consequence<'a> {
    /// `failed_elsewhere` is `true` if the attempt failed at an older generation of the endpoint.
    fn of(verdict: &'a DeliveryVerdict, failed_elsewhere: bool, now: Millis) -> Self {
        match verdict {
            DeliveryVerdict::Retry(_) | DeliveryVerdict::Dead { .. } if failed_elsewhere => {
                Self { state: PENDING, due_at: Some(now), reason: None }
            }
            DeliveryVerdict::Delivered => Self { state: DELIVERED, due_at: None, reason: None },
            DeliveryVerdict::Retry(at) => Self { state: PENDING, due_at: Some(*at), reason: None },
            DeliveryVerdict::Dead { reason } => Self { state: DEAD, due_at: None, reason: Some(reason) },
        }
    }
}

/// The parts of an outcome that are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordExtent {
    Whole,
    /// Without the list of attempts and the endpoint.
    Delivery,
}

fn has_data(connection: &Connection, event: i64) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM events WHERE seq = ?1 AND data IS NOT NULL";
    Ok(connection.prepare_cached(sql)?.exists([event])?)
}

/// A success always counts. A failure is only counted if the delivery became a dead letter or was resent during the
/// attempt: a resent delivery is due again, with all of its attempts.
fn record(
    tx: &mut Tx<'_>,
    rules: &AutoDisable,
    outcome: &AttemptOutcome,
    extent: RecordExtent,
) -> Result<RecordedAttempt, StoreError> {
    let AttemptOutcome { delivery, endpoint, round, ref attempt, ref verdict, .. } = *outcome;
    let is_whole = extent == RecordExtent::Whole;
    let health = if is_whole { auto_disable::at_generation(tx, endpoint, outcome.generation)? } else { None };
    let failed_elsewhere = is_whole && health.is_none() && attempt.class.is_some();
    let Some(stored) = StoredDelivery::find(tx.connection, delivery)? else {
        // Its tenant was deleted, unless it is still pending.
        return match due::take(tx, endpoint, outcome.due_at, delivery)? {
            None => Ok(RecordedAttempt { retry_at: None, is_dead: false, change: None }),
            Some(_) => Err(StoreError::Corrupt(format!("delivery {delivery} is missing"))),
        };
    };
    let by_relay = attempt.class == Some(FailureClass::Relay);
    let next = Consequence::of(verdict, failed_elsewhere, tx.due_now);
    let is_current = stored.state == PENDING && stored.round == round;
    let applies = is_current || next.state == DELIVERED;
    let mut counts = DueCounts::default();
    if let (true, PENDING, Some(due_at)) = (applies, stored.state, stored.due_at) {
        counts = due::take(tx, endpoint, due_at, delivery)?.map_or(counts, |row| row.counts);
    }
    let is_manual = is_current && round > 0 && counts == DueCounts::default();
    let in_a_row = if by_relay && is_current { counts.relay_attempts + 1 } else { u32::from(by_relay) };
    if let (true, Some(due_at)) = (applies, next.due_at) {
        let counts = DueCounts {
            attempts: counts.attempts + u32::from(!by_relay && !failed_elsewhere),
            relay_attempts: in_a_row,
            relay_since: by_relay.then(|| counts.relay_since.unwrap_or(tx.due_now)),
        };
        DueRow { endpoint, due_at, delivery, event: stored.event, round, counts, is_replay: false }
            .insert(tx)?;
    }
    let last_attempt = if is_whole {
        let previous = stored.last_attempt;
        let entry = LogEntry { tenant: stored.tenant, endpoint, delivery, previous, is_manual };
        // The data may have been erased during the attempt, and the response may repeat it.
        let erased = match &attempt.response {
            Some(_) if !has_data(tx.connection, stored.event)? => {
                Some(Attempt { response: None, ..attempt.clone() })
            }
            _ => None,
        };
        Some(log(tx, &entry, erased.as_ref().unwrap_or(attempt), in_a_row)?)
    } else {
        stored.last_attempt
    };
    let (state, due_at) = if applies { (next.state, next.due_at) } else { (stored.state, stored.due_at) };
    tx.connection
        .prepare_cached(
            "UPDATE deliveries SET state = ?2, attempts = attempts + ?3, due_at = ?4, last_attempt = ?5,
                 updated_at = ?6, reason = iif(?7, ?8, reason)
             WHERE seq = ?1",
        )?
        .execute(params![delivery, state, !by_relay, due_at, last_attempt, tx.wall, applies, next.reason])?;
    let is_dead = is_current && state == DEAD;
    match (stored.state == DEAD, state == DEAD) {
        (false, true) => tx.backlog.add(Counted::Dead, endpoint, 1),
        (true, false) => tx.backlog.add(Counted::Dead, endpoint, -1),
        _ => {}
    }
    if !by_relay {
        tx.counts.attempt(stored.tenant, endpoint, attempt.class.is_none(), attempt.took_ms);
    }
    if is_dead {
        tx.counts.dead(stored.tenant, endpoint);
    }
    let due = due_at.unwrap_or(tx.due_now);
    let change = match health {
        Some(health) => auto_disable::note(tx, rules, stored.tenant, endpoint, health, attempt, due)?,
        None => None,
    };
    let retry_at = due_at.filter(|_| state == PENDING);
    Ok(RecordedAttempt { retry_at, is_dead, change })
}

/// Records an outcome whose delivery cannot be read or written. After a success the delivery is not sent again. After any
/// failure it is due again: as a dead letter it would not be visible.
fn record_in_due(tx: &mut Tx<'_>, outcome: &AttemptOutcome) -> Result<RecordedAttempt, StoreError> {
    let AttemptOutcome { delivery, endpoint, due_at, ref attempt, ref verdict, .. } = *outcome;
    let row = due::take(tx, endpoint, due_at, delivery)?;
    let retry_at = match verdict {
        DeliveryVerdict::Delivered => None,
        DeliveryVerdict::Retry(at) => Some(*at),
        DeliveryVerdict::Dead { .. } => Some(tx.due_now.saturating_add(millis(DAMAGED_RETRY))),
    };
    let retry_at = retry_at.filter(|_| row.is_some());
    if let (Some(due_at), Some(row)) = (retry_at, row) {
        let by_relay = attempt.class == Some(FailureClass::Relay);
        let counts = DueCounts {
            attempts: row.counts.attempts + u32::from(!by_relay),
            relay_attempts: if by_relay { row.counts.relay_attempts + 1 } else { 0 },
            relay_since: by_relay.then(|| row.counts.relay_since.unwrap_or(tx.due_now)),
        };
        DueRow { due_at, counts, is_replay: false, ..row }.insert(tx)?;
    }
    Ok(RecordedAttempt { retry_at, is_dead: false, change: None })
}

/// Where an attempt belongs in the list of attempts.
#[derive(Debug, Clone, Copy)]
struct LogEntry {
    tenant: TenantSeq,
    endpoint: i64,
    delivery: i64,
    previous: Option<i64>,
    is_manual: bool,
}

/// Adds an attempt to the list of attempts, and returns the number of its row. `in_a_row` is the number of attempts,
/// including this one, that were charged to relay without another attempt between them: they share a row.
fn log(tx: &Tx<'_>, entry: &LogEntry, attempt: &Attempt, in_a_row: u32) -> Result<i64, StoreError> {
    if let (Some(last), 2..) = (entry.previous, in_a_row) {
        let shared = tx
            .connection
            .prepare_cached(
                "UPDATE attempts SET started_at = ?2, took_ms = ?3, status = ?4, error = ?5, response = ?6, repeats = ?7
                 WHERE seq = ?1",
            )?
            .execute(params![
                last,
                attempt.started_at,
                attempt.took_ms,
                attempt.status,
                attempt.error,
                attempt.response,
                in_a_row
            ])?;
        if shared == 1 {
            return Ok(last);
        }
    }
    let number = match entry.previous {
        None => 1,
        Some(previous) => {
            let sql = "SELECT number + 1 FROM attempts WHERE seq = ?1";
            tx.connection
                .prepare_cached(sql)?
                .query_row([previous], |row| row.get(0))
                .optional()?
                .unwrap_or(1)
        }
    };
    let mut insert = tx.connection.prepare_cached(
        "INSERT INTO attempts (tenant_seq, endpoint_seq, delivery_seq, previous, number, is_manual, started_at,
             took_ms, status, class, error, response, repeats)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    let number: u32 = number;
    insert.execute(params![
        entry.tenant,
        entry.endpoint,
        entry.delivery,
        entry.previous,
        number,
        entry.is_manual,
        attempt.started_at,
        attempt.took_ms,
        attempt.status,
        attempt.class.map(FailureClass::stored),
        attempt.error,
        attempt.response,
        in_a_row.max(1)
    ])?;
    Ok(tx.connection.last_insert_rowid())
}
