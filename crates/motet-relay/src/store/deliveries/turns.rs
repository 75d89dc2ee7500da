//! The reads and writes of the dispatcher.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, named_params, params};

use super::auto_disable::{self, FAILING, HoldChange};
use super::{Attempt, DEAD, DELIVERED, FailureClass, MISSING, PENDING};
use crate::clock::Millis;
use crate::config::AutoDisable;
use crate::signature::Secret;
use crate::store::damage::{Damage, readable};
use crate::store::endpoints::{OldSecrets, parse_secret};
use crate::store::events::read_event;
use crate::store::writer::Tx;
use crate::store::{EventRow, Store, StoreError, Wake};

/// Number of deliveries of a deleted endpoint that become dead letters in one commit: few enough that other callers of
/// the commit do not notice.
const DEAD_LETTERS_PER_COMMIT: i64 = 256;

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
}

/// A delivery that is due.
#[derive(Debug)]
pub(crate) struct DueDelivery {
    pub(crate) delivery: i64,
    pub(crate) event: i64,
    pub(crate) event_type: String,
    pub(crate) data: Vec<u8>,
    pub(crate) created_at: Millis,
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
    /// The event, if its number can be read.
    pub(crate) event: Option<i64>,
    pub(crate) why: String,
}

#[derive(Debug)]
pub(crate) enum TurnState {
    /// Deliveries to attempt, at most the requested number.
    Open { target: DeliveryTarget, due: Vec<DueDelivery> },
    /// No attempts are made: the endpoint is disabled, by its owner or by relay, and its deliveries are kept; or it is
    /// deleted, and its deliveries are being moved to the dead letters.
    Held,
}

/// An attempt, the generation of the endpoint that it was made at, and its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttemptOutcome {
    pub(crate) delivery: i64,
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

/// Limits due times at the start: no delivery may be due later than the longest delay from now, whatever the clock
/// showed when its due time was stored.
pub(in crate::store) fn clamp_due_times(connection: &Connection, latest: Millis) -> rusqlite::Result<()> {
    // Per endpoint, so that the statement uses the index on due times and usually writes nothing.
    connection.execute(
        "UPDATE deliveries SET due_at = ?1 WHERE state = 0 AND seq IN (
             SELECT d.seq FROM endpoints p JOIN deliveries d INDEXED BY deliveries_due
                 ON d.endpoint_seq = p.seq AND d.state = 0 AND d.due_at > ?1)",
        [latest],
    )?;
    Ok(())
}

