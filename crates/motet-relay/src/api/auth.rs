//! Authentication: which key sent a request, and what the key allows.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Extensions, HeaderMap, StatusCode};
use motet::middleware::Next;
use motet::resilience::RateLimiter;
use motet::task::CancelToken;
use motet_http::Peer;

use super::memory::AnswerOf;
use super::problem::Problem;
use crate::access::{KeyScope, KeyScopes};
use crate::clock::{Clock, rfc3339};
use crate::error::StartError;
use crate::store::{Creator, KeyHash, KeyRefusal, KeyRing, NewKey, Store, TenantSeq, ValidKey, hash_key};

/// An API key in clear text: `rk_<id>_<secret>`. It exists only from its creation until it is shown. `Debug` does not
/// show it.
///
/// It has no dot: clients of Svix take the text after a dot for the region of a server.
#[derive(Clone)]
pub(crate) struct ApiKey {
    id: String,
    text: String,
}

const ID_LENGTH: usize = 8;

/// 43 characters of base 62 have 256 bits.
const SECRET_LENGTH: usize = 43;

const BASE_62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl ApiKey {
    pub(super) fn generate() -> Result<Self, getrandom::Error> {
        let id = random_text(ID_LENGTH)?;
        let text = format!("rk_{id}_{}", random_text(SECRET_LENGTH)?);
        Ok(Self { id, text })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn expose(&self) -> &str {
        &self.text
    }

    pub(super) fn hash(&self) -> KeyHash {
        hash_key(&self.text)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey(rk_{}_..)", self.id)
    }
}

/// Returns random characters of base 62, all equally likely.
fn random_text(length: usize) -> Result<String, getrandom::Error> {
    let mut text = String::with_capacity(length);
    let mut bytes = [0; 64];
    while text.len() < length {
        getrandom::fill(&mut bytes)?;
        // The bytes from 248 would make the first eight characters likelier.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        text.extend(fair.take(length - text.len()).map(|byte| char::from(BASE_62[usize::from(byte % 62)])));
    }
    Ok(text)
}

/// The sender of a request, as far as it decides what the sender may do. It is in the extensions of every request that
/// passed [`authenticate`].
#[derive(Debug, Clone)]
pub(crate) enum Principal {
    /// A client with an API key.
    Key(Arc<ValidKey>),
    /// A client of the control socket, which the owner of the data directory can open, or the command itself that has
    /// opened the store.
    Control,
}

impl Principal {
    /// The only tenant whose resources the sender may name. `None`: all tenants.
    pub(crate) fn tenant(&self) -> Option<TenantSeq> {
        match self {
            Self::Key(key) => key.tenant(),
            Self::Control => None,
        }
    }

    /// The id of the sender's API key.
    pub(super) fn key_id(&self) -> Option<String> {
        match self {
            Self::Key(key) => Some(key.id().to_owned()),
            Self::Control => None,
        }
    }

    /// Returns the sender as the creator of a key or a session.
    pub(super) fn creator(&self) -> Creator {
        match self {
            Self::Key(key) => Creator::Key { id: key.id().to_owned(), tenant: key.tenant() },
            Self::Control => Creator::Owner,
        }
    }

    /// Returns `true` if the sender has the scope.
    pub(crate) fn allows(&self, scope: KeyScope) -> bool {
        match self {
            Self::Key(key) => key.scopes().allow(scope),
            Self::Control => KeyScopes::ADMIN.allow(scope),
        }
    }

    /// Returns a 403 that names the scope, unless the sender has it.
    pub(super) fn require(&self, scope: KeyScope) -> Result<(), Problem> {
        if self.allows(scope) {
            return Ok(());
        }
        let key = match self {
            Self::Key(key) => format!("API key {}", key.id()),
            Self::Control => "control socket".to_owned(),
        };
        Err(Problem::new(StatusCode::FORBIDDEN, format!("the {key} does not have the scope '{scope}'")))
    }

    /// Returns a 403 if the sender's key is a key of one tenant.
    pub(super) fn require_all_tenants(&self) -> Result<(), Problem> {
        if self.tenant().is_none() { Ok(()) } else { Err(Problem::needs_all_tenants()) }
    }

    /// A token that is cancelled when the sender's key is revoked or has expired: it ends a response without end.
    pub(super) fn ended(&self) -> CancelToken {
        match self {
            Self::Key(key) => key.ended().clone(),
            Self::Control => CancelToken::new(),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::unauthenticated)
    }
}

/// The API keys, as requests present them.
#[derive(Debug)]
pub(crate) struct ApiKeys {
    ring: Arc<KeyRing>,
    clock: Clock,
    /// The key that this start created.
    new: Option<ApiKey>,
    refused_keys: RefusedKeys,
}

/// Logs and counts requests with unknown keys: a few come from a client with a wrong setting, many from an attack.
#[derive(Debug)]
struct RefusedKeys {
    /// Limits the log to one line a second, however many requests are sent.
    lines: RateLimiter,
    /// Number of refused requests since the last line.
    unlogged: AtomicU64,
}

impl Default for RefusedKeys {
    fn default() -> Self {
        let lines = RateLimiter::builder(1, Duration::from_secs(1)).build();
        Self { lines: lines.expect("these settings are valid"), unlogged: AtomicU64::new(0) }
    }
}

impl RefusedKeys {
    fn note(&self, peer: Option<&Peer>, path: &str) {
        metrics::counter!("relay_api_keys_refused_total").increment(1);
        self.unlogged.fetch_add(1, Ordering::Relaxed);
        if self.lines.try_acquire(1).is_ok() {
            let refused = self.unlogged.swap(0, Ordering::Relaxed);
            let peer = peer.map(|Peer(address)| tracing::field::display(address));
            tracing::warn!(
                refused,
                last_peer = peer,
                last_path = path,
                "requests with unknown API keys were refused"
            );
        }
    }
}

impl ApiKeys {
    pub(super) fn new(ring: Arc<KeyRing>, clock: Clock) -> Self {
        Self { ring, clock, new: None, refused_keys: RefusedKeys::default() }
    }

    /// Returns the keys of the store. If the store has never had a key for everything, one is created, which
    /// [`keep_new_key`](Self::keep_new_key) stores: if the start fails before the key is shown, the store stays
    /// without a key, and the next start creates one.
    pub(crate) async fn load(store: &Store) -> Result<Self, StartError> {
        let keys = Self::new(Arc::clone(store.key_ring()), store.clock().clone());
        if store.has_had_admin_key().await.map_err(StartError::store)? {
            return Ok(keys);
        }
        Ok(Self { new: Some(ApiKey::generate().map_err(StartError::Random)?), ..keys })
    }

    /// Stores the key that this start created, if it created one. Must be called after the key was shown.
    pub(crate) async fn keep_new_key(&self, store: &Store) -> Result<(), StartError> {
        let Some(key) = &self.new else { return Ok(()) };
        let new = NewKey {
            id: key.id.clone(),
            hash: key.hash(),
            tenant: None,
            scopes: KeyScopes::ADMIN,
            name: "first".to_owned(),
            expires_at: None,
        };
        match store.add_key(new, Creator::Owner).await.map_err(StartError::store)? {
            Some(_) => Ok(()),
            None => {
                Err(StartError::Store(format!("another API key has the id {}; start relay again", key.id)))
            }
        }
    }

    pub(crate) fn new_key(&self) -> Option<&str> {
        self.new.as_ref().map(ApiKey::expose)
    }

    /// Checks the key that a request presents.
    fn principal(&self, presented: &str, extensions: &Extensions, path: &str) -> Result<Principal, Problem> {
        match self.ring.verify(presented, self.clock.wall()) {
            Ok(key) => Ok(Principal::Key(key)),
            Err(KeyRefusal::ExpiredAt(at)) => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                format!("this API key expired at {}", rfc3339(at)),
            )),
            Err(KeyRefusal::Unknown) => {
                self.refused_keys.note(extensions.get(), path);
                Err(Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "this API key is not known, or was revoked; `motet-relay key create` creates a key",
                ))
            }
        }
    }

    /// Returns `true` if the sender of a request to an open path may see all tenants: it has presented a key with the scope
    /// `read` for all of them. A key that is not valid is not refused: monitoring must not fail with its key.
    pub(super) fn sees_all_tenants(&self, request: &Parts) -> bool {
        let presented = || {
            let key = credentials(&request.headers, "Bearer")?;
            self.ring.verify(key, self.clock.wall()).ok().map(Principal::Key)
        };
        let sender = request.extensions.get::<Principal>().cloned().or_else(presented);
        sender.is_some_and(|sender| sender.tenant().is_none() && sender.allows(KeyScope::Read))
    }

    /// Checks the credentials for the page: browsers ask for a name and a password, and the password is the key.
    pub(super) fn of_basic(&self, request: &Parts) -> Result<Principal, Problem> {
        if let Some(principal) = request.extensions.get::<Principal>() {
            return Ok(principal.clone());
        }
        let Some(encoded) = credentials(&request.headers, "Basic") else {
            return Err(Problem::unauthenticated());
        };
        let decoded = STANDARD.decode(encoded).ok().and_then(|decoded| String::from_utf8(decoded).ok());
        let password =
            decoded.as_deref().and_then(|pair| pair.split_once(':')).map_or("", |(_, password)| password);
        self.principal(password, &request.extensions, request.uri.path())
    }
}

