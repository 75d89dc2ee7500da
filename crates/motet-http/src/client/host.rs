use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;
use http::uri::{Authority, Scheme};
use motet::resilience::{Bulkhead, BulkheadBuilder, BulkheadPermit, RejectedError};
use rustls_pki_types::ServerName;

/// A host: scheme, name and port. Connections, limits and breakers are kept per host.
#[derive(Clone)]
pub struct Host {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// Computed once: a call looks up its host twice, and hashing without regard to case is slow.
    hash: u64,
}

impl Host {
    /// Returns the host of an absolute URL, or `None` for a relative one.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let (scheme, authority) = (uri.scheme()?.clone(), uri.authority()?.clone());
        let mut hasher = DefaultHasher::new();
        scheme.hash(&mut hasher);
        if authority.as_str().bytes().any(|byte| byte.is_ascii_uppercase()) {
            hasher.write(authority.as_str().to_ascii_lowercase().as_bytes());
        } else {
            hasher.write(authority.as_str().as_bytes());
        }
        Some(Self { scheme, authority, hash: hasher.finish() })
    }

    /// Returns `true` if `uri` has this host, in the same spelling.
    pub(super) fn is_of(&self, uri: &Uri) -> bool {
        uri.authority().is_some_and(|authority| authority.as_str() == self.authority.as_str())
            && uri.scheme() == Some(&self.scheme)
    }

    /// Checks that connections can be made to a host of this name: an address, or a name with labels of 1 to 63 letters,
    /// digits, hyphens and underscores, 253 bytes in all.
    ///
    /// # Errors
    /// [`HostNameError`]: the name can never be resolved.
    pub fn check_name(name: &str) -> Result<(), HostNameError> {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        match ServerName::try_from(bare) {
            Ok(_) => Ok(()),
            Err(_) => Err(HostNameError { name: name.to_owned() }),
        }
    }

    /// Returns the name, without the port.
    #[must_use]
    pub fn name(&self) -> &str {
        self.authority.host()
    }

    /// Returns the port, or `None` for the default port of the scheme.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.authority.port_u16()
    }

    /// Returns the scheme: `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.scheme.as_str()
    }
}

/// The error for a name that no host can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is not a name of a host: its labels have 1 to 63 letters, digits, hyphens and underscores each, no hyphen at \
     either end, and not digits alone in the last one"
)]
pub struct HostNameError {
    name: String,
}

impl PartialEq for Host {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.authority.as_str(), other.authority.as_str());
        self.hash == other.hash && self.scheme == other.scheme && (a == b || a.eq_ignore_ascii_case(b))
    }
}

impl Eq for Host {}

impl Hash for Host {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({self})")
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// Limits the calls in flight per host, response bodies included.
#[derive(Debug)]
pub(super) struct Places {
    each: BulkheadBuilder,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    hosts: HashMap<Host, Arc<Bulkhead>>,
    /// The number of hosts at which unused hosts are removed.
    sweep_at: usize,
}

/// The number of hosts that are always kept: a few kilobytes.
const SWEEP_AT: usize = 256;

impl Places {
    /// `each` has been validated.
    pub(super) fn new(each: BulkheadBuilder) -> Self {
        Self { each, kept: Mutex::new(Kept { hosts: HashMap::new(), sweep_at: SWEEP_AT }) }
    }

    pub(super) async fn take(&self, host: &Host) -> Result<BulkheadPermit<'static>, RejectedError> {
        let bulkhead = self.of(host);
        let permit = bulkhead.acquire().await?.into_owned();
        // The handle counts as a user until the slot is taken: see `sweep`.
        drop(bulkhead);
        Ok(permit)
    }

    fn of(&self, host: &Host) -> Arc<Bulkhead> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bulkhead) = kept.hosts.get(host) {
            return Arc::clone(bulkhead);
        }
        if kept.hosts.len() >= kept.sweep_at {
            kept.sweep();
        }
        let bulkhead = Arc::new(self.each.clone().build().expect("it was built before"));
        kept.hosts.insert(host.clone(), Arc::clone(&bulkhead));
        bulkhead
    }

    /// Returns the calls in flight and the waiting calls, over all hosts.
    pub(super) fn count(&self) -> (usize, usize) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.hosts.values().map(|host| host.stats()).fold((0, 0), |(in_flight, waiting), stats| {
            (in_flight + stats.in_flight, waiting + stats.waiting)
        })
    }
}

impl Kept {
    /// Removes the hosts without calls. The next sweep is at twice the number of the remaining hosts, so that its cost
    /// per new host is constant on average.
    fn sweep(&mut self) {
        self.hosts.retain(|_, bulkhead| Arc::strong_count(bulkhead) > 1 || bulkhead.stats().in_flight > 0);
        self.sweep_at = SWEEP_AT.max(self.hosts.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: usize) -> Host {
        Host::of(&format!("http://h{number}.example:80/path").parse().unwrap()).unwrap()
    }

    #[test]
    fn hosts_differ_by_scheme_port_or_name_and_not_by_case() {
        let of = |uri: &str| Host::of(&uri.parse().unwrap()).unwrap();
        assert_eq!(of("http://A.example/x"), of("http://a.example/y?z"));
        for other in ["https://a.example", "http://a.example:8080", "http://b.example"] {
            assert_ne!(of("http://a.example"), of(other));
        }
    }

    #[test]
    fn host_is_displayed_with_scheme_and_port() {
        let host = Host::of(&"https://a.example:8443/path".parse().unwrap()).unwrap();
        assert_eq!(host.to_string(), "https://a.example:8443");
    }

    #[test]
    fn relative_url_has_no_host() {
        assert_eq!(Host::of(&"/path".parse().unwrap()), None);
    }

    #[tokio::test]
    async fn unused_hosts_are_swept_and_a_host_in_use_is_kept() {
        let places = Places::new(Bulkhead::builder(1));
        let held = places.take(&host(0)).await.unwrap();
        for number in 1..10_000 {
            drop(places.take(&host(number)).await.unwrap());
        }
        assert!(places.kept.lock().unwrap().hosts.len() <= SWEEP_AT);
        assert!(places.take(&host(0)).await.is_err(), "its only place is taken");
        drop(held);
        assert!(places.take(&host(0)).await.is_ok());
    }
}
