//! The policies of [`resilience`](crate::resilience) as parts of a chain.

/// Implements `Debug` with the name of the type only.
macro_rules! opaque {
    ($name:literal: $($generics:tt)*) => {
        impl $($generics)* {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct($name).finish_non_exhaustive()
            }
        }
    };
}

mod error;
mod forward;
mod mark;
mod parts;
mod policies;
mod replay;
mod run;
mod settle;

pub use error::PolicyError;
pub use forward::{Forward, Inside};
pub(super) use mark::Mark;
pub use parts::{adaptive_limit, breaker, bulkhead, hedge, rate_limit, retry, timeout};
pub use policies::{Policies, pipeline};
pub use replay::{Attempts, Cloned, Once, Replay, ReplayBy};
pub use run::RunsWith;
pub use settle::{IntoError, OrAnswer, OrError, Settle};
