//! The client of the commands: it sends requests of the API to a relay.
//!
//! | The command names | The requests go to |
//! |---|---|
//! | a data directory that a running relay uses | the [control socket](ControlSocket) in the directory, without a key |
//! | a data directory of a stopped relay | the same routes in the command's own process, which has opened the store |
//! | a server and a key | the server, with the rights of the key |

mod backup;
mod check;
mod erase;
mod error;
mod keys;
mod rekey;
mod restore;
mod retention;
mod socket;
mod table;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use motet::task::{CancelToken, Nursery, Scope, ScopeError, scope};
use motet_http::{ApiClient, MemoryConnector, MemoryListener, Server};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::{Instant, MissedTickBehavior, interval};

pub use self::backup::run_backup_command;
pub use self::check::run_check_command;
pub use self::erase::run_erase_command;
pub use self::error::CommandError;
pub use self::keys::run_key_command;
pub use self::rekey::run_rekey_command;
pub use self::restore::run_restore_command;
pub use self::retention::run_retention_command;
pub(crate) use self::socket::ControlSocket;
pub(crate) use self::table::{printable, table};
use crate::api;
use crate::config::{Config, KeySource, StoreUse};
use crate::error::{OpenError, StartError};
use crate::masked::Masked;
use crate::parts::{self, part};
use crate::store;

/// A relay that uses the directory and has no socket may be starting: it is waited for.
const STARTING: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The relay that a command is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ControlTarget {
    /// The relay that uses this data directory, running or stopped. The keys are those of a stopped one.
    Data { directory: PathBuf, secret_keys: KeySource, lost_key: Option<String> },
    /// A relay that is reached by its URL, with the rights of a key.
    Server { url: String, key: Masked<String> },
}

/// A client of a relay's APIs. Paths begin with `/v1` or `/api/v1`.
#[derive(Debug)]
pub(crate) struct Control {
    api: ApiClient,
    key: Option<Masked<String>>,
    has_opened_store: bool,
}

impl Control {
    /// Connects to the relay of a command, or opens the store of a stopped relay. The store is closed at the end of
    /// `scope`.
    pub(crate) async fn open(scope: &Scope, target: ControlTarget) -> Result<Self, CommandError> {
        match target {
            ControlTarget::Server { url, key } => {
                let api = ApiClient::builder(scope).base_url(url.trim_end_matches('/')).build()?;
                Ok(Self { api, key: Some(key), has_opened_store: false })
            }
            ControlTarget::Data { directory, secret_keys, lost_key } => {
                let mut config = Config::new(directory, ([127, 0, 0, 1], 0).into());
                config.secret_keys = secret_keys;
                config.store_use = StoreUse::Command { lost_key };
                Self::open_data(scope, config).await
            }
        }
    }

    /// Returns `true` if relay is stopped, and the command itself has opened its store.
    pub(crate) const fn has_opened_store(&self) -> bool {
        self.has_opened_store
    }

