//! What an answer, or none, says of the host, and whether to try again.

use std::time::Duration;

use http::StatusCode;
use motet::mutant;
use motet::resilience::{Class, Classify, Verdict};

use super::{Error, Response};

/// Judges the outcome of an attempt as [`ApiClient`](super::ApiClient) does by itself: for a
/// [`Pipeline`](motet::resilience::Pipeline) that takes the place of its retry.
///
/// | Outcome | for the breaker | worth another attempt |
/// |---|---|---|
/// | 408, 425, 429 | says nothing | if the call may be repeated |
/// | 500, 502, 503, 504 | failure | if the call may be repeated |
/// | other 5xx | failure, but for 501 and 505 | no |
/// | any other status | success: the host is well | no |
/// | no connection | failure | yes, whatever the method: nothing was sent |
/// | refused as HTTP/2 has it | says nothing | yes, whatever the method: nothing was done |
/// | time was up, the connection failed | failure | if the call may be repeated |
/// | rejected; a fault of the request; an answer too large | says nothing | no |
/// | an answer that does not decode | success | no |
///
/// Whether a call may be repeated says its [method](http::Method::is_idempotent), or its caller. `Retry-After` is the
/// least time to wait. One that is longer than the client's [patience](super::ApiClientBuilder::patience) means that no
/// other attempt is made.
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

/// When a call may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repeat {
    /// Though it may have had its effect.
    pub(super) sent: bool,
    /// If nothing was sent.
    pub(super) unsent: bool,
    /// If it is asked to wait for no longer than this.
    pub(super) patience: Duration,
}

impl Repeat {
    pub(super) const NEVER: Self = Self { sent: false, unsent: false, patience: Duration::ZERO };
}

pub(super) fn failure(is_retryable: bool) -> Class {
    if is_retryable { Class::retry() } else { Class::fail() }
}

pub(super) fn status(code: StatusCode, repeat: Repeat, retry_after: Option<Duration>) -> Class {
    let verdict = match code.as_u16() {
        408 | 425 | 429 => Verdict::Ignore,
        _ if mutant!("http.pass_every_status") => Verdict::Success,
        501 | 505 => Verdict::Success,
        500.. => Verdict::Failure,
        _ => Verdict::Success,
    };
    let in_time = retry_after.is_none_or(|after| after <= repeat.patience || mutant!("http.no_patience"));
    Class { verdict, retryable: is_passing(code) && repeat.sent && in_time, retry_after }
}

/// Asks whether the answer may be another the next time.
pub(super) fn is_passing(code: StatusCode) -> bool {
    matches!(code.as_u16(), 408 | 425 | 429 | 500 | 502..=504)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn judge(code: u16, repeatable: bool, seconds: Option<u64>) -> Class {
        let after = seconds.map(Duration::from_secs);
        let repeat = Repeat { sent: repeatable, unsent: true, patience: PATIENCE };
        status(StatusCode::from_u16(code).unwrap(), repeat, after)
    }

    #[test]
    fn only_failures_of_the_server_count_against_the_breaker() {
        for (code, verdict) in [
            (200, Verdict::Success),
            (304, Verdict::Success),
            (404, Verdict::Success),
            (429, Verdict::Ignore),
            (500, Verdict::Failure),
            (501, Verdict::Success),
            (503, Verdict::Failure),
            (507, Verdict::Failure),
        ] {
            assert_eq!(judge(code, true, None).verdict, verdict, "{code}");
        }
    }

    #[test]
    fn unrepeatable_requests_are_never_retried() {
        for code in 100..600 {
            assert!(!judge(code, false, None).retryable, "{code}");
        }
        assert!(judge(503, true, None).retryable);
        assert!(!judge(404, true, None).retryable);
    }

    #[test]
    fn retry_after_beyond_the_patience_prevents_a_retry() {
        assert!(judge(503, true, Some(30)).retryable);
        let late = judge(503, true, Some(31));
        assert_eq!((late.retryable, late.retry_after), (false, Some(Duration::from_secs(31))));
    }
}