impl Store {
    /// Returns a wake for each endpoint that has pending deliveries.
    pub(crate) async fn pending_endpoints(&self) -> Result<Vec<(i64, Wake)>, StoreError> {
        self.shared
            .dispatch_readers
            .read(|connection| {
                let mut endpoints = connection
                    .prepare_cached("SELECT seq, deleted_at IS NOT NULL FROM endpoints ORDER BY seq")?;
                let mut earliest = connection.prepare_cached(
                    "SELECT min(due_at) FROM deliveries WHERE endpoint_seq = ?1 AND state = 0",
                )?;
                let mut pending = Vec::new();
                let mut rows = endpoints.query([])?;
                while let Some(row) = rows.next()? {
                    let (endpoint, is_deleted): (i64, bool) = (row.get(0)?, row.get(1)?);
                    let due = earliest.query_row([endpoint], |row| row.get::<_, Option<Millis>>(0));
                    // The turn of the endpoint finds the damage again, and requests a rebuild of the index.
                    let due = readable(due.map_err(StoreError::from))?.unwrap_or(Some(0));
                    match due {
                        Some(_) if is_deleted => pending.push((endpoint, Wake::Deleted)),
                        Some(due) => pending.push((endpoint, Wake::Due(due))),
                        None => {}
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
        let damage = Arc::clone(&self.shared.damage);
        let turn = self
            .shared
            .dispatch_readers
            .read(move |connection| turn(connection, &damage, endpoint, limit, &leased, now))
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
            self.shared.damage.note(&delivery.why);
            let (seq, reason) = (delivery.delivery, delivery.why.clone());
            let written = self.write(1, move |tx| {
                let changed = tx
                    .connection
                    .prepare_cached(
                        "UPDATE deliveries SET state = 2, updated_at = ?2, dead_reason = ?3
                         WHERE seq = ?1 AND state = 0",
                    )?
                    .execute(params![seq, tx.wall, reason])?;
                Ok(changed == 1)
            });
            match written.await {
                Ok(true) => given_up.push(delivery),
                // The row cannot be written either, or only the index contains it.
                Ok(false) | Err(StoreError::Corrupt(_)) => self.shared.damage.skip(seq),
                // The next turn finds it again.
                Err(error) => {
                    tracing::warn!(%error, delivery = seq, "cannot move an unreadable delivery to the dead letters yet; trying again")
                }
            }
        }
        given_up
    }

    /// Requests a rebuild of the indexes of deliveries, at most once a minute. This repairs damage to the indexes.
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
        let recording = || {
            let (rules, outcome) = (rules.clone(), Arc::clone(&outcome));
            self.write(1, move |tx| record(tx, &rules, &outcome))
        };
        match recording().await {
            Err(StoreError::Corrupt(_)) => {
                self.rebuild_indexes_soon().await?;
                recording().await
            }
            recorded => recorded,
        }
    }

    /// Moves some pending deliveries of a deleted endpoint to the dead letters.
    pub(crate) async fn move_to_dead_letters(&self, endpoint: i64) -> Result<DeadLettered, StoreError> {
        self.write(DEAD_LETTERS_PER_COMMIT as usize, move |tx| {
            let letters: Vec<(i64, i64)> = tx
                .connection
                .prepare_cached(
                    "UPDATE deliveries SET state = 2, updated_at = ?2, dead_reason = ?4
                     WHERE seq IN (SELECT seq FROM deliveries WHERE endpoint_seq = ?1 AND state = 0 LIMIT ?3)
                     RETURNING seq, event_seq",
                )?
                .query_map(params![endpoint, tx.wall, DEAD_LETTERS_PER_COMMIT, DELETED], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?
                .collect::<Result<_, _>>()?;
            let more = letters.len() as i64 == DEAD_LETTERS_PER_COMMIT;
            Ok(DeadLettered { letters, more })
        })
        .await
    }
}

fn turn(
    connection: &Connection,
    damage: &Damage,
    endpoint: i64,
    limit: usize,
    leased: &[i64],
    now: Millis,
) -> Result<Turn, StoreError> {
    let (target, held, probe_at) = match readable(target(connection, endpoint))? {
        Ok(Some(found)) => found,
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
    // Of skipped deliveries only the index is read. The query has no limit but stops after the needed rows: SQLite
    // would plan a statement with a bound limit again at each turn.
    let mut pending = connection.prepare_cached(
        "SELECT seq, due_at FROM deliveries INDEXED BY deliveries_due
         WHERE endpoint_seq = ?1 AND state = 0 ORDER BY due_at, seq",
    )?;
    let mut due = Vec::with_capacity(limit);
    let mut unreadable = Vec::new();
    let mut next_due = None;
    // The row after the last one shows when the next delivery is due.
    let mut rows = pending.query([endpoint])?;
    while let Some(row) = rows.next()? {
        let delivery: i64 = row.get(0)?;
        if leased.contains(&delivery) || damage.is_skipped(delivery) {
            continue;
        }
        let due_at: Millis = row.get(1)?;
        if due_at > now || due.len() == limit || unreadable.len() == GIVEN_UP_AT_ONCE {
            next_due = Some(due_at);
            break;
        }
        let mut event = None;
        match readable(read_delivery(connection, delivery, &mut event))? {
            Ok(delivery_row) => due.push(delivery_row),
            Err(why) => unreadable.push(UnreadableDelivery { delivery, event, why }),
        }
    }
    Ok(Turn { state: TurnState::Open { target, due }, next_due, unreadable })
}

/// Returns the endpoint if attempts may be made, with its `held` state and the time of its next probe.
fn target(
    connection: &Connection,
    endpoint: i64,
) -> Result<Option<(DeliveryTarget, i64, Option<Millis>)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT url, secret, held, probe_at, generation, old_secrets FROM endpoints
         WHERE seq = ?1 AND enabled = 1 AND held <> 1 AND deleted_at IS NULL",
    )?;
    let mut rows = statement.query([endpoint])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let secret = parse_secret(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?;
    let old_secrets = OldSecrets::parse(row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?)?;
    let target = DeliveryTarget { endpoint, generation: row.get(4)?, url: row.get(0)?, secret, old_secrets };
    Ok(Some((target, row.get(2)?, row.get(3)?)))
}

/// Reads a delivery with its event. `event` is set as soon as its number is known.
fn read_delivery(
    connection: &Connection,
    delivery: i64,
    event: &mut Option<i64>,
) -> Result<DueDelivery, StoreError> {
    let missing = |why: &str| StoreError::Corrupt(why.to_owned());
    let found = connection
        .prepare_cached(
            "SELECT event_seq, round, round_attempts, relay_attempts, relay_since FROM deliveries WHERE seq = ?1",
        )?
        .query_row([delivery], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .optional()?;
    let (event_seq, round, round_attempts, relay_attempts, relay_since) =
        found.ok_or_else(|| missing("the delivery is missing in the database"))?;
    *event = Some(event_seq);
    let read = read_event(connection, event_seq).map_err(|error| match error {
        StoreError::Corrupt(why) => StoreError::Corrupt(format!("its event cannot be read: {why}")),
        other => other,
    })?;
    let EventRow { event_type, data, created_at, .. } = read.ok_or_else(|| missing(MISSING))?;
    Ok(DueDelivery {
        delivery,
        event: event_seq,
        event_type,
        data,
        created_at,
        round,
        round_attempts,
        relay_attempts,
        relay_since,
    })
}

/// A success always counts. A failure is only counted if the delivery became a dead letter or was resent during the
/// attempt: a resent delivery is due again, with all of its attempts.
const RECORD: &str = "UPDATE deliveries SET
         attempts = attempts + :counts,
         round_attempts = round_attempts + (:counts AND :current AND state = 0 AND round = :round),
         relay_attempts = CASE WHEN :relay THEN relay_attempts + 1 ELSE 0 END,
         relay_since = CASE WHEN :relay THEN coalesce(relay_since, :now) ELSE NULL END,
         due_at = CASE WHEN state = 0 AND round = :round THEN coalesce(:due_at, due_at) ELSE due_at END,
         dead_reason = CASE WHEN :state = 1 THEN NULL WHEN state = 0 AND round = :round THEN :reason ELSE dead_reason END,
         state = CASE WHEN :state = 1 OR (state = 0 AND round = :round) THEN :state ELSE state END,
         updated_at = :wall
     WHERE seq = :seq
     RETURNING relay_attempts, state, due_at, state = 2 AND dead_reason IS :reason";

fn record(
    tx: &mut Tx<'_>,
    rules: &AutoDisable,
    outcome: &AttemptOutcome,
) -> Result<RecordedAttempt, StoreError> {
    let AttemptOutcome { delivery, round, attempt, verdict, .. } = outcome;
    let endpoint = readable(auto_disable::at_generation(tx, outcome.endpoint, outcome.generation))?;
    let failed_elsewhere = endpoint == Ok(None) && attempt.class.is_some();
    let endpoint = endpoint.unwrap_or_else(|why| {
        tx.damage.note(&why);
        None
    });
    let (state, due_at, reason) = match verdict {
        DeliveryVerdict::Retry(_) | DeliveryVerdict::Dead { .. } if failed_elsewhere => {
            (PENDING, Some(tx.due_now), None)
        }
        DeliveryVerdict::Delivered => (DELIVERED, None, None),
        DeliveryVerdict::Retry(at) => (PENDING, Some(*at), None),
        DeliveryVerdict::Dead { reason } => (DEAD, None, Some(reason)),
    };
    let by_relay = attempt.class == Some(FailureClass::Relay);
    let updated = tx
        .connection
        .prepare_cached(RECORD)?
        .query_row(
            named_params! {
                ":seq": delivery, ":round": round, ":state": state, ":due_at": due_at, ":reason": reason,
                ":wall": tx.wall, ":now": tx.due_now, ":relay": by_relay, ":counts": !by_relay,
                ":current": !failed_elsewhere,
            },
            |row| Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?, row.get(2)?, row.get(3)?)),
        )
        .optional()?;
    let Some((in_a_row, state, due_at, is_dead)) = updated else {
        return Err(StoreError::Corrupt(format!("delivery {delivery} is missing")));
    };
    // The state of the delivery is recorded even if the list of attempts cannot be written.
    if let Err(why) = readable(log(tx, *delivery, attempt, in_a_row))? {
        tx.damage.note(&why);
    }
    let change = match endpoint {
        Some(endpoint) => {
            let noted = auto_disable::note(tx, rules, outcome.endpoint, endpoint, attempt, due_at);
            readable(noted)?.unwrap_or_else(|why| {
                tx.damage.note(&why);
                None
            })
        }
        None => None,
    };
    Ok(RecordedAttempt { retry_at: (state == PENDING).then_some(due_at), is_dead, change })
}

/// Adds an attempt to the list of attempts. `in_a_row` is the number of attempts, including this one, that were
/// charged to relay without another attempt between them: they share a row.
fn log(tx: &Tx<'_>, delivery: i64, attempt: &Attempt, in_a_row: u32) -> Result<(), StoreError> {
    let last: Option<i64> = tx
        .connection
        .prepare_cached("SELECT max(number) FROM attempts WHERE delivery_seq = ?1")?
        .query_row([delivery], |row| row.get(0))?;
    let number = if in_a_row > 1 { last.unwrap_or(1) } else { last.unwrap_or(0) + 1 };
    tx.connection
        .prepare_cached(
            "INSERT OR REPLACE INTO attempts
                 (delivery_seq, number, started_at, took_ms, status, class, error, response, repeats)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            delivery,
            number,
            attempt.started_at,
            attempt.took_ms,
            attempt.status,
            attempt.class.map(FailureClass::stored),
            attempt.error,
            attempt.response,
            in_a_row.max(1)
        ])?;
    Ok(())
}
