//! Decides what the outcome of an attempt means for the breaker, and whether to retry.

use std::time::Duration;

use http::StatusCode;
use motet::mutant;
use motet::resilience::{Class, Classify, Verdict};

use super::{Error, Response};

/// Classifies the outcome of an attempt like [`ApiClient`](super::ApiClient), for a
/// [`Pipeline`](motet::resilience::Pipeline) that replaces its retry.
///
/// | Outcome | For the breaker | Retried |
/// |---|---|---|
/// | 408, 425, 429 | ignored | if the call may be repeated |
/// | 500, 502, 503, 504 | failure | if the call may be repeated |
/// | other 5xx | failure, but for 501 and 505 | no |
/// | any other status | success: the host is healthy | no |
/// | no connection | failure | yes, whatever the method: nothing was sent |
/// | refused by HTTP/2 | ignored | yes, whatever the method: nothing was done |
/// | timed out, the connection failed | failure | if the call may be repeated |
/// | rejected; an invalid request; a response that is too large | ignored | no |
/// | a response that does not decode | success | no |
///
/// The [method](http::Method::is_idempotent) of a call, or its caller, decides whether it may be repeated.
/// `Retry-After` is the shortest delay. A longer one than the [limit](super::ApiClientBuilder::max_retry_after) of the
/// client, 20 s by default, ends the call, also with a retry of your own: a retry that is to wait longer needs both, that limit
/// and that of [`Retry::follow_hints_for`](motet::resilience::Retry::follow_hints_for).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByStatus;

impl Classify<Response, Error> for ByStatus {
    fn classify(&self, outcome: Result<&Response, &Error>) -> Class {
        match outcome {
            Ok(response) => response.class(),
            Err(error) => error.class(),
        }
    }
}

/// The conditions under which a call may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repeat {
    /// `true` if the call may be repeated although the request may have had its effect.
    pub(super) sent: bool,
    /// `true` if the call may be repeated when nothing was sent.
    pub(super) unsent: bool,
    /// The longest delay of a `Retry-After` after which the call is repeated.
    pub(super) max_retry_after: Duration,
}

impl Repeat {
    pub(super) const NEVER: Self = Self { sent: false, unsent: false, max_retry_after: Duration::ZERO };
}

pub(super) fn failure(is_retryable: bool) -> Class {
    if is_retryable { Class::retry() } else { Class::fail() }
}

pub(super) fn status(code: StatusCode, repeat: Repeat, retry_after: Option<Duration>) -> Class {
    let mut verdict = match code.as_u16() {
        408 | 425 | 429 => Verdict::Ignore,
        501 | 505 => Verdict::Success,
        500.. => Verdict::Failure,
        _ => Verdict::Success,
    };
    if mutant!("http.pass_every_status") {
        verdict = match verdict {
            Verdict::Failure => Verdict::Success,
            other => other,
        };
    }
    let mut in_time = retry_after.is_none_or(|after| after <= repeat.max_retry_after);
    if mutant!("http.no_patience") {
        in_time = true;
    }
    Class { verdict, retryable: is_passing(code) && repeat.sent && in_time, retry_after }
}

/// Returns `true` if another attempt may get another response.
pub(super) fn is_passing(code: StatusCode) -> bool {
    matches!(code.as_u16(), 408 | 425 | 429 | 500 | 502..=504)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

    fn judge(code: u16, repeatable: bool, seconds: Option<u64>) -> Class {
        let after = seconds.map(Duration::from_secs);
        let repeat = Repeat { sent: repeatable, unsent: true, max_retry_after: MAX_RETRY_AFTER };
        status(StatusCode::from_u16(code).unwrap(), repeat, after)
    }

    #[test]
    fn only_server_errors_but_501_and_505_count_against_the_breaker() {
        for (code, verdict) in [
            (200, Verdict::Success),
            (304, Verdict::Success),
            (404, Verdict::Success),
            (429, Verdict::Ignore),
            (500, Verdict::Failure),
            (501, Verdict::Success),
            (502, Verdict::Failure),
            (503, Verdict::Failure),
            (505, Verdict::Success),
            (507, Verdict::Failure),
        ] {
            assert_eq!(judge(code, true, None).verdict, verdict, "{code}");
        }
    }

    #[test]
    fn no_status_causes_a_retry_of_an_unrepeatable_request() {
        for code in 100..600 {
            assert!(!judge(code, false, None).retryable, "{code}");
        }
        assert!(judge(503, true, None).retryable);
        assert!(!judge(404, true, None).retryable);
    }

    #[test]
    fn retry_after_beyond_the_limit_prevents_a_retry() {
        assert!(judge(503, true, Some(30)).retryable);
        let late = judge(503, true, Some(31));
        assert_eq!((late.retryable, late.retry_after), (false, Some(Duration::from_secs(31))));
    }
}
