//! Authentication: the API and the page require an API key.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Extensions, HeaderMap, StatusCode};
use motet::middleware::Next;
use motet::resilience::RateLimiter;
use motet_http::Peer;

use super::problem::Problem;
use crate::error::StartError;
use crate::store::{Store, hash_key};

/// An API key in clear text. It exists only from its creation until it is shown. `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct ApiKey(String);

impl ApiKey {
    /// Creates a key: `rk_` and 256 random bits.
    fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("rk_{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    fn hash(&self) -> [u8; 32] {
        hash_key(&self.0)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// The valid API keys.
#[derive(Debug, Default)]
pub(crate) struct ApiKeys {
    hashes: Vec<[u8; 32]>,
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
    /// Loads the keys of the store. If the store has none, a key is created, which
    /// [`keep_new_key`](Self::keep_new_key) stores: if the start fails before the key is shown, the store stays
    /// without a key, and the next start creates one.
    pub(crate) async fn load(store: &Store) -> Result<Self, StartError> {
        let hashes = store.key_hashes().await.map_err(StartError::store)?;
        if !hashes.is_empty() {
            return Ok(Self { hashes, ..Self::default() });
        }
        let key = ApiKey::generate().map_err(StartError::Random)?;
        Ok(Self { hashes: vec![key.hash()], new: Some(key), ..Self::default() })
    }

    /// Stores the key that this start created, if it created one. Must be called after the key was shown.
    pub(crate) async fn keep_new_key(&self, store: &Store) -> Result<(), StartError> {
        let Some(key) = &self.new else { return Ok(()) };
        store.add_key(key.hash()).await.map_err(StartError::store)
    }

    /// Creates a key, shows it, and then revokes all other keys. The other keys stay valid until the new key was
    /// shown.
    pub(crate) async fn replace(
        store: &Store,
        show: impl FnOnce(&str) -> io::Result<()>,
    ) -> Result<(), StartError> {
        let key = ApiKey::generate().map_err(StartError::Random)?;
        store.add_key(key.hash()).await.map_err(StartError::store)?;
        if let Err(error) = show(key.expose()) {
            store.remove_key(key.hash()).await.map_err(StartError::store)?;
            return Err(StartError::NotShown(Arc::new(error)));
        }
        store.remove_other_keys(key.hash()).await.map_err(StartError::store)
    }

    pub(crate) fn new_key(&self) -> Option<&str> {
        self.new.as_ref().map(ApiKey::expose)
    }

    /// Logs a request with an unknown key.
    pub(super) fn log_refused(&self, extensions: &Extensions, path: &str) {
        self.refused_keys.note(extensions.get(), path);
    }

    /// Returns `true` if the key is valid. Hashes are compared, so the duration of the comparison reveals nothing
    /// about a key.
    fn accept(&self, key: &str) -> bool {
        self.hashes.contains(&hash_key(key))
    }
}

/// Middleware of the API: requires a bearer token.
pub(super) async fn require_bearer(
    api_keys: Arc<ApiKeys>,
    request: Request,
    next: Next<Request, Response>,
) -> Response {
    let refused = match credentials(request.headers(), "Bearer") {
        Some(key) if api_keys.accept(key) => return next.run(request).await,
        Some(_) => {
            api_keys.log_refused(request.extensions(), request.uri().path());
            "this API key is not known; relay showed the key at its first start on its data directory, and `motet-relay rotate-key` creates a new one"
        }
        None => "send the API key as 'Authorization: Bearer rk_...'",
    };
    Problem::new(StatusCode::UNAUTHORIZED, refused).into_response()
}

/// Checks the credentials for the page: browsers ask for a name and a password, and the password is the key.
pub(super) fn basic_is_accepted(api_keys: &ApiKeys, request: &Parts) -> bool {
    let Some(encoded) = credentials(&request.headers, "Basic") else { return false };
    let accepted = STANDARD
        .decode(encoded)
        .ok()
        .and_then(|decoded| String::from_utf8(decoded).ok())
        .and_then(|pair| pair.split_once(':').map(|(_, password)| api_keys.accept(password)))
        .unwrap_or(false);
    if !accepted {
        api_keys.log_refused(&request.extensions, request.uri.path());
    }
    accepted
}

fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| credentials.trim())
}
