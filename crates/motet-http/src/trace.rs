use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};
use motet::rng;

/// The header of W3C Trace Context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The header with opaque vendor data.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The trace of a request and the span that caused the request: the `traceparent` of [W3C Trace
/// Context](https://www.w3.org/TR/trace-context/), with its `tracestate` unchanged.
///
/// A server reads it [from the headers](Self::from_headers) of a request. A request that the server makes carries a
/// [child](Self::child): see [`RequestBuilder::trace`](crate::RequestBuilder::trace). A tracing library makes and
/// exports spans; it creates this value from its current span with [`new`](Self::new).
///
/// # Examples
/// ```
/// use motet_http::TraceContext;
///
/// let came: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// let goes_on = came.child();
/// assert_eq!(goes_on.trace_id(), came.trace_id());
/// assert_ne!(goes_on.span_id(), came.span_id());
/// assert!(goes_on.is_sampled());
/// # Ok::<_, motet_http::TraceContextError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace: NonZeroU128,
    span: NonZeroU64,
    flags: u8,
    state: Option<HeaderValue>,
}

/// The error for a text that is not a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContextError;

impl TraceContext {
    /// Creates the context of a span with these ids.
    #[must_use]
    pub fn new(trace: NonZeroU128, span: NonZeroU64, sampled: Sampled) -> Self {
        Self { trace, span, flags: u8::from(sampled == Sampled::Yes), state: None }
    }

    /// Creates a new trace with random ids.
    #[must_use]
    pub fn begin(sampled: Sampled) -> Self {
        let high = u128::from(random().get()) << 64;
        Self::new(NonZeroU128::from(random()) | high, random(), sampled)
    }

    /// Reads the context from the headers of a request. An invalid `traceparent` is ignored, as the specification
    /// demands.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let context: Self = headers.get(TRACEPARENT)?.to_str().ok()?.parse().ok()?;
        Some(Self { state: headers.get(TRACESTATE).cloned(), ..context })
    }

    /// Creates the context of a child: the same trace, a new span.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span: random(), ..self.clone() }
    }

    /// Returns the id of the trace.
    #[must_use]
    pub fn trace_id(&self) -> NonZeroU128 {
        self.trace
    }

    /// Returns the id of the span.
    #[must_use]
    pub fn span_id(&self) -> NonZeroU64 {
        self.span
    }

    /// Returns `true` if the caller may have recorded the trace.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// Writes the context to the headers of a request, replacing an existing one.
    pub fn write_to(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
        match &self.state {
            Some(state) => drop(headers.insert(TRACESTATE, state.clone())),
            None => drop(headers.remove(TRACESTATE)),
        }
    }
}

/// Whether a trace is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampled {
    /// The service that started the trace records it.
    Yes,
    /// The trace may not be recorded.
    No,
}

fn random() -> NonZeroU64 {
    // Zero is not a valid id; it comes up once in 2^64 draws.
    NonZeroU64::new(rng::with(rng::Rng::next_u64)).unwrap_or(NonZeroU64::MIN)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = TraceContextError;

    /// A later version may have more fields; `ff` is invalid (3.2.2.1).
    fn from_str(text: &str) -> Result<Self, TraceContextError> {
        let mut parts = text.splitn(5, '-');
        let mut part = |digits| parts.next().and_then(|part| hex(part, digits)).ok_or(TraceContextError);
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let rest = parts.next();
        if version == 0xff || (version == 0 && rest.is_some()) {
            return Err(TraceContextError);
        }
        Ok(Self {
            trace: NonZeroU128::new(trace).ok_or(TraceContextError)?,
            span: u64::try_from(span).ok().and_then(NonZeroU64::new).ok_or(TraceContextError)?,
            // Only the first flag is defined in version 00, and only it is passed on.
            flags: u8::from(flags & 1 == 1),
            state: None,
        })
    }
}

/// Parses `N` lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let fits = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    fits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for TraceContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a valid traceparent of W3C Trace Context")
    }
}

impl std::error::Error for TraceContextError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn malformed_traceparent_is_refused() {
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(wrong.parse::<TraceContext>(), Err(TraceContextError), "{wrong}");
        }
    }

    #[test]
    fn traceparent_of_a_later_version_is_read() {
        let later = format!("cc{}-what-the-future-holds", &EXAMPLE[2..]);
        assert_eq!(later.parse::<TraceContext>(), EXAMPLE.parse());
    }

    #[test]
    fn child_span_passes_tracestate_on_and_a_new_trace_removes_it() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(EXAMPLE));
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        let context = TraceContext::from_headers(&headers).unwrap();
        let mut out = HeaderMap::new();
        context.child().write_to(&mut out);
        assert_eq!(out.get(TRACESTATE).unwrap(), "vendor=1");
        TraceContext::begin(Sampled::No).write_to(&mut out);
        assert_eq!(out.get(TRACESTATE), None);
    }

    proptest! {
        #[test]
        fn written_trace_context_parses_back(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let sampled = if sampled { Sampled::Yes } else { Sampled::No };
            let context =
                TraceContext::new(NonZeroU128::new(trace).unwrap(), NonZeroU64::new(span).unwrap(), sampled);
            prop_assert_eq!(context.to_string().parse(), Ok(context));
        }

        #[test]
        fn parsing_any_text_as_a_traceparent_does_not_panic(
            text in prop_oneof![any::<String>(), "[0-9a-g]{1,3}-[0-9a-fA-F]{31,33}-[0-9a-f]{15,17}-.{0,4}"],
        ) {
            let _any = text.parse::<TraceContext>();
        }
    }
}
