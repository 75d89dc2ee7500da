//! Policies around calls that can fail: retry, breaker, timeout, hedge, bulkhead, rate limit.

mod rejected;
mod verdict;

pub use rejected::{Rejected, RejectedBy};
pub use verdict::Verdict;
