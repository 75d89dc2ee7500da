//! Bulkheads. See [`resilience`](super).

mod builder;
mod compartment;
mod permit;
mod stats;

pub use builder::BulkheadBuilder;
pub use compartment::Bulkhead;
pub use permit::BulkheadPermit;
pub use stats::BulkheadStats;
