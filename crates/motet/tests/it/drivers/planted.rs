//! The planted bugs of the library: the drivers find each of them.
//!
//! The tests of the drivers themselves show that they pass without a planted bug. Bugs that need two threads are found by
//! the models of `src/sync/models.rs` and `src/resilience/models.rs`, which loom runs.

use super::driver::planted;
use super::listed::planted;
use super::{
    Driver, batches, breakers, chains, containers, eaters, events, generators, handles, leases, limits,
    local, mines, policies, pools, queues, resources, scopes, starting, streams, time, tokens, workers,
};

/// The check that finds a bug.
enum By {
    /// The sweep over seeds of this driver.
    Sweep(&'static Driver),
    /// Dropping what this driver drives at every suspension.
    Cancel(&'static Driver),
    /// A model, since it needs two threads.
    Loom,
}

planted! {
    acquire_keep_for_nobody: "acquire.keep_for_nobody", By::Sweep(&resources::OWNED);
    batch_clone_in_batch: "batch.clone_in_batch", By::Sweep(&mines::DRIVER);
    batch_close_forgets_open: "batch.close_forgets_open", By::Sweep(&batches::BATCHER);
    batch_first_asker_only: "batch.first_asker_only", By::Sweep(&batches::LOADER);
    batch_forget_at_drop: "batch.forget_at_drop", By::Sweep(&batches::BATCHER);
    batch_join_any: "batch.join_any", By::Sweep(&batches::LOADER);
    batch_keep_offer: "batch.keep_offer", By::Sweep(&batches::BATCHER);
    batch_leak_slot: "batch.leak_slot", By::Sweep(&batches::BATCHER);
    batch_line_unbounded: "batch.line_unbounded", By::Sweep(&batches::BATCHER);
    batch_lost_wake: "batch.lost_wake", By::Sweep(&batches::BATCHER);
    batch_remove_neighbour: "batch.remove_neighbour", By::Sweep(&batches::BATCHER);
    batch_start_no_next: "batch.start_no_next", By::Sweep(&batches::BATCHER);
    batch_strand_on_cancel: "batch.strand_on_cancel", By::Sweep(&batches::BATCHER);
    batch_swap_answers: "batch.swap_answers", By::Sweep(&batches::BATCHER);
    batch_timer_per_item: "batch.timer_per_item", By::Sweep(&batches::BATCHER);
    breaker_act_on_stale: "breaker.act_on_stale", By::Sweep(&breakers::DRIVER);
    breaker_forget_hung: "breaker.forget_hung", By::Sweep(&breakers::DRIVER);
    breaker_forget_successes: "breaker.forget_successes", By::Loom;
    breaker_keep_cancelled_probe: "breaker.keep_cancelled_probe", By::Cancel(&breakers::DRIVER);
    breaker_publish_late: "breaker.publish_late", By::Loom;
    breaker_slow_probe_is_well: "breaker.slow_probe_is_well", By::Sweep(&breakers::DRIVER);
    breaker_tell_once: "breaker.tell_once", By::Sweep(&breakers::DRIVER);
    bulkhead_keep_place: "bulkhead.keep_place", By::Sweep(&limits::BULKHEAD);
    caught_drop_loudly: "caught.drop_loudly", By::Sweep(&mines::DRIVER);
    container_forget_scoped: "container.forget_scoped", By::Sweep(&containers::SCOPED);
    container_health_alone: "container.health_alone", By::Sweep(&containers::SINGLETONS);
    container_keep_dropped_start: "container.keep_dropped_start", By::Sweep(&containers::SINGLETONS);
    container_keep_failed_slot: "container.keep_failed_slot", By::Sweep(&containers::SCOPED);
    container_no_rollback_on_timeout: "container.no_rollback_on_timeout", By::Sweep(&containers::SINGLETONS);
    container_skip_after_failure: "container.skip_after_failure", By::Sweep(&containers::SINGLETONS);
    container_stop_forward: "container.stop_forward", By::Sweep(&containers::SINGLETONS);
    container_stop_twice: "container.stop_twice", By::Sweep(&containers::SINGLETONS);
    coop_endless_grace: "coop.endless_grace", By::Sweep(&scopes::DRIVER);
    coop_limit_in_budget: "coop.limit_in_budget", By::Sweep(&eaters::DRIVER);
    drain_look_away: "drain.look_away", By::Cancel(&scopes::DRAIN);
    event_call_after_off: "event.call_after_off", By::Sweep(&events::EMITTED);
    event_drain_looks_away: "event.drain_looks_away", By::Sweep(&events::POSTED);
    event_inbox_left_attended: "event.inbox_left_attended", By::Sweep(&events::POSTED);
    event_last_first: "event.last_first", By::Sweep(&events::POSTED);
    event_no_deadline: "event.no_deadline", By::Sweep(&events::EMITTED);
    event_once_twice: "event.once_twice", By::Sweep(&events::EMITTED);
    event_reader_not_woken: "event.reader_not_woken", By::Sweep(&events::READ);
    limit_leak: "limit.leak", By::Cancel(&limits::ADAPTIVE);
    limit_never_shrink: "limit.never_shrink", By::Sweep(&limits::ADAPTIVE);
    line_never_leave: "line.never_leave", By::Cancel(&limits::BULKHEAD);
    middleware_clone_without_context: "middleware.clone_without_context", By::Sweep(&chains::CHAIN);
    middleware_forget_dropped: "middleware.forget_dropped", By::Cancel(&chains::PARTS);
    middleware_let_panics_out: "middleware.let_panics_out", By::Sweep(&chains::PARTS);
    middleware_policies_apart: "middleware.policies_apart", By::Sweep(&chains::PARTS);
    middleware_skip_part: "middleware.skip_part", By::Sweep(&chains::CHAIN);
    notify_wake_one: "notify.wake_one", By::Sweep(&tokens::DRIVER);
    pool_close_at_once: "pool.close_at_once", By::Sweep(&pools::DRIVER);
    pool_closing_has_gone: "pool.closing_has_gone", By::Sweep(&pools::DRIVER);
    pool_discard_unverified: "pool.discard_unverified", By::Sweep(&pools::DRIVER);
    pool_forget_close: "pool.forget_close", By::Sweep(&pools::DRIVER);
    pool_hang_when_down: "pool.hang_when_down", By::Sweep(&pools::DRIVER);
    pool_herd: "pool.herd", By::Sweep(&pools::DRIVER);
    pool_ignore_waiters: "pool.ignore_waiters", By::Sweep(&pools::DRIVER);
    pool_keep_broken: "pool.keep_broken", By::Sweep(&pools::DRIVER);
    pool_leak_slot: "pool.leak_slot", By::Sweep(&pools::DRIVER);
    pool_live_for_ever: "pool.live_for_ever", By::Sweep(&pools::DRIVER);
    pool_lose_hand_off: "pool.lose_hand_off", By::Cancel(&pools::DRIVER);
    pool_skip_wake: "pool.skip_wake", By::Sweep(&pools::DRIVER);
    pool_starve_minimum: "pool.starve_minimum", By::Sweep(&pools::DRIVER);
    pool_trust_unverified: "pool.trust_unverified", By::Sweep(&pools::DRIVER);
    pool_wait_unbounded: "pool.wait_unbounded", By::Sweep(&pools::DRIVER);
    queue_attempt_uncounted: "queue.attempt_uncounted", By::Sweep(&leases::DRIVER);
    queue_close_and_tell_nobody: "queue.close_and_tell_nobody", By::Sweep(&queues::DRIVER);
    queue_hand_out_again: "queue.hand_out_again", By::Sweep(&leases::DRIVER);
    queue_join_early: "queue.join_early", By::Sweep(&leases::DRIVER);
    queue_keep_permit: "queue.keep_permit", By::Sweep(&queues::DRIVER);
    queue_keep_place: "queue.keep_place", By::Sweep(&queues::DRIVER);
    queue_keep_promise: "queue.keep_promise", By::Sweep(&queues::DRIVER);
    queue_keep_receiver_waker: "queue.keep_receiver_waker", By::Sweep(&queues::DRIVER);
    queue_keep_sender_waker: "queue.keep_sender_waker", By::Sweep(&queues::DRIVER);
    queue_keep_timer: "queue.keep_timer", By::Sweep(&leases::DRIVER);
    queue_lose_letter: "queue.lose_letter", By::Sweep(&leases::DRIVER);
    queue_lose_wake: "queue.lose_wake", By::Sweep(&queues::DRIVER);
    queue_no_fence: "queue.no_fence", By::Sweep(&leases::DRIVER);
    queue_return_to_back: "queue.return_to_back", By::Sweep(&leases::DRIVER);
    queue_settle_before_then: "queue.settle_before_then", By::Sweep(&leases::DRIVER);
    queue_take_and_drop: "queue.take_and_drop", By::Sweep(&queues::DRIVER);
    queue_upgrade_closed: "queue.upgrade_closed", By::Sweep(&leases::DRIVER);
    race_always_a_first: "race.always_a_first", By::Sweep(&eaters::DRIVER);
    race_keep_loser: "race.keep_loser", By::Cancel(&local::DRIVER);
    rate_keep_place: "rate.keep_place", By::Cancel(&limits::RATE);
    rate_lost_update: "rate.lost_update", By::Loom;
    registry_compare_in_between: "registry.compare_in_between", By::Sweep(&mines::DRIVER);
    release_count_here_only: "release.count_here_only", By::Sweep(&resources::OWNED);
    release_finished_late: "release.finished_late", By::Sweep(&resources::OWNED);
    resilience_hedge_first_is_first: "resilience.hedge_first_is_first", By::Sweep(&eaters::DRIVER);
    resilience_hedge_takes_failures: "resilience.hedge_takes_failures", By::Sweep(&policies::PIPELINE);
    resilience_hint_adds_attempts: "resilience.hint_adds_attempts", By::Sweep(&policies::RETRY);
    resilience_inherit_nothing: "resilience.inherit_nothing", By::Sweep(&policies::PIPELINE);
    resilience_keep_charge: "resilience.keep_charge", By::Cancel(&policies::RETRY);
    resilience_keep_timed_out: "resilience.keep_timed_out", By::Sweep(&policies::PIPELINE);
    resilience_lose_operation: "resilience.lose_operation", By::Sweep(&policies::RETRY);
    resilience_no_wait: "resilience.no_wait", By::Sweep(&policies::RETRY);
    resilience_wait_past_deadline: "resilience.wait_past_deadline", By::Sweep(&policies::RETRY);
    resource_always_commit: "resource.always_commit", By::Sweep(&resources::USED);
    resource_first_in_first_out: "resource.first_in_first_out", By::Sweep(&resources::OWNED);
    resource_forget_release: "resource.forget_release", By::Cancel(&resources::USED);
    resource_unshielded: "resource.unshielded", By::Sweep(&resources::OWNED);
    scope_adopt_above: "scope.adopt_above", By::Sweep(&scopes::DRIVER);
    scope_check_once: "scope.check_once", By::Loom;
    scope_fail_slow: "scope.fail_slow", By::Sweep(&scopes::DRIVER);
    scope_orphan_children: "scope.orphan_children", By::Cancel(&scopes::DRIVER);
    scope_own_deadline: "scope.own_deadline", By::Sweep(&scopes::DRIVER);
    scope_release_before_join: "scope.release_before_join", By::Sweep(&resources::OWNED);
    scope_services_first: "scope.services_first", By::Sweep(&scopes::DRIVER);
    scope_skip_wake: "scope.skip_wake", By::Sweep(&scopes::DRIVER);
    scope_tell_nobody: "scope.tell_nobody", By::Sweep(&scopes::DRIVER);
    scope_unarmed_deadline: "scope.unarmed_deadline", By::Sweep(&scopes::DRIVER);
    shared_wake_last: "shared.wake_last", By::Sweep(&handles::SHARED);
    start_lose_answer: "start.lose_answer", By::Sweep(&starting::DRIVER);
    start_swallow_error: "start.swallow_error", By::Sweep(&starting::DRIVER);
    store_return_behind: "store.return_behind", By::Sweep(&workers::DRIVER);
    stream_broadcast_no_wait: "stream.broadcast_no_wait", By::Sweep(&streams::DRIVER);
    stream_count_for_ever: "stream.count_for_ever", By::Sweep(&streams::DRIVER);
    stream_drop_last_emit: "stream.drop_last_emit", By::Sweep(&generators::DRIVER);
    stream_idle_not_woken: "stream.idle_not_woken", By::Sweep(&streams::DRIVER);
    stream_keep_rest: "stream.keep_rest", By::Sweep(&streams::DRIVER);
    stream_keep_tasks: "stream.keep_tasks", By::Sweep(&streams::DRIVER);
    stream_lose_panic: "stream.lose_panic", By::Sweep(&streams::DRIVER);
    stream_never_wake_group: "stream.never_wake_group", By::Sweep(&generators::DRIVER);
    stream_no_window: "stream.no_window", By::Sweep(&streams::DRIVER);
    stream_order_of_ends: "stream.order_of_ends", By::Sweep(&streams::DRIVER);
    stream_reader_not_woken: "stream.reader_not_woken", By::Sweep(&streams::DRIVER);
    stream_timer_per_item: "stream.timer_per_item", By::Sweep(&streams::DRIVER);
    task_lose_panic: "task.lose_panic", By::Sweep(&scopes::DRIVER);
    task_miss_cancel: "task.miss_cancel", By::Sweep(&scopes::DRIVER);
    timeout_keep_future: "timeout.keep_future", By::Cancel(&time::DRIVER);
    wakers_let_panics_out: "wakers.let_panics_out", By::Sweep(&mines::DRIVER);
    workers_burn_attempt: "workers.burn_attempt", By::Sweep(&workers::DRIVER);
    workers_due_later_when_told: "workers.due_later_when_told", By::Sweep(&workers::DRIVER);
    workers_give_back_in_order: "workers.give_back_in_order", By::Sweep(&workers::DRIVER);
    workers_keep_keys: "workers.keep_keys", By::Sweep(&workers::DRIVER);
    workers_keep_room: "workers.keep_room", By::Sweep(&workers::DRIVER);
    workers_newest_of_a_key: "workers.newest_of_a_key", By::Sweep(&workers::DRIVER);
    workers_take_when_told: "workers.take_when_told", By::Sweep(&workers::DRIVER);
    workers_two_of_a_key: "workers.two_of_a_key", By::Sweep(&workers::DRIVER);
}

/// The bugs that loom finds.
const MODELS: [&str; 2] =
    [include_str!("../../../src/sync/models.rs"), include_str!("../../../src/resilience/models.rs")];

#[track_caller]
fn found(planted: &'static str, by: &By) {
    let is_found = match by {
        By::Sweep(driver) => driver.sweep_finds(planted),
        By::Cancel(driver) => driver.cancel_finds(planted),
        By::Loom => MODELS.iter().any(|models| models.contains(planted)),
    };
    assert!(is_found, "no driver finds `{planted}`");
}

#[test]
fn every_planted_bug_is_listed() {
    assert_eq!(planted(), PLANTED);
}