    async fn open_data(scope: &Scope, config: Config) -> Result<Self, CommandError> {
        let directory = &*config.data;
        let deadline = Instant::now() + STARTING;
        let mut ticks = interval(LOOK_AGAIN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(control) = Self::over_socket(scope, directory).await? {
                return Ok(control);
            }
            if !store::exists(directory) {
                return Err(CommandError::NoStore { directory: directory.to_owned() });
            }
            match open_store(scope, config.clone()).await {
                Ok(connector) => {
                    let dial = move |_| connector.connect();
                    let control = Self::local(ApiClient::builder(scope).connect_by(dial))?;
                    return Ok(Self { has_opened_store: true, ..control });
                }
                Err(StartError::Open(error)) => match &*error {
                    OpenError::InUse { .. } if Instant::now() < deadline => {}
                    OpenError::InUse { holder, .. } => {
                        let (directory, holder) = (directory.to_owned(), holder.clone());
                        return Err(CommandError::NoSocket { directory, holder });
                    }
                    _ => return Err(StartError::Open(error).into()),
                },
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns `None` if no relay listens on the socket of the directory.
    pub(crate) async fn over_socket(scope: &Scope, directory: &Path) -> Result<Option<Self>, CommandError> {
        let path = socket::path_in(directory);
        match UnixStream::connect(&path).await {
            Ok(_) => {}
            // `InvalidInput`: the path is too long, and so it was for the relay.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::InvalidInput
                ) =>
            {
                return Ok(None);
            }
            Err(source) => return Err(CommandError::Socket { path, source }),
        }
        let dial = move |_| UnixStream::connect(path.clone());
        Self::local(ApiClient::builder(scope).connect_by(dial)).map(Some)
    }

    fn local(api: motet_http::ApiClientBuilder) -> Result<Self, CommandError> {
        Ok(Self { api: api.base_url("http://relay").build()?, key: None, has_opened_store: false })
    }

    /// Sends a request, and returns the body of the response.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Bytes, CommandError> {
        let mut request = self.api.request(method, path);
        if !query.is_empty() {
            request = request.query(query.iter().copied());
        }
        if let Some(key) = &self.key {
            request = request.bearer(key.as_str());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    }

    /// Returns all items of a list, page by page.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<T>, CommandError> {
        let mut items = Vec::new();
        let mut cursor = None::<String>;
        loop {
            let mut query = [query, &[("limit", "100")]].concat();
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let page: Page<T> = parse(&self.request(Method::GET, path, &query, None).await?)?;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(items);
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

/// Parses a response. Another relay than this version may answer in another form.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, CommandError> {
    serde_json::from_slice(body).map_err(CommandError::Answer)
}

/// Returns a value as indented JSON with an end of line.
pub(crate) fn json_text(value: &impl Serialize) -> Result<String, CommandError> {
    let text = serde_json::to_string_pretty(value).map_err(CommandError::Answer)?;
    Ok(format!("{text}\n"))
}

fn refusal(status: StatusCode, body: &[u8]) -> CommandError {
    CommandError::Refused { status, detail: refusal_detail(body) }
}

/// Returns the reason in the body of a refusal: the `detail` of both APIs, or else the beginning of the text.
pub(crate) fn refusal_detail(body: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Detail {
        Text(String),
        Fields(Vec<FieldError>),
    }
    #[derive(Deserialize)]
    struct FieldError {
        msg: String,
    }
    #[derive(Deserialize)]
    struct Refusal {
        detail: Detail,
    }
    match serde_json::from_slice(body).map(|Refusal { detail }| detail) {
        Ok(Detail::Text(text)) => text,
        Ok(Detail::Fields(fields)) => {
            let messages: Vec<_> = fields.into_iter().map(|FieldError { msg }| msg).collect();
            messages.join("; ")
        }
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned(),
    }
}

/// Opens the store of a stopped relay, and serves its routes in memory until the scope ends. No delivery is attempted.
async fn open_store(scope: &Scope, mut config: Config) -> Result<MemoryConnector, StartError> {
    // The address is not used: nothing listens.
    // The settings of `serve` are not known here: no due time may be moved to an earlier one.
    config.retry.cap = Duration::MAX;
    config.auto_disable.probe_every = Duration::MAX;
    // And no event may be deleted because of another time than that of `serve`.
    config.retention = None;
    let running = Arc::new(parts::container(config).start(scope).await?);
    let stop = CancelToken::new();
    let router = api::router(part(&running), running, scope, stop.clone());
    let (listener, connector) = MemoryListener::new();
    // The spawn fails only if the scope has ended, and with it the command.
    drop(scope.service("routes", async move {
        let _served = Server::new().serve(listener, api::for_owner(router), stop).await;
    }));
    Ok(connector)
}

/// Runs a command in a scope of its own, at whose end a store that the command has opened is closed.
pub(crate) async fn in_scope<T>(
    command: impl AsyncFnOnce(&Nursery<CommandError>) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    scope(command).await.map_err(|error| match error {
        ScopeError::Failed { first, .. } => first.error,
        other => CommandError::Ended(other.to_string()),
    })
}
