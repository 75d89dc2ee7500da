//! Deliveries: what is owed to which endpoint, when, and what every attempt brought.
//!
//! `turns` is what the dispatcher works with, `holding` what it is kept from, `management` what people look at and set going again.

mod holding;
mod management;
mod turns;

use serde::{Deserialize, Serialize};

pub use self::holding::AutoDisable;
pub(super) use self::holding::clamp_probes;
pub(crate) use self::holding::{Change, Held};
pub(crate) use self::management::{DeliveryFilter, DeliveryRow};
pub(super) use self::turns::clamp_due_times;
pub(crate) use self::turns::{Buried, DELETED, Due, Recorded, Target, Turn, TurnState, Verdict};
use crate::clock::Millis;

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
    pub(crate) error: Option<String>,
    /// The beginning of a failed attempt's response.
    pub(crate) response: Option<String>,
}
