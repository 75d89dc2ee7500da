use http::header::{ACCEPT, HOST};
use http::{HeaderMap, HeaderValue};

use super::target::Base;
use crate::connect::Versions;

/// The headers that a client sends by itself.
pub(super) struct Defaults {
    /// Those that the requests of a client have in common.
    pub(super) headers: HeaderMap,
    /// All that a request to the base URL has which has none of its own, to be copied as they are.
    plain: HeaderMap,
    /// The same of one that asks for JSON.
    json: HeaderMap,
}

impl Defaults {
    pub(super) fn new(headers: HeaderMap, base: Option<&Base>, versions: Versions) -> Self {
        let mut plain = HeaderMap::with_capacity(headers.len() + 1);
        // What HTTP/1.1 must have, hyper makes anew for each request that has none. HTTP/2 has it elsewhere.
        if let Some(base) = base
            && base.host.scheme() == "http"
            && versions != Versions::Http2
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

    /// Of a request to the base URL that has no headers of its own.
    pub(super) fn of_base(&self, reads_json: bool) -> HeaderMap {
        if reads_json { self.json.clone() } else { self.plain.clone() }
    }
}

/// Unless something else is accepted.
pub(super) fn accept_json(headers: &mut HeaderMap) {
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
}
