//! The bugs that are planted in the library: the drivers find each, and nothing without it.
//!
//! That they find nothing without it is what their own tests say. What needs two threads is planted under the
//! models of `src/task/models.rs` and `src/resilience/models.rs`, which loom runs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use motet::sim::mutants;

use super::listed::sources;
use super::{
    Driver, batches, breakers, containers, events, handles, leases, limits, local, policies, pools, queues,
    resources, scopes, starting, time, tokens, workers,
};

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
    ("batch.close_forgets_open", By::Sweep(&batches::BATCHER)),
    ("batch.first_asker_only", By::Sweep(&batches::LOADER)),
    ("batch.forget_at_drop", By::Sweep(&batches::BATCHER)),
    ("batch.join_any", By::Sweep(&batches::LOADER)),
    ("batch.keep_offer", By::Sweep(&batches::BATCHER)),
    ("batch.leak_slot", By::Sweep(&batches::BATCHER)),
    ("batch.lost_wake", By::Sweep(&batches::BATCHER)),
    ("batch.remove_neighbour", By::Sweep(&batches::BATCHER)),
    ("batch.start_no_next", By::Sweep(&batches::BATCHER)),
    ("batch.strand_on_cancel", By::Sweep(&batches::BATCHER)),
    ("batch.swap_answers", By::Sweep(&batches::BATCHER)),
    ("batch.timer_per_item", By::Sweep(&batches::BATCHER)),
    ("breaker.act_on_stale", By::Sweep(&breakers::DRIVER)),
    ("breaker.forget_hung", By::Sweep(&breakers::DRIVER)),
    ("breaker.keep_cancelled_probe", By::Cancel(&breakers::DRIVER)),
    ("breaker.slow_probe_is_well", By::Sweep(&breakers::DRIVER)),
    ("breaker.tell_once", By::Sweep(&breakers::DRIVER)),
    ("bulkhead.keep_place", By::Sweep(&limits::BULKHEAD)),
    ("container.forget_scoped", By::Sweep(&containers::SCOPED)),
    ("container.health_alone", By::Sweep(&containers::SINGLETONS)),
    ("container.keep_dropped_start", By::Sweep(&containers::SINGLETONS)),
    ("container.keep_failed_slot", By::Sweep(&containers::SCOPED)),
    ("container.no_rollback_on_timeout", By::Sweep(&containers::SINGLETONS)),
    ("container.skip_after_failure", By::Sweep(&containers::SINGLETONS)),
    ("container.stop_forward", By::Sweep(&containers::SINGLETONS)),
    ("container.stop_twice", By::Sweep(&containers::SINGLETONS)),
    ("coop.endless_grace", By::Sweep(&scopes::DRIVER)),
    ("drain.look_away", By::Cancel(&scopes::DRAIN)),
    ("event.call_after_off", By::Sweep(&events::EMITTED)),
    ("event.drain_looks_away", By::Sweep(&events::POSTED)),
    ("event.inbox_left_attended", By::Sweep(&events::POSTED)),
    ("event.last_first", By::Sweep(&events::POSTED)),
    ("event.no_deadline", By::Sweep(&events::EMITTED)),
    ("event.once_twice", By::Sweep(&events::EMITTED)),
    ("event.reader_not_woken", By::Sweep(&events::READ)),
    ("limit.leak", By::Cancel(&limits::ADAPTIVE)),
    ("limit.never_shrink", By::Sweep(&limits::ADAPTIVE)),
    ("line.never_leave", By::Cancel(&limits::BULKHEAD)),
    ("pool.close_at_once", By::Sweep(&pools::DRIVER)),
    ("pool.closing_has_gone", By::Sweep(&pools::DRIVER)),
    ("pool.discard_unverified", By::Sweep(&pools::DRIVER)),
    ("pool.forget_close", By::Sweep(&pools::DRIVER)),
    ("pool.hang_when_down", By::Sweep(&pools::DRIVER)),
    ("pool.herd", By::Sweep(&pools::DRIVER)),
    ("pool.ignore_waiters", By::Sweep(&pools::DRIVER)),
    ("pool.keep_broken", By::Sweep(&pools::DRIVER)),
    ("pool.leak_slot", By::Sweep(&pools::DRIVER)),
    ("pool.live_for_ever", By::Sweep(&pools::DRIVER)),
    ("pool.lose_hand_off", By::Cancel(&pools::DRIVER)),
    ("pool.skip_wake", By::Sweep(&pools::DRIVER)),
    ("pool.starve_minimum", By::Sweep(&pools::DRIVER)),
    ("pool.trust_unverified", By::Sweep(&pools::DRIVER)),
    ("queue.attempt_uncounted", By::Sweep(&leases::DRIVER)),
    ("queue.close_and_tell_nobody", By::Sweep(&queues::DRIVER)),
    ("queue.hand_out_again", By::Sweep(&leases::DRIVER)),
    ("queue.join_early", By::Sweep(&leases::DRIVER)),
    ("queue.keep_permit", By::Sweep(&queues::DRIVER)),
    ("queue.keep_place", By::Sweep(&queues::DRIVER)),
    ("queue.keep_promise", By::Sweep(&queues::DRIVER)),
    ("queue.keep_receiver_waker", By::Sweep(&queues::DRIVER)),
    ("queue.keep_sender_waker", By::Sweep(&queues::DRIVER)),
    ("queue.keep_timer", By::Sweep(&leases::DRIVER)),
    ("queue.lose_letter", By::Sweep(&leases::DRIVER)),
    ("queue.lose_wake", By::Sweep(&queues::DRIVER)),
    ("queue.no_fence", By::Sweep(&leases::DRIVER)),
    ("queue.return_to_back", By::Sweep(&leases::DRIVER)),
    ("queue.take_and_drop", By::Sweep(&queues::DRIVER)),
    ("race.keep_loser", By::Cancel(&local::DRIVER)),
    ("rate.keep_place", By::Cancel(&limits::RATE)),
    ("rate.lost_update", By::Loom),
    ("release.count_here_only", By::Sweep(&resources::OWNED)),
    ("release.finished_late", By::Sweep(&resources::OWNED)),
    ("resilience.hedge_takes_failures", By::Sweep(&policies::PIPELINE)),
    ("resilience.hint_adds_attempts", By::Sweep(&policies::RETRY)),
    ("resilience.inherit_nothing", By::Sweep(&policies::PIPELINE)),
    ("resilience.keep_charge", By::Cancel(&policies::RETRY)),
    ("resilience.keep_timed_out", By::Sweep(&policies::PIPELINE)),
    ("resilience.lose_operation", By::Sweep(&policies::RETRY)),
    ("resilience.no_wait", By::Sweep(&policies::RETRY)),
    ("resilience.wait_past_deadline", By::Sweep(&policies::RETRY)),
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
    ("store.return_behind", By::Sweep(&workers::DRIVER)),
    ("task.lose_panic", By::Sweep(&scopes::DRIVER)),
    ("task.miss_cancel", By::Sweep(&scopes::DRIVER)),
    ("timeout.keep_future", By::Cancel(&time::DRIVER)),
    ("token.wake_one", By::Sweep(&tokens::DRIVER)),
    ("workers.burn_attempt", By::Sweep(&workers::DRIVER)),
    ("workers.give_back_in_order", By::Sweep(&workers::DRIVER)),
    ("workers.keep_keys", By::Sweep(&workers::DRIVER)),
    ("workers.keep_room", By::Sweep(&workers::DRIVER)),
    ("workers.newest_of_a_key", By::Sweep(&workers::DRIVER)),
    ("workers.take_when_told", By::Sweep(&workers::DRIVER)),
    ("workers.two_of_a_key", By::Sweep(&workers::DRIVER)),
];

/// What loom runs.
const MODELS: [&str; 2] =
    [include_str!("../../../src/task/models.rs"), include_str!("../../../src/resilience/models.rs")];

#[test]
fn a_planted_bug_goes_unnoticed() {
    let unnoticed = PLANTED.iter().filter(|(planted, by)| match by {
        By::Sweep(driver) => (driver.sweep)(Some(planted)).is_ok(),
        By::Cancel(driver) => {
            let _planted = mutants::enable(*planted);
            catch_unwind(AssertUnwindSafe(driver.cancel)).is_ok()
        }
        By::Loom => !MODELS.iter().any(|models| models.contains(planted)),
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
