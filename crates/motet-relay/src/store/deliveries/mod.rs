//! Deliveries: what is owed to which endpoint, when, and what every attempt brought.
//!
//! `turns` is what the dispatcher works with, `holding` what it is kept from, `management` what people look at and set going again.

mod auto_disable;
mod management;
mod turns;

use serde::{Deserialize, Serialize};

pub(super) use self::auto_disable::clamp_probes;
pub(crate) use self::auto_disable::{HoldChange, HoldReason};
pub(crate) use self::management::{DeliveryFilter, DeliveryRow};
pub(super) use self::turns::clamp_due_times;
pub(crate) use self::turns::{
    AttemptOutcome, DELETED, DeadLettered, DeliveryTarget, DeliveryVerdict, DueDelivery, RecordedAttempt,
    Turn, TurnState, UnreadableDelivery,
};
use crate::clock::Millis;

/// Why, for a delivery whose event is not there.
const MISSING: &str = "its event is missing in the database";

const PENDING: i64 = 0;
const DELIVERED: i64 = 1;
const DEAD: i64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeliveryState {
    Pending,
    Delivered,
    Dead,
}

impl DeliveryState {
    const fn stored(self) -> i64 {
        match self {
            Self::Pending => PENDING,
            Self::Delivered => DELIVERED,
            Self::Dead => DEAD,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// One attempt, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) started_at: Millis,
    pub(crate) took_ms: Millis,
    pub(crate) status: Option<u16>,
    /// What a failure is charged to; `None` for a success.
    pub(crate) class: Option<FailureClass>,
    pub(crate) error: Option<String>,
    /// The beginning of a failed attempt's response.
    pub(crate) response: Option<String>,
}

/// An attempt as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttemptRow {
    /// The last attempt that the row stands for.
    pub(crate) attempt: Attempt,
    /// How many attempts in a row it stands for: more than 1 only for those charged to relay.
    pub(crate) repeats: u32,
}

/// What a failed attempt is charged to.
///
/// | class | counted | endpoint's failures and breaker |
/// |---|---|---|
/// | `Receiver` | yes | moved |
/// | `Relay` | no | left alone |
/// | `Config` | yes | left alone |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FailureClass {
    /// The receiver, or the way to it.
    Receiver,
    /// relay's own process or machine: no descriptors, no route, no name server.
    Relay,
    /// The settings: an address that the guard refuses, TLS material that cannot be used.
    Config,
}

impl FailureClass {
    /// The word that metrics and the API have for it.
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
