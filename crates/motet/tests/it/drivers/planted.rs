//! The bugs that are planted in the library: the drivers find each, and nothing without it.
//!
//! That they find nothing without it is what their own tests say. What needs two threads is planted under the models
//! of `src/task/models.rs`, which loom runs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use motet::sim::mutants;

use super::listed::sources;
use super::{Driver, events, handles, local, resources, scopes, starting, time, tokens};

/// What finds a bug.
enum By {
    /// The sweep over seeds of this driver.
    Sweep(&'static Driver),
    /// Dropping what this driver drives at every suspension.
    Cancel(&'static Driver),
    /// A model, since it needs two threads.
    Loom,
}

/// All planted bugs.
const PLANTED: &[(&str, By)] = &[
    ("acquire.keep_for_nobody", By::Sweep(&resources::OWNED)),
    ("coop.endless_grace", By::Sweep(&scopes::DRIVER)),
    ("drain.look_away", By::Cancel(&scopes::DRAIN)),
    ("event.call_after_off", By::Sweep(&events::EMITTED)),
    ("event.drain_looks_away", By::Sweep(&events::POSTED)),
    ("event.inbox_left_attended", By::Sweep(&events::POSTED)),
    ("event.last_first", By::Sweep(&events::POSTED)),
    ("event.no_deadline", By::Sweep(&events::EMITTED)),
    ("event.once_twice", By::Sweep(&events::EMITTED)),
    ("event.reader_not_woken", By::Sweep(&events::READ)),
    ("race.keep_loser", By::Cancel(&local::DRIVER)),
    ("release.count_here_only", By::Sweep(&resources::OWNED)),
    ("release.finished_late", By::Sweep(&resources::OWNED)),
    ("resource.always_commit", By::Sweep(&resources::USED)),
    ("resource.first_in_first_out", By::Sweep(&resources::OWNED)),
    ("resource.forget_release", By::Cancel(&resources::USED)),
    ("resource.unshielded", By::Sweep(&resources::OWNED)),
    ("scope.adopt_above", By::Sweep(&scopes::DRIVER)),
    ("scope.check_once", By::Loom),
    ("scope.fail_slow", By::Sweep(&scopes::DRIVER)),
    ("scope.orphan_children", By::Cancel(&scopes::DRIVER)),
    ("scope.own_deadline", By::Sweep(&scopes::DRIVER)),
    ("scope.release_before_join", By::Sweep(&resources::OWNED)),
    ("scope.services_first", By::Sweep(&scopes::DRIVER)),
    ("scope.skip_wake", By::Sweep(&scopes::DRIVER)),
    ("scope.tell_nobody", By::Sweep(&scopes::DRIVER)),
    ("scope.unarmed_deadline", By::Sweep(&scopes::DRIVER)),
    ("shared.wake_last", By::Sweep(&handles::SHARED)),
    ("start.lose_answer", By::Sweep(&starting::DRIVER)),
    ("start.swallow_error", By::Sweep(&starting::DRIVER)),
    ("task.lose_panic", By::Sweep(&scopes::DRIVER)),
    ("task.miss_cancel", By::Sweep(&scopes::DRIVER)),
    ("timeout.keep_future", By::Cancel(&time::DRIVER)),
    ("token.wake_one", By::Sweep(&tokens::DRIVER)),
];

#[test]
fn a_planted_bug_goes_unnoticed() {
    let unnoticed = PLANTED.iter().filter(|(planted, by)| match by {
        By::Sweep(driver) => (driver.sweep)(Some(planted)).is_ok(),
        By::Cancel(driver) => {
            let _planted = mutants::enable(*planted);
            catch_unwind(AssertUnwindSafe(driver.cancel)).is_ok()
        }
        By::Loom => !include_str!("../../../src/task/models.rs").contains(planted),
    });
    let unnoticed: Vec<_> = unnoticed.map(|(planted, _)| planted).collect();
    assert!(unnoticed.is_empty(), "nobody finds {unnoticed:?}");
}

/// Whoever plants a bug says who finds it.
#[test]
fn a_bug_is_planted_that_nobody_looks_for() {
    let mut in_sources: Vec<String> = sources()
        .iter()
        // The simulator's own files show how it is done.
        .filter(|(path, _)| !path.starts_with("sim"))
        .flat_map(|(_, text)| text.split("mutant!(\"").skip(1).map(until_quote).collect::<Vec<_>>())
        .collect();
    in_sources.sort_unstable();
    in_sources.dedup();
    let listed: Vec<&str> = PLANTED.iter().map(|(planted, _)| *planted).collect();
    assert_eq!(in_sources, listed);
}

fn until_quote(text: &str) -> String {
    text.chars().take_while(|c| *c != '"').collect()
}
