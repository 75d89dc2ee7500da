//! `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3).

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use motet::mutant;

/// Returns the delay that a response asks for.
pub(super) fn of(headers: &HeaderMap) -> Option<Duration> {
    if mutant!("http.ignore_retry_after") {
        return None;
    }
    retry_after(headers, None)
}

/// Returns how long an answer with these headers asks to wait, by its `Retry-After`: a number of seconds, or a date in any
/// of the three forms of HTTP. A date that has passed is zero.
///
/// A date is compared with the `Date` of the response, which comes from the same clock, so that a clock that is wrong does
/// not matter. Without a `Date`, which a server with a clock must send (RFC 9110, 6.6.1), it is compared with `now`; without
/// `now` the result is `None`.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: Option<SystemTime>) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number above the range saturates.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let date = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    Some(until.duration_since(date.or(now)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parse(value: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
        headers.insert(DATE, HeaderValue::from_static("Fri, 31 Dec 1999 23:59:00 GMT"));
        of(&headers)
    }

    #[test]
    fn every_form_of_retry_after_is_parsed_and_nonsense_ignored() {
        for (value, seconds) in [
            ("120", 120),
            (" 0 ", 0),
            ("Fri, 31 Dec 1999 23:59:59 GMT", 59),
            ("Friday, 31-Dec-99 23:59:59 GMT", 59),
            ("Fri Dec 31 23:59:59 1999", 59),
            ("Fri, 31 Dec 1999 23:00:00 GMT", 0),
        ] {
            assert_eq!(parse(value), Some(Duration::from_secs(seconds)), "{value}");
        }
        assert_eq!(parse("99999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for nonsense in ["", "-1", "1.5", "soon", "Fri, 31 Dec"] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn retry_after_date_is_relative_to_the_date_header_or_now() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("Fri, 31 Dec 1999 23:59:59 GMT"));
        assert_eq!(of(&headers), None);
        let now = httpdate::parse_http_date("Fri, 31 Dec 1999 23:59:54 GMT").unwrap();
        assert_eq!(retry_after(&headers, Some(now)), Some(Duration::from_secs(5)));
        headers.insert(DATE, HeaderValue::from_static("Fri, 31 Dec 1999 23:59:00 GMT"));
        assert_eq!(retry_after(&headers, Some(now)), Some(Duration::from_secs(59)));
    }
}
