use std::panic::Location;
use std::time::Duration;

use super::seeds::Environment;
use super::{Failure, Faults, ForeignTasks, Panics, Seeds, Sweep, sweep};

/// Creates a simulation of `body`: a closure that creates the future of one run.
///
/// The body runs once per seed, and once more for the self-check, each time in a new runtime; it must create everything
/// it uses.
///
/// **A task started with `tokio::spawn` is not tested**: it is not interleaved with the other tasks, and has no name. A
/// run with such a task fails, if the task is seen: the tasks of the runtime are counted at each step, and a task that
/// begins and ends within one step is missed. Start tasks in a scope; poll a future of other code through
/// [`motet::sim::hooked`]; or allow such tasks with [`Sim::foreign_tasks`].
///
/// # Examples
/// ```
/// use motet_testkit::sim::sim;
///
/// sim(|| async { tokio::time::sleep(std::time::Duration::from_secs(60)).await }).seeds(10).run();
/// ```
#[track_caller]
pub const fn sim<B, F>(body: B) -> Sim<B>
where
    B: Fn() -> F,
    F: Future<Output = ()>,
{
    Sim { body, options: Options::new(Location::caller()) }
}

/// Runs a body under many seeds; created by [`sim`].
///
/// # Defaults
/// The seeds 0 to 99, an hour of virtual time, 200,000 polls of work per run, half of the fault points per seed, every
/// seed run twice, and a minute of real time for one poll.
#[derive(Debug, Clone)]
#[must_use = "a simulation does nothing until it is run"]
pub struct Sim<B> {
    body: B,
    options: Options,
}

/// Whether each seed is run twice and the two traces are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelfCheck {
    /// Every seed: a test that cannot be replayed fails.
    Every,
    /// Only a seed that fails, so that the report states whether it can be replayed.
    Off,
}

#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) site: &'static Location<'static>,
    pub(super) name: Option<String>,
    pub(super) seeds: Seeds,
    pub(super) virtual_limit: Duration,
    pub(super) step_limit: u64,
    pub(super) poll_limit: Duration,
    pub(super) faults: Faults,
    pub(super) panics: Panics,
    pub(super) foreign: ForeignTasks,
    pub(super) self_check: SelfCheck,
    pub(super) mutants: Vec<String>,
    pub(super) must_see: Vec<String>,
    pub(super) io: Io,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Io {
    Refused,
    Enabled,
}

impl Options {
    const fn new(site: &'static Location<'static>) -> Self {
        Self {
            site,
            name: None,
            seeds: Seeds::DEFAULT,
            virtual_limit: Duration::from_secs(60 * 60),
            step_limit: 200_000,
            poll_limit: Duration::from_secs(60),
            faults: Faults::Swarm,
            panics: Panics::Fail,
            foreign: ForeignTasks::Fail,
            self_check: SelfCheck::Every,
            mutants: Vec::new(),
            must_see: Vec::new(),
            io: Io::Refused,
        }
    }
}

impl<B, F> Sim<B>
where
    B: Fn() -> F,
    F: Future<Output = ()>,
{
    /// Sets the seeds: a number of them, counted from zero, or a range. `MOTET_SEED` and `MOTET_RUNS` override it.
    pub fn seeds(mut self, seeds: impl Into<Seeds>) -> Self {
        self.options.seeds = seeds.into();
        self
    }

    /// Sets the name of the test in reports. The default is the name of the thread, which is the name of the test under
    /// the standard test harness.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// Sets the limit of virtual time of a run; an hour by default. With zero, each run that waits for time fails;
    /// [`Duration::MAX`] is thirty years of tokio's clock.
    ///
    /// A deadlock is noticed at this limit: work that only waits for a time beyond the limit gets as much time again
    /// before it counts as blocked.
    pub fn virtual_limit(mut self, limit: Duration) -> Self {
        self.options.virtual_limit = limit;
        self
    }

    /// Sets the maximum number of polls of work per run, and of polls of services at one instant of virtual time;
    /// 200,000 by default.
    pub fn step_limit(mut self, polls: u64) -> Self {
        self.options.step_limit = polls;
        self
    }

    /// Aborts the process if one poll takes longer than this, in real time; a minute by default. [`Duration::MAX`] sets
    /// no limit.
    ///
    /// # Panics
    /// If it is zero: every poll takes longer.
    #[track_caller]
    pub fn poll_limit(mut self, limit: Duration) -> Self {
        assert!(!limit.is_zero(), "`poll_limit` is zero: every poll takes longer");
        self.options.poll_limit = limit;
        self
    }

    /// Enables a planted bug in every run; see [`mutant!`](motet::mutant).
    pub fn mutant(mut self, name: impl Into<String>) -> Self {
        self.options.mutants.push(name.into());
        self
    }

    /// Sets the behaviour of fault points; by default each seed enables half of them.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.options.faults = faults;
        self
    }

    /// Sets whether a panic of a task fails the run; by default it does. A panic of the body always does.
    pub fn panics(mut self, panics: Panics) -> Self {
        self.options.panics = panics;
        self
    }

    /// Sets whether a task that is started with `tokio::spawn` fails the run; by default it does, because it is not
    /// tested.
    pub fn foreign_tasks(mut self, foreign: ForeignTasks) -> Self {
        self.options.foreign = foreign;
        self
    }

    /// Sets whether each seed is run twice; by default it is.
    pub fn self_check(mut self, check: SelfCheck) -> Self {
        self.options.self_check = check;
        self
    }

    /// Fails the sweep unless the [`sometimes!`](motet::sometimes) of this text was true in some run. Use it for a
    /// `sometimes!` that possibly no run reaches: a line that is not reached is not checked otherwise.
    pub fn must_see(mut self, text: impl Into<String>) -> Self {
        self.options.must_see.push(text.into());
        self
    }

    /// Enables sockets, which a simulation refuses by default, since they do not depend on the seed. Use them only
    /// within [`real_io`](super::real_io()), and turn the self-check off.
    pub fn with_io(mut self) -> Self {
        self.options.io = Io::Enabled;
        self
    }

    /// Runs all seeds, up to the first failure.
    ///
    /// # Panics
    /// With the report, if a run or the sweep fails; if a setting in the environment is invalid; and inside of a
    /// runtime, since each run creates its own.
    #[track_caller]
    pub fn run(&self) -> Sweep {
        match self.check() {
            Ok(sweep) => sweep,
            Err(failure) => panic!("{failure}"),
        }
    }

    /// Runs all seeds, up to the first failure, and returns the failure. For tests that expect one.
    ///
    /// # Errors
    /// [`Failure`], whose [`cause`](Failure::cause) is the reason.
    ///
    /// # Panics
    /// Inside of a runtime, since each run creates its own.
    #[track_caller]
    pub fn check(&self) -> Result<Sweep, Failure> {
        assert!(
            tokio::runtime::Handle::try_current().is_err(),
            "a simulation creates its own runtimes: use #[test], not #[tokio::test]"
        );
        sweep::run(&self.options, &Environment::of_process(), &self.body)
    }
}
