use super::*;
use crate::Jitter;

const SECOND: Duration = Duration::from_secs(1);

fn machine(restarts: &[Restart]) -> Machine {
    let backoff = Backoff::doubling(SECOND, SECOND * 8).with_jitter(Jitter::None);
    let mut machine = Machine::new(Name::from("test"), 3, SECOND * 20, backoff);
    for (child, restart) in restarts.iter().enumerate() {
        machine.add(Name::from(format!("{child}")), *restart);
    }
    machine
}

fn failed() -> End {
    End::Failed(FailureCause::Panicked("broken".to_owned()))
}

fn commands(machine: &mut Machine, now: Instant) -> Vec<Command> {
    std::iter::from_fn(|| machine.next(now)).collect()
}

fn state(machine: &Machine, child: usize) -> ChildState {
    machine.slots[child].status.state
}

#[test]
fn child_starts_only_after_the_child_before_it_is_ready() {
    let now = Instant::now();
    let mut machine = machine(&[Restart::Permanent, Restart::Permanent]);
    assert_eq!(commands(&mut machine, now), [Command::Start(0)]);
    assert_eq!(commands(&mut machine, now), []);
    machine.ready(0, now);
    assert_eq!(commands(&mut machine, now), [Command::Start(1)]);
}

#[test]
fn failed_start_delays_the_next_child_until_a_restart_is_ready() {
    let now = Instant::now();
    let mut machine = machine(&[Restart::Permanent, Restart::Permanent]);
    commands(&mut machine, now);
    machine.ended(0, failed(), now);
    assert_eq!(commands(&mut machine, now), []);
    assert_eq!(machine.wake_at(), Some(now + SECOND));
    assert_eq!(commands(&mut machine, now + SECOND), [Command::Start(0)]);
    machine.ready(0, now + SECOND);
    assert_eq!(commands(&mut machine, now + SECOND), [Command::Start(1)]);
}

#[test]
fn restart_of_a_child_that_was_ready_delays_no_later_start() {
    let now = Instant::now();
    let mut machine = machine(&[Restart::Permanent, Restart::Permanent, Restart::Permanent]);
    commands(&mut machine, now);
    machine.ready(0, now);
    assert_eq!(commands(&mut machine, now), [Command::Start(1)]);
    machine.ended(0, failed(), now);
    machine.ready(1, now);
    assert_eq!(commands(&mut machine, now), [Command::Start(2)]);
}

#[test]
fn restart_policy_decides_the_state_after_an_end() {
    use ChildState::{Failed, Stopped};
    let now = Instant::now();
    let again = ChildState::Backoff { until: now + SECOND };
    let table = [
        (Restart::Permanent, again, again),
        (Restart::Transient, Stopped, again),
        (Restart::Temporary, Stopped, Failed),
    ];
    for (restart, after_return, after_failure) in table {
        for (end, expected) in [(End::Returned, after_return), (failed(), after_failure)] {
            let mut machine = machine(&[restart]);
            commands(&mut machine, now);
            machine.ended(0, end, now);
            assert_eq!(state(&machine, 0), expected, "{restart:?}");
        }
    }
}

#[test]
fn backoff_grows_until_a_long_life_resets_it() {
    let mut now = Instant::now();
    let mut machine = machine(&[Restart::Permanent]);
    let mut waits = Vec::new();
    for up in [0, 0, 19, 20, 0] {
        commands(&mut machine, now);
        machine.ready(0, now);
        now += SECOND * up;
        machine.ended(0, failed(), now);
        let until = machine.wake_at().expect("it is started again");
        waits.push(until.duration_since(now).as_secs());
        now = until;
    }
    assert_eq!(waits, [1, 2, 4, 1, 2]);
}

#[test]
fn restart_that_is_never_ready_does_not_reset_the_backoff() {
    let mut now = Instant::now();
    let mut machine = machine(&[Restart::Permanent]);
    commands(&mut machine, now);
    machine.ready(0, now);
    for expected in [1, 2] {
        machine.ended(0, failed(), now);
        let until = now + SECOND * expected;
        assert_eq!(machine.wake_at(), Some(until));
        assert_eq!(commands(&mut machine, until), [Command::Start(0)]);
        // Longer than the window, but the child never becomes ready.
        now = until + SECOND * 30;
    }
}

#[test]
fn supervisor_past_max_restarts_stops_the_other_child_and_fails() {
    let mut now = Instant::now();
    let mut machine = machine(&[Restart::Transient, Restart::Permanent]);
    commands(&mut machine, now);
    machine.ready(0, now);
    commands(&mut machine, now);
    machine.ready(1, now);
    for _ in 0..3 {
        machine.ended(0, failed(), now);
        now = machine.wake_at().expect("it is started again");
        assert_eq!(commands(&mut machine, now), [Command::Start(0)]);
    }
    machine.ended(1, End::Returned, now);
    assert_eq!(commands(&mut machine, now), [Command::Stop(0)]);
    machine.ended(0, End::Returned, now);
    assert!(machine.is_over());
    assert_eq!(machine.slots[0].status.restarts, 3);
    let error = machine.outcome().unwrap_err();
    assert_eq!(error.child.as_str(), "1");
    assert_eq!(error.failures.len(), 4);
    assert!(matches!(error.failures[3].cause, FailureCause::Returned));
}

#[test]
fn running_children_stop_one_by_one_and_none_restarts() {
    let now = Instant::now();
    let mut machine = machine(&[Restart::Permanent; 5]);
    for child in 0..4 {
        assert_eq!(commands(&mut machine, now), [Command::Start(child)]);
        machine.ready(child, now);
    }
    machine.ended(1, failed(), now);
    machine.stop();
    assert_eq!(state(&machine, 1), ChildState::Stopped);
    assert_eq!(state(&machine, 4), ChildState::Stopped);
    assert_eq!(commands(&mut machine, now), [Command::Stop(3)]);
    machine.ready(3, now);
    assert_eq!(state(&machine, 3), ChildState::Stopping);
    assert_eq!(commands(&mut machine, now), []);
    machine.ended(3, End::Returned, now);
    assert_eq!(commands(&mut machine, now), [Command::Stop(2)]);
    // A child that ends before its turn is neither stopped nor restarted.
    machine.ended(0, failed(), now);
    assert!(!machine.is_over());
    machine.ended(2, End::Dropped, now);
    assert_eq!(commands(&mut machine, now), []);
    assert!(machine.is_over());
    assert!(machine.outcome().is_ok());
}

#[test]
fn backoff_past_the_end_of_the_clock_restarts_nothing_for_years() {
    let now = Instant::now();
    let mut machine = Machine::new(Name::from("test"), 1, SECOND, Backoff::constant(Duration::MAX));
    machine.add(Name::from("0"), Restart::Permanent);
    commands(&mut machine, now);
    machine.ended(0, failed(), now);
    for years in [0, 1, 9] {
        assert_eq!(commands(&mut machine, now + SECOND * (1 + years * 365 * 24 * 60 * 60)), []);
    }
}
