use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;

use super::{RunPlan, Simulation};
use crate::rng::{self, SeedGuard};

thread_local! {
    static CURRENT: RefCell<Option<Rc<Simulation>>> = const { RefCell::new(None) };
}

/// The simulation that runs on this thread.
#[must_use]
pub fn current() -> Option<Rc<Simulation>> {
    // A hook may be dropped at the end of its thread, after the thread-local.
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Keeps a simulation current on this thread, and the random numbers of this thread under its seed.
#[derive(Debug)]
pub struct Installed {
    sim: Rc<Simulation>,
    _draws: SeedGuard,
}

impl Installed {
    /// Makes a simulation current.
    ///
    /// # Panics
    /// If a simulation is current already, since simulations do not nest.
    #[track_caller]
    #[must_use]
    pub fn new(plan: RunPlan) -> Self {
        let sim = Rc::new(Simulation::new(plan));
        CURRENT.with_borrow_mut(|current| {
            assert!(
                current.is_none(),
                "a simulation was started within a simulation; run them one after the other"
            );
            *current = Some(Rc::clone(&sim));
        });
        let draws = rng::seed_thread(sim.program_seed());
        Self { sim, _draws: draws }
    }
}

impl Deref for Installed {
    type Target = Simulation;

    fn deref(&self) -> &Simulation {
        &self.sim
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = CURRENT.try_with(|current| current.borrow_mut().take());
    }
}
