//! Bulkheads. See [`resilience`](super).

mod builder;
#[expect(clippy::module_inception, reason = "the file of the type")]
mod bulkhead;
mod permit;

pub use builder::BulkheadBuilder;
pub use bulkhead::Bulkhead;
pub use permit::BulkheadPermit;
