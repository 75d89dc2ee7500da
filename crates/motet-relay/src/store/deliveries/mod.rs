//! Deliveries: their state, their due times and their attempts.
//!
//! `due` holds the pending deliveries, `turns` serves the dispatcher, `auto_disable` decides which endpoints it must not attempt, and `management` lists
//! and resends deliveries for the API.

mod attempt_lists;
mod auto_disable;
mod due;
mod management;
mod turns;

use rusqlite::Row;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use self::attempt_lists::{AttemptDetail, AttemptFilter};
pub(super) use self::auto_disable::clamp_probes;
pub(crate) use self::auto_disable::{HoldChange, HoldReason};
pub(super) use self::due::{
    DueCause, DueTables, FILL as FILL_DUE, check as check_due, clamp_due_times, insert_pending,
    insert_skipped, make_due_now, skip_pending,
};
pub(crate) use self::management::{DeliveryFilter, DeliveryRow};
pub(super) use self::management::{revive, status_of};
pub(crate) use self::turns::{
    AttemptOutcome, DELETED, DeadLettered, DeliveryTarget, DeliveryVerdict, DueDelivery, RecordedAttempt,
    Turn, TurnState, UnreadableDelivery,
};
use crate::clock::Millis;

/// The reason of a delivery whose event does not exist.
const MISSING: &str = "its event is missing in the database";

const PENDING: i64 = 0;
const DELIVERED: i64 = 1;
const DEAD: i64 = 2;
const SKIPPED: i64 = 3;

/// The state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeliveryState {
    Pending,
    Delivered,
    Dead,
    /// The endpoint was disabled when the event was published, or the event was erased before it was sent. Final; unless the
    /// event was erased, it can be sent like a dead letter.
    Skipped,
}

impl DeliveryState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Skipped => "skipped",
        }
    }
}

/// An attempt to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) started_at: Millis,
    pub(crate) took_ms: Millis,
    pub(crate) status: Option<u16>,
    /// The cause that a failure is charged to; `None` for a success.
    pub(crate) class: Option<FailureClass>,
    pub(crate) error: Option<String>,
    /// The beginning of the response to a failed attempt.
    pub(crate) response: Option<String>,
}

/// A stored row of attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttemptRow {
    pub(crate) seq: i64,
    /// From 1, in the order of the delivery's attempts.
    pub(crate) number: u32,
    /// `true` if a client asked for the attempt: the first after a resend.
    pub(crate) is_manual: bool,
    /// The last attempt of the row.
    pub(crate) attempt: Attempt,
    /// Number of attempts in a row that the row stands for: more than 1 only for attempts that are charged to relay.
    pub(crate) repeats: u32,
}

impl AttemptRow {
    /// The columns that [`read`](Self::read) takes, first in a row, of the table `attempts a`.
    const COLUMNS: &str = "a.seq, a.number, a.is_manual, a.started_at, a.took_ms, a.status, a.error, a.response, a.class, a.repeats";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let attempt = Attempt {
            started_at: row.get(3)?,
            took_ms: row.get(4)?,
            status: row.get(5)?,
            error: row.get(6)?,
            response: row.get(7)?,
            class: row.get::<_, Option<i64>>(8)?.and_then(FailureClass::read),
        };
        Ok(Self {
            seq: row.get(0)?,
            number: row.get(1)?,
            is_manual: row.get(2)?,
            attempt,
            repeats: row.get(9)?,
        })
    }
}

/// The cause that a failed attempt is charged to.
///
/// | Class | Counted as an attempt | Failures and breaker of the endpoint |
/// |---|---|---|
/// | `Receiver` | yes | updated |
/// | `Relay` | no | unchanged |
/// | `Config` | yes | unchanged |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(description = "The cause that a failure is charged to.")]
#[serde(rename_all = "snake_case")]
pub(crate) enum FailureClass {
    /// The receiver, or the network path to it.
    Receiver,
    /// relay's own process or machine: no file descriptors, no route, no name server.
    Relay,
    /// The settings: an address that the guard refuses, TLS material that is not usable.
    Config,
}

impl FailureClass {
    /// The name of the class in metrics and in the API.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Receiver => "receiver",
            Self::Relay => "relay",
            Self::Config => "config",
        }
    }

    const fn stored(self) -> i64 {
        match self {
            Self::Receiver => 1,
            Self::Relay => 2,
            Self::Config => 3,
        }
    }

    fn read(stored: i64) -> Option<Self> {
        [Self::Receiver, Self::Relay, Self::Config].into_iter().find(|class| class.stored() == stored)
    }
}
