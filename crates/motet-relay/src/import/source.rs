//! The source of an import: the API of Svix, or of another relay.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use motet::resilience::Retry;
use motet::stream::{Yielder, try_generator};
use motet::task::{CancelToken, Either, Scope, race};
use motet_http::ApiClient;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_stream::Stream;

use super::copy::CopyError;
use crate::control::{CommandError, printable, refusal_detail};
use crate::masked::Masked;

const PREFIX: &str = "/api/v1";

/// The largest page that the servers of the API send.
const PAGE: &str = "250";

/// A source may limit the rate of requests: it is asked again for as long as it names.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 6;
const TIMEOUT: Duration = Duration::from_secs(180);

/// A client of the source.
#[derive(Debug)]
pub(super) struct Source {
    api: ApiClient,
    token: String,
    /// Reads end when it is cancelled.
    stop: CancelToken,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    pub(super) iterator: Option<String>,
    pub(super) done: bool,
}

/// An event type of the catalogue. Members that are not named here cannot be taken.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventType {
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: String,
    pub(super) schemas: Option<Value>,
    pub(super) group_name: Option<String>,
    #[serde(default)]
    pub(super) archived: bool,
    #[serde(default)]
    pub(super) deprecated: bool,
    pub(super) feature_flag: Option<String>,
    pub(super) feature_flags: Option<Vec<String>>,
}

/// An application.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Application {
    pub(super) id: String,
    pub(super) uid: Option<String>,
    pub(super) name: String,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) rate_limit: Option<u64>,
    pub(super) throttle_rate: Option<u64>,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub(super) id: String,
    pub(super) uid: Option<String>,
    pub(super) url: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) filter_types: Option<Vec<String>>,
    pub(super) event_types: Option<Vec<String>>,
    pub(super) channels: Option<Vec<String>>,
    #[serde(default)]
    pub(super) disabled: bool,
    pub(super) rate_limit: Option<u32>,
    pub(super) throttle_rate: Option<u32>,
}

impl Application {
    /// The name by which the programs of the source's users find the application.
    pub(super) fn name_of_users(&self) -> &str {
        self.uid.as_deref().unwrap_or(&self.id)
    }
}

impl Endpoint {
    /// The name by which the programs of the source's users find the endpoint.
    pub(super) fn name_of_users(&self) -> &str {
        self.uid.as_deref().unwrap_or(&self.id)
    }

    /// The event types, sorted; `None` selects all.
    pub(super) fn types(&self) -> Option<Vec<String>> {
        sorted(self.event_types.as_ref().or(self.filter_types.as_ref()))
    }

    pub(super) fn channels(&self) -> Option<Vec<String>> {
        sorted(self.channels.as_ref())
    }

    pub(super) fn rate(&self) -> Option<u32> {
        self.throttle_rate.or(self.rate_limit)
    }
}

fn sorted(names: Option<&Vec<String>>) -> Option<Vec<String>> {
    let mut names = names.cloned().filter(|names| !names.is_empty())?;
    names.sort_unstable();
    Some(names)
}

/// The headers that the source sends with each delivery. It does not show the values of some.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Headers {
    #[serde(default)]
    pub(super) headers: Masked<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) sensitive: Vec<String>,
}

/// The signing secret of an endpoint.
#[derive(Debug, Deserialize)]
pub(super) struct Secret {
    pub(super) key: Masked<String>,
}

#[derive(Debug, Deserialize)]
struct Transformation {
    #[serde(default)]
    enabled: bool,
}

impl Source {
    /// Creates a client. `url` is the one that is given to the clients of Svix, with or without `/api/v1`.
    pub(super) fn new(
        scope: &Scope,
        url: &str,
        token: String,
        stop: CancelToken,
    ) -> Result<Self, CommandError> {
        let url = url.trim_end_matches('/');
        let base = format!("{}{PREFIX}", url.strip_suffix(PREFIX).unwrap_or(url));
        let api = ApiClient::builder(scope)
            .name("source")
            .base_url(&base)
            .timeout(TIMEOUT)
            .max_retry_after(LONGEST_RETRY_AFTER)
            .retry(Retry::new().attempts(ATTEMPTS).map_err(|error| CommandError::Ended(error.to_string()))?)
            .build()?;
        Ok(Self { api, token, stop })
    }

    /// Returns the items of a list, page by page; [`CopyError::Gone`] if there is no such list.
    pub(super) fn list<T: DeserializeOwned + Send + 'static>(
        self: &Arc<Self>,
        path: String,
        query: &'static [(&'static str, &'static str)],
    ) -> impl Stream<Item = Result<T, CopyError>> + Send + Unpin + use<T> {
        let source = Arc::clone(self);
        Box::pin(try_generator(async move |mut y: Yielder<T>| {
            let mut seen = HashSet::new();
            let mut iterator = None::<String>;
            loop {
                let mut query = [query, &[("limit", PAGE)]].concat();
                query.extend(iterator.as_deref().map(|iterator| ("iterator", iterator)));
                let page: Page<T> = source.get(&path, &query).await?.ok_or(CopyError::Gone)?;
                for item in page.data {
                    y.emit(item).await;
                }
                let Some(next) = page.iterator.filter(|_| !page.done) else { return Ok::<_, CopyError>(()) };
                if !seen.insert(next.clone()) {
                    let error =
                        format!("the source repeats a page of {PREFIX}{path}; nothing behind it can be read");
                    return Err(CommandError::Ended(error).into());
                }
                iterator = Some(next);
            }
        }))
    }

    /// Returns the secret of an endpoint; `None` if the endpoint does not exist any more.
    pub(super) async fn secret(&self, endpoint: &str) -> Result<Option<Masked<String>>, CopyError> {
        Ok(self.get(&format!("{endpoint}/secret"), &[]).await?.map(|Secret { key }| key))
    }

    pub(super) async fn headers(&self, endpoint: &str) -> Result<Headers, CopyError> {
        Ok(self.get(&format!("{endpoint}/headers"), &[]).await?.unwrap_or_default())
    }

    /// Returns `true` if the source changes the messages of an endpoint before it sends them.
    pub(super) async fn transforms(&self, endpoint: &str) -> Result<bool, CopyError> {
        match self.get(&format!("{endpoint}/transformation"), &[]).await {
            Ok(found) => Ok(found.is_some_and(|Transformation { enabled }| enabled)),
            // A source without transformations.
            Err(CopyError::Failed(CommandError::Source { status: StatusCode::NOT_IMPLEMENTED, .. })) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns `None` if the source answers that the object does not exist.
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<T>, CopyError> {
        match race(self.stop.cancelled(), self.read(path, query)).await {
            Either::Left(_) => Err(CopyError::Stopped),
            Either::Right(read) => Ok(read?),
        }
    }

    async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<T>, CommandError> {
        let response = self.api.get(path).query(query.iter().copied()).bearer(&self.token).send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(Some(response.json().await?));
        }
        let body = response.bytes().await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => {
                // The text comes from the source, which may repeat the request in it.
                let detail = printable(&refusal_detail(&body)).replace(&self.token, "***");
                Err(CommandError::Source { status, detail })
            }
        }
    }
}
