//! The bugs that are planted in the crate: the drivers find each, and nothing without it.

use super::driver::planted;
use super::listed::planted;
use super::{Driver, answers, bounds, calls, unread};

/// The driver that finds a bug.
enum By {
    /// The sweep over seeds of this driver.
    Sweep(&'static Driver),
    /// Dropping what this driver drives at every suspension.
    Cancel(&'static Driver),
}

planted! {
    http_endless_redirects: "http.endless_redirects", By::Sweep(&bounds::DRIVER);
    http_free_place_early: "http.free_place_early", By::Sweep(&calls::DRIVER);
    http_ignore_retry_after: "http.ignore_retry_after", By::Sweep(&calls::DRIVER);
    http_keep_credentials: "http.keep_credentials", By::Sweep(&bounds::DRIVER);
    http_keep_place: "http.keep_place", By::Sweep(&bounds::DRIVER);
    http_leave_body_unread: "http.leave_body_unread", By::Sweep(&calls::DRIVER);
    http_let_it_send: "http.let_it_send", By::Sweep(&unread::DRIVER);
    http_lose_begun: "http.lose_begun", By::Sweep(&answers::DRIVER);
    http_no_body_deadline: "http.no_body_deadline", By::Sweep(&bounds::DRIVER);
    http_no_cap: "http.no_cap", By::Sweep(&bounds::DRIVER);
    http_no_head_deadline: "http.no_head_deadline", By::Sweep(&bounds::DRIVER);
    http_no_patience: "http.no_patience", By::Sweep(&calls::DRIVER);
    http_pass_every_status: "http.pass_every_status", By::Sweep(&calls::DRIVER);
    http_retry_unsafe: "http.retry_unsafe", By::Sweep(&calls::DRIVER);
    http_ring_early: "http.ring_early", By::Sweep(&bounds::DRIVER);
    http_wait_for_place_for_ever: "http.wait_for_place_for_ever", By::Sweep(&bounds::DRIVER);
}

#[track_caller]
fn found(planted: &'static str, by: &By) {
    let is_found = match by {
        By::Sweep(driver) => driver.sweep_finds(planted),
        By::Cancel(driver) => driver.cancel_finds(planted),
    };
    assert!(is_found, "no driver finds `{planted}`");
}

/// Bugs of the library which show in a call as well.
#[test]
fn three_planted_bugs_of_motet_are_found_through_http_calls() {
    found("bulkhead.keep_place", &By::Cancel(&calls::DRIVER));
    found("breaker.keep_cancelled_probe", &By::Cancel(&calls::DRIVER));
    found("resilience.wait_past_deadline", &By::Sweep(&bounds::DRIVER));
}

/// Each planted bug has an entry with the driver that finds it.
#[test]
fn every_planted_bug_is_listed() {
    assert_eq!(planted(), PLANTED);
}
