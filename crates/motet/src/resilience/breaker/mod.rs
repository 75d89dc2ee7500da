//! Circuit breakers. See [`resilience`](super).

mod builder;
mod circuit_breaker;
mod config;
mod counts;
mod machine;
mod on_cancel;
mod permit;
pub(super) mod published;
mod shared;
mod state;
mod stats;
mod trip;
pub(super) mod word;

pub use builder::{AfterWait, CircuitBreakerBuilder};
pub use circuit_breaker::CircuitBreaker;
pub use counts::Counts;
pub use on_cancel::OnCancel;
pub use permit::BreakerPermit;
pub use state::{BreakerState, Cause, StateChange};
pub use stats::BreakerStats;
pub use trip::{Trip, Window};
use word::Word;