/// Middleware of the API: requires an API key as a bearer token, except on a connection that has a principal already.
pub(super) async fn authenticate(
    api_keys: Arc<ApiKeys>,
    mut request: Request,
    next: Next<Request, Response>,
) -> Response {
    if request.extensions().get::<Principal>().is_none() {
        let principal = match credentials(request.headers(), "Bearer") {
            Some(key) => api_keys.principal(key, request.extensions(), request.uri().path()),
            None => Err(Problem::unauthenticated()),
        };
        match principal {
            Ok(principal) => drop(request.extensions_mut().insert(principal)),
            Err(problem) => return problem.into_response(),
        }
    }
    let tenant = request.extensions().get::<Principal>().and_then(Principal::tenant);
    let mut response = next.run(request).await;
    if let Some(tenant) = tenant {
        response.extensions_mut().insert(AnswerOf(tenant));
    }
    response
}

fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| credentials.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_has_an_id_and_a_secret_and_no_dot() {
        let keys: Vec<_> = (0..100).map(|_| ApiKey::generate().unwrap()).collect();
        for key in &keys {
            let parts: Vec<_> = key.expose().split('_').collect();
            assert_eq!((parts.len(), parts[0], parts[1], parts[2].len()), (3, "rk", key.id(), SECRET_LENGTH));
            assert!(parts[1..].iter().all(|part| part.bytes().all(|b| b.is_ascii_alphanumeric())));
            let shown = format!("{key:?}");
            assert!(shown.contains(key.id()) && !shown.contains(parts[2]), "{shown}");
        }
        // Every character occurs: 4 300 draws of 62 miss one of them with a probability below 1e-27.
        let used: String = keys.iter().map(|key| &key.expose()[12..]).collect();
        assert!(BASE_62.iter().all(|c| used.contains(char::from(*c))));
    }
}
