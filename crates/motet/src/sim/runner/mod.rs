//! The simulation of a thread, which `motet-testkit` installs and drives. It is not public API, and changes without
//! notice.

mod current;
mod outcome;
mod plan;
mod pulse;
mod simulation;
mod sites;
mod tasks;
mod trace;

pub use current::{Installed, current};
pub use outcome::{Failed, Record, RunProblem, panic_message};
pub use plan::{Faults, ForeignTasks, Interleaving, Panics, RunPlan};
pub use pulse::Pulse;
pub use simulation::{Simulation, Turn};
pub(in crate::sim) use sites::SiteId;
pub use sites::{Operation, Suspended, Waiting};
pub use tasks::{End, RunTask, TaskId};
pub use trace::{Act, RunEvent, What};
