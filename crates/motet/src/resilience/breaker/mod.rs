//! Circuit breakers. See [`resilience`](super).

mod builder;
mod circuit_breaker;
mod counts;
mod machine;
mod permit;
pub(super) mod published;
mod shared;
mod state;
mod stats;
mod window;
pub(super) mod word;

pub use builder::CircuitBreakerBuilder;
pub use circuit_breaker::CircuitBreaker;
pub use counts::CallCounts;
pub use permit::BreakerPermit;
pub use state::{BreakerState, StateChange, TripCause};
pub use stats::BreakerStats;
pub use window::Window;
use word::StateWord;
