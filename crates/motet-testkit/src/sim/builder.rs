use std::panic::Location;
use std::time::Duration;

use super::seeds::Environment;
use super::{Failure, Faults, ForeignTasks, Panics, Seeds, Sweep, sweep};

/// Makes a simulation of this body: a closure that makes the future of one run.
///
/// The body runs once per seed and once more for the self-check, each time in a new runtime; it must make
/// everything it uses anew.
///
/// **A task started with `tokio::spawn` is not tested**: it is not interleaved with the others, and it has no name. A run in
/// which there is one fails, as far as it is seen: the tasks of the runtime are counted at each step, and one that begins
/// and ends within a step is missed. Start tasks in a scope; poll one of other code through
/// [`motet::sim::hooked`]; or allow them: [`Sim::foreign_tasks`].
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

/// Runs a body under many seeds; made by [`sim`].
///
/// # Defaults
/// The seeds 0 to 99, an hour of virtual time, 200,000 polls of work per run, fault points by swarm, every seed run
/// twice, and a minute of real time for one poll.
#[derive(Debug, Clone)]
#[must_use = "a simulation does nothing until it is run"]
pub struct Sim<B> {
    body: B,
    options: Options,
}

/// Tells whether each seed is run twice and the two traces compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelfCheck {
    /// Every seed is: a test that cannot be replayed fails at once.
    Every,
    /// Only a seed that fails is, so that the report says whether it can be replayed.
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
    /// Runs these seeds: a number of them, counted from zero, or a range. `MOTET_SEED` and `MOTET_RUNS` go
    /// before it.
    pub fn seeds(mut self, seeds: impl Into<Seeds>) -> Self {
        self.options.seeds = seeds.into();
        self
    }

    /// Names the test in reports; without it, it has the name of its thread, which is the test's under the
    /// standard test harness.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// Fails a run that needs more virtual time than this; an hour by default. Zero fails each that waits for time; tokio's
    /// clock takes [`Duration::MAX`] for thirty years.
    ///
    /// It is also where a deadlock is noticed: work that waits for nothing but a time beyond the limit is
    /// given as long again before it counts as blocked.
    pub fn virtual_limit(mut self, limit: Duration) -> Self {
        self.options.virtual_limit = limit;
        self
    }

    /// Fails a run with more polls of work than this, or of services at one instant of virtual time; 200,000
    /// by default.
    pub fn step_limit(mut self, polls: u64) -> Self {
        self.options.step_limit = polls;
        self
    }

    /// Aborts the process when a single poll takes longer than this, in real time; a minute by default. With
    /// [`Duration::MAX`] a poll has no limit.
    ///
    /// # Panics
    /// If it is zero: each poll would take longer.
    #[track_caller]
    pub fn poll_limit(mut self, limit: Duration) -> Self {
        assert!(!limit.is_zero(), "a poll takes more than no time (`poll_limit`)");
        self.options.poll_limit = limit;
        self
    }

    /// Switches a planted bug on, in every run; see [`mutant!`](motet::mutant).
    pub fn mutant(mut self, name: impl Into<String>) -> Self {
        self.options.mutants.push(name.into());
        self
    }

    /// Says what fault points do; by default each seed enables half of them.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.options.faults = faults;
        self
    }

    /// Says what the panic of a task means; by default it fails the run. A panic of the body always does.
    pub fn panics(mut self, panics: Panics) -> Self {
        self.options.panics = panics;
        self
    }

    /// Says what a task means that is started with `tokio::spawn`; by default it fails the run, since it is not tested.
    pub fn foreign_tasks(mut self, foreign: ForeignTasks) -> Self {
        self.options.foreign = foreign;
        self
    }

    /// Says whether each seed is run twice; by default it is.
    pub fn self_check(mut self, check: SelfCheck) -> Self {
        self.options.self_check = check;
        self
    }

    /// Fails the sweep unless the [`sometimes!`](motet::sometimes) of this text was true in some run: for
    /// one that stands on a path which no seed may reach.
    pub fn must_see(mut self, text: impl Into<String>) -> Self {
        self.options.must_see.push(text.into());
        self
    }

    /// Enables sockets, which a simulation refuses otherwise: what they do depends on no seed. Use them
    /// within [`real_io`](super::real_io()) only, and switch the self-check off.
    pub fn with_io(mut self) -> Self {
        self.options.io = Io::Enabled;
        self
    }

    /// Runs all seeds, up to the first that fails.
    ///
    /// # Panics
    /// With the report, when a run or the sweep fails; when a setting in the environment cannot be read; and
    /// within a runtime, since each run makes its own.
    #[track_caller]
    pub fn run(&self) -> Sweep {
        match self.check() {
            Ok(sweep) => sweep,
            Err(failure) => panic!("{failure}"),
        }
    }

    /// Runs all seeds, up to the first that fails, and gives the failure: for tests that expect one.
    ///
    /// # Errors
    /// [`Failure`], whose [`cause`](Failure::cause) says which of the things that fail a run it was.
    ///
    /// # Panics
    /// Within a runtime, since each run makes its own.
    #[track_caller]
    pub fn check(&self) -> Result<Sweep, Failure> {
        assert!(
            tokio::runtime::Handle::try_current().is_err(),
            "a simulation makes its own runtimes: write #[test] instead of #[tokio::test]"
        );
        sweep::run(&self.options, &Environment::of_process(), &self.body)
    }
}
