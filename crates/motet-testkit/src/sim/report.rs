//! The report of a failure: the reason, the time, the last events, the tasks that are alive, and the replay.

use std::fmt;

use motet::sim::runner::{RunEvent, RunTask};

use super::failure::{Details, FailedRun, Place};
use super::{Cause, Failure};

/// The number of printed events: a screenful.
const EVENTS: usize = 50;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { test, cause, run } = &*self.0;
        write!(f, "simulation")?;
        if let Some(test) = test {
            write!(f, " {test}")?;
        }
        write!(f, " failed: {cause}")?;
        let Some(run) = run else { return Ok(()) };
        writeln!(f)?;
        let Place { seed, index, of } = run.place;
        writeln!(f, "seed {seed}, run {} of {of}, at {:?} of virtual time", index + 1, run.at)?;
        if !run.replays && !matches!(cause, Cause::Nondeterministic { .. }) {
            writeln!(f, "a second run of this seed went differently: a replay possibly does not fail")?;
        }
        write_events(f, &run.trace, &run.tasks)?;
        write_live(f, run, cause)?;
        let test = test.as_deref().unwrap_or("<name of the test>");
        write!(f, "replay: MOTET_SEED={seed} cargo test {test}")
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked { task, message } => write!(f, "`{task}` panicked: {message}"),
            Self::Broken { text, site } => write!(f, "an `always!` does not hold: {text} ({site})"),
            Self::Deadlock { since } => {
                write!(
                    f,
                    "deadlock: no work has run since {since:?}, and none is due within twice the limit of virtual time"
                )
            }
            Self::TimeLimit => f.write_str("work went on beyond the limit of virtual time"),
            Self::StepLimit => f.write_str("more polls than the limit: a loop that makes no progress?"),
            Self::Foreign { tasks } => {
                write!(
                    f,
                    "tasks that were started with `tokio::spawn` are not tested ({tasks} found): start them in a scope, \
                     poll them through `motet::sim::hooked`, or allow them with `foreign_tasks`"
                )
            }
            Self::LeftOver { names, unnamed } => {
                f.write_str("tasks outlive the body:")?;
                for name in names {
                    write!(f, " `{name}`")?;
                }
                if *unnamed > 0 {
                    write!(f, " {unnamed} without a name")?;
                }
                Ok(())
            }
            Self::Nondeterministic { event, first, second } => {
                let over = || "the run is over".to_owned();
                write!(
                    f,
                    "two runs of the seed differ at event {event}: first `{}`, then `{}`; look for a real clock, \
                     a thread, `blocking`, a `select!` without `biased`, the order of a hash map, or state that is shared \
                     between runs",
                    first.clone().unwrap_or_else(over),
                    second.clone().unwrap_or_else(over)
                )
            }
            Self::NeverTrue { texts } => {
                f.write_str("never true in any run:")?;
                texts.iter().try_for_each(|text| write!(f, " `{text}`"))
            }
            Self::Settings(reason) => f.write_str(reason),
        }
    }
}

/// Writes the last events of a trace.
pub(crate) fn write_events(f: &mut impl fmt::Write, trace: &[RunEvent], tasks: &[RunTask]) -> fmt::Result {
    let last = &trace[trace.len().saturating_sub(EVENTS)..];
    writeln!(f, "last {} of {} events:", last.len(), trace.len())?;
    last.iter().try_for_each(|event| writeln!(f, "  {}", line(event, tasks)))
}

pub(super) fn line(event: &RunEvent, tasks: &[RunTask]) -> String {
    let at = format!("{:.3}s", event.at.as_secs_f64());
    match event.task.and_then(|id| tasks.get(id.index())) {
        Some(task) => format!("{at:>10} {} {}: {}", task.id, task.name, event.what),
        None => format!("{at:>10} {}", event.what),
    }
}

fn write_live(f: &mut fmt::Formatter<'_>, run: &FailedRun, cause: &Cause) -> fmt::Result {
    if run.live.is_empty() {
        return match cause {
            Cause::Foreign { tasks: unnamed } | Cause::LeftOver { unnamed, .. } if *unnamed > 0 => {
                writeln!(f, "tasks alive: {unnamed} without a name")
            }
            _ => writeln!(f, "no task is alive"),
        };
    }
    writeln!(f, "tasks alive:")?;
    run.live.iter().try_for_each(|task| writeln!(f, "  {task}"))
}
