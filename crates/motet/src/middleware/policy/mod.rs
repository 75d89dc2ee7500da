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

mod convert;
mod error;
mod forward;
mod parts;
mod policies;
mod replay;

pub use error::PolicyError;
pub(super) use forward::AttemptOutcome;
pub use parts::{adaptive_limit, breaker, bulkhead, hedge, rate_limit, retry, timeout};
pub use policies::{Policies, pipeline};
