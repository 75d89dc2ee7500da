use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic;
use std::sync::{Arc, Once};

use motet::sim::mutants;
use motet::sim::runner::{Interleaving, Pulse, RunEvent, RunPlan, RunTask, current, panic_message};

use super::builder::Options;
use super::driver::{Outcome, run_once};
use super::failure::{Details, FailedRun, Place};
use super::seeds::{Environment, Scope};
use super::watchdog::Watchdog;
use super::{Cause, Failure, SelfCheck, report};

/// The result of a sweep whose seeds all passed.
#[derive(Debug, Clone)]
pub struct Sweep {
    runs: u64,
    steps: u64,
    traces: BTreeSet<u64>,
    sometimes: BTreeMap<&'static str, u64>,
}

impl Sweep {
    /// Returns the number of seeds that were run.
    #[must_use]
    pub const fn runs(&self) -> u64 {
        self.runs
    }

    /// Returns the number of polls of the tasks of the simulation, without the second runs of the self-check.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Returns the number of different traces: one means that the seeds change nothing.
    #[must_use]
    pub fn distinct(&self) -> usize {
        self.traces.len()
    }

    /// Returns the texts of the [`sometimes!`](motet::sometimes) that were reached, each with the number of runs in
    /// which it was true.
    #[must_use]
    pub const fn sometimes(&self) -> &BTreeMap<&'static str, u64> {
        &self.sometimes
    }

    fn add(&mut self, outcome: &Outcome) {
        let record = &outcome.record;
        self.runs += 1;
        self.steps += record.steps;
        let mut hasher = DefaultHasher::new();
        for event in &record.trace {
            (event.task.map(|task| task.index()), event.what).hash(&mut hasher);
        }
        self.traces.insert(hasher.finish());
        for (text, held) in &record.sometimes {
            *self.sometimes.entry(text).or_default() += u64::from(*held);
        }
    }

    fn never_true(&self, must_see: &[String]) -> Vec<String> {
        let asked = must_see.iter().filter(|text| !self.sometimes.contains_key(text.as_str())).cloned();
        let reached =
            self.sometimes.iter().filter(|(_, runs)| **runs == 0).map(|(text, _)| (*text).to_owned());
        reached.chain(asked).collect()
    }
}

pub(super) fn run<F: Future<Output = ()>>(
    options: &Options,
    environment: &Environment,
    body: &impl Fn() -> F,
) -> Result<Sweep, Failure> {
    let test = options.name.clone().or_else(name_of_test);
    let (seeds, scope) = environment
        .choose(&options.seeds)
        .map_err(|reason| Failure::of_sweep(test.clone(), Cause::Settings(reason)))?;
    note_panics();
    let pulse = Arc::new(Pulse::default());
    let _watchdog = Watchdog::start(Arc::clone(&pulse), options.poll_limit);
    let _mutants: Vec<_> = options.mutants.iter().map(mutants::enable).collect();
    let mut sweep = Sweep { runs: 0, steps: 0, traces: BTreeSet::new(), sometimes: BTreeMap::new() };
    let of = seeds.end - seeds.start;
    for (index, seed) in (0..).zip(seeds) {
        let run = || {
            let plan = RunPlan {
                seed,
                interleaving: Interleaving::Seeded,
                faults: options.faults,
                panics: options.panics,
                foreign: options.foreign,
                step_limit: options.step_limit,
                pulse: Arc::clone(&pulse),
            };
            run_once(plan, options.virtual_limit, options.io, options.site, body)
        };
        let first = run();
        sweep.add(&first);
        judge(first, Place { seed, index, of }, options.self_check, run).map_err(|(cause, run)| {
            Failure(Box::new(Details { test: test.clone(), cause, run: Some(*run) }))
        })?;
    }
    let never = sweep.never_true(&options.must_see);
    if scope == Scope::Sweep && !never.is_empty() {
        return Err(Failure::of_sweep(test, Cause::NeverTrue { texts: never }));
    }
    Ok(sweep)
}

/// Installs a panic hook, once per process, that reports each panic to the simulation of its thread: tokio catches the
/// panic of a task that was started with `tokio::spawn`, and keeps it in its handle.
fn note_panics() {
    static NOTED: Once = Once::new();
    NOTED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(sim) = current() {
                sim.saw_panic(panic_message(info.payload()));
            }
            before(info);
        }));
    });
}

/// Decides on one seed, with a second run if that is configured or explains a failure.
fn judge(
    first: Outcome,
    place: Place,
    check: SelfCheck,
    again: impl FnOnce() -> Outcome,
) -> Result<(), (Cause, Box<FailedRun>)> {
    let Outcome { record, leftovers } = &first;
    let failed = record.failed.is_some() || !leftovers.is_none();
    if !failed && check == SelfCheck::Off {
        return Ok(());
    }
    let difference = difference(&first, &again());
    let replays = difference.is_none();
    let (cause, at, live) = if let Some(failed) = &record.failed {
        (failed.problem.clone().into(), failed.at, failed.live.clone())
    } else if !leftovers.is_none() {
        (leftovers.into(), record.took, leftovers.named.clone())
    } else if let Some(difference) = difference {
        (difference, record.took, Vec::new())
    } else {
        return Ok(());
    };
    let (trace, tasks) = (first.record.trace, first.record.tasks);
    Err((cause, Box::new(FailedRun { place, at, trace, tasks, live, replays })))
}

fn difference(first: &Outcome, second: &Outcome) -> Option<Cause> {
    let (a, b) = (&first.record, &second.record);
    let shown = |event: Option<&RunEvent>, tasks: &[RunTask]| {
        event.map(|event| report::line(event, tasks).trim().to_owned())
    };
    let event = (0..a.trace.len().max(b.trace.len())).find(|at| {
        let (one, other) = (a.trace.get(*at), b.trace.get(*at));
        one != other || named(one, &a.tasks) != named(other, &b.tasks)
    });
    let same_end = a.failed == b.failed && first.leftovers == second.leftovers;
    // Equal traces with different ends differ after their last event.
    let event = event.or_else(|| (!same_end).then_some(a.trace.len()))?;
    Some(Cause::Nondeterministic {
        event,
        first: shown(a.trace.get(event), &a.tasks),
        second: shown(b.trace.get(event), &b.tasks),
    })
}

fn named<'a>(event: Option<&RunEvent>, tasks: &'a [RunTask]) -> Option<&'a str> {
    tasks.get(event?.task?.index()).map(|task| task.name.as_str())
}

/// The standard test harness runs each test on a thread with its name.
fn name_of_test() -> Option<String> {
    let thread = std::thread::current();
    thread.name().filter(|name| *name != "main").map(str::to_owned)
}
