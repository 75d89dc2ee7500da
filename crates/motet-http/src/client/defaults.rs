use http::header::{ACCEPT, HOST};
use http::{HeaderMap, HeaderValue};

use super::target::Base;
use crate::connect::Versions;

/// The headers that a client sends by itself.
pub(super) struct Defaults {
    /// The headers of all requests of a client.
    pub(super) headers: HeaderMap,
    /// All headers of a request to the base URL without its own headers, ready to be cloned.
    plain: HeaderMap,
    /// Like `plain`, for a request that reads JSON.
    json: HeaderMap,
}

impl Defaults {
    pub(super) fn new(headers: HeaderMap, base: Option<&Base>, versions: Versions) -> Self {
        let mut plain = HeaderMap::with_capacity(headers.len() + 1);
        // hyper creates the `Host` of HTTP/1.1 for each request without one. HTTP/2 has no such header.
        if let Some(base) = base
            && base.host.scheme() == "http"
            && versions.sends_host()
            && !headers.contains_key(HOST)
            && let Ok(host) = HeaderValue::from_str(base.host.authority.as_str())
        {
            plain.insert(HOST, host);
        }
        plain.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let mut json = plain.clone();
        accept_json(&mut json);
        Self { headers, plain, json }
    }

    /// Returns the headers of a request to the base URL without its own headers.
    pub(super) fn of_base(&self, reads_json: bool) -> HeaderMap {
        if reads_json { self.json.clone() } else { self.plain.clone() }
    }
}

/// Unless something else is accepted.
pub(super) fn accept_json(headers: &mut HeaderMap) {
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
}
