use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Uri};
use motet::mutant;
use motet::resilience::DynPipeline;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::body::Outgoing;
use super::defaults::{Defaults, accept_json};
use super::error::ErrorKind;
use super::judge::Repeat;
use super::request_line::RequestLine;
use super::{ApiClient, Body, BoxError, Error, Response, target};
use crate::TraceContext;

/// A request as a middleware of an [`ApiClient`] sees it, and may change it.
#[derive(Debug)]
pub struct Request {
    pub(super) line: Arc<RequestLine>,
    /// The headers of the client are [added](Self::put_in) before a middleware or hyper sees them.
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) extensions: Extensions,
    pub(super) settings: Settings,
}

/// Settings of one call, in place of those of the client.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    /// The outer `Option`: whether it was set.
    pub(super) timeout: Option<Option<Duration>>,
    /// Set when the request is sent.
    pub(super) deadline: Option<Instant>,
    pub(super) repeatable: Option<bool>,
    pub(super) pipeline: Option<DynPipeline<Response, Error>>,
    pub(super) redirects: Option<u32>,
    pub(super) reads: Reads,
    /// `true` if the default of the `Accept` header is JSON.
    reads_json: bool,
    /// `true` once the headers of the client have been added.
    is_filled: bool,
}

/// The part of a response that is read within an attempt, and so again after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Reads {
    /// The status and the headers. The body is streamed.
    #[default]
    Head,
    /// Everything, if the status is a success.
    Whole,
}

impl Request {
    pub(super) fn new(method: Method, uri: Uri) -> Self {
        Self {
            line: Arc::new(RequestLine { method, uri }),
            headers: HeaderMap::new(),
            body: Body::empty(),
            extensions: Extensions::new(),
            settings: Settings::default(),
        }
    }

    /// Returns the method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.line.method
    }

    /// Returns the absolute URL.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.line.uri
    }

    /// Returns the headers, including the headers that the client adds.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the headers, mutably.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// Returns the body.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Returns the values that middlewares attach for other middlewares. They are not sent.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Returns the values that middlewares attach, mutably.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Clones the request. Returns `None` if its body is a stream.
    #[must_use]
    pub fn try_clone(&self) -> Option<Self> {
        let body = self.body.try_clone()?;
        Some(self.with_body(body))
    }

    fn with_body(&self, body: Body) -> Self {
        let Self { line, headers, extensions, settings, .. } = self;
        Self {
            line: Arc::clone(line),
            headers: headers.clone(),
            body,
            extensions: extensions.clone(),
            settings: settings.clone(),
        }
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, &self.line)
    }

    /// Adds the headers of the client, so that a middleware sees all headers.
    pub(super) fn put_in(&mut self, defaults: &Defaults) {
        if !self.settings.is_filled {
            self.headers = self.all_headers(&defaults.headers);
            self.settings.is_filled = true;
        }
    }

    /// The headers of the request and of the client, with capacity for the `Host` that hyper adds.
    fn all_headers(&self, defaults: &HeaderMap) -> HeaderMap {
        let own = &self.headers;
        let mut all = HeaderMap::with_capacity(defaults.len() + own.len() + 2);
        let others = defaults.iter().filter(|(name, _)| !own.contains_key(*name));
        for (name, value) in others.chain(own) {
            all.append(name, value.clone());
        }
        if self.settings.reads_json {
            accept_json(&mut all);
        }
        all
    }

    /// Returns the request for hyper, or `None` if its body has been sent.
    pub(super) fn outgoing(
        &self,
        defaults: &Defaults,
        is_below_base: bool,
    ) -> Option<http::Request<Outgoing>> {
        let mut outgoing = http::Request::new(self.body.outgoing()?);
        *outgoing.method_mut() = self.line.method.clone();
        *outgoing.uri_mut() = self.line.uri.clone();
        *outgoing.headers_mut() = if self.settings.is_filled {
            self.headers.clone()
        } else if self.headers.is_empty() && is_below_base {
            defaults.of_base(self.settings.reads_json)
        } else {
            self.all_headers(&defaults.headers)
        };
        Some(outgoing)
    }

    /// Returns when the request may be repeated.
    pub(super) fn repeat(&self, max_retry_after: Duration) -> Repeat {
        if self.body.as_bytes().is_none() {
            return Repeat::NEVER;
        }
        let set = self.settings.repeatable;
        let mut sent = set.unwrap_or_else(|| self.line.method.is_idempotent());
        if mutant!("http.retry_unsafe") {
            sent = set.unwrap_or(true);
        }
        Repeat { sent, unsent: set != Some(false), max_retry_after }
    }
}

/// A builder for a request, created by [`ApiClient::get`] and the like.
///
/// Errors in its settings are reported when it is sent.
#[must_use = "a request does nothing until it is sent"]
#[derive(Debug)]
pub struct RequestBuilder<'c> {
    client: &'c ApiClient,
    /// Boxed, since each setter moves it.
    request: Result<Box<Request>, Error>,
}

impl<'c> RequestBuilder<'c> {
    pub(super) fn new(client: &'c ApiClient, method: Method, path: &str) -> Self {
        let core = client.core();
        let request = match target::resolve(core.base.as_ref(), path) {
            Ok(uri) => Ok(Box::new(Request::new(method, uri))),
            Err(error) => Err(Request::new(method, Uri::default()).error(ErrorKind::Request(error))),
        };
        Self { client, request }
    }

    fn change(mut self, change: impl FnOnce(&mut Request) -> Result<(), BoxError>) -> Self {
        if let Ok(request) = &mut self.request
            && let Err(error) = change(request)
        {
            self.request = Err(request.error(ErrorKind::Request(error)));
        }
        self
    }

    /// Adds a header. It replaces a header of that name of the client.
    pub fn header<N, V>(self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName, Error: Into<BoxError>>,
        V: TryInto<HeaderValue, Error: Into<BoxError>>,
    {
        self.change(|request| {
            let name = name.try_into().map_err(Into::into)?;
            request.headers.insert(name, value.try_into().map_err(Into::into)?);
            Ok(())
        })
    }

    /// Sends `token` as `Authorization: Bearer`. It is not printed with the request.
    pub fn bearer(self, token: &str) -> Self {
        self.change(|request| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
            value.set_sensitive(true);
            request.headers.insert(AUTHORIZATION, value);
            Ok(())
        })
    }

    /// Adds pairs to the query, in form encoding.
    pub fn query<K, V>(self, pairs: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        self.change(|request| {
            let mut url = url::Url::parse(&request.uri().to_string())?;
            url.query_pairs_mut().extend_pairs(pairs);
            let (method, uri) = (request.method().clone(), target::to_uri(&url)?);
            request.line = Arc::new(RequestLine { method, uri });
            Ok(())
        })
    }

    /// Sets the body.
    pub fn body(self, body: impl Into<Body>) -> Self {
        self.change(|request| {
            request.body = body.into();
            Ok(())
        })
    }

    /// Sets the body to `value` as JSON.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Self {
        let defaults = &self.client.core().defaults.headers;
        self.change(|request| {
            request.body = Body::from(serde_json::to_vec(value)?);
            if !defaults.contains_key(CONTENT_TYPE) {
                request.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            }
            Ok(())
        })
    }

    /// Marks the request as idempotent, whatever its method, so that it is retried.
    pub fn idempotent(self) -> Self {
        self.repeatable(true)
    }

    /// Sends an `Idempotency-Key`, by which the server recognizes a repeated request, and marks the request as
    /// [`idempotent`](Self::idempotent).
    pub fn idempotency_key(self, key: &str) -> Self {
        self.header(HeaderName::from_static("idempotency-key"), key).idempotent()
    }

    /// Turns retries off for this call.
    pub fn once(self) -> Self {
        self.repeatable(false)
    }

    fn repeatable(self, repeatable: bool) -> Self {
        self.change(|request| {
            request.settings.repeatable = Some(repeatable);
            Ok(())
        })
    }

    /// Sets the timeout of this call, to the end of its response body, in place of the client's timeout. Zero fails the
    /// call immediately, for a caller whose deadline has passed; [`Duration::MAX`] means no limit.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.limit(Some(timeout))
    }

    /// Removes the timeout of this call, for a response without end.
    pub fn without_timeout(self) -> Self {
        self.limit(None)
    }

    fn limit(self, within: Option<Duration>) -> Self {
        self.change(|request| {
            request.settings.timeout = Some(within);
            Ok(())
        })
    }

    /// Runs the attempts of this call through `pipeline`, in place of the client's retry policy: see
    /// [`ApiClientBuilder::pipeline`](super::ApiClientBuilder::pipeline).
    pub fn pipeline(self, pipeline: DynPipeline<Response, Error>) -> Self {
        self.change(|request| {
            request.settings.pipeline = Some(pipeline);
            Ok(())
        })
    }

    /// Follows up to `most` redirects, in place of the client's limit.
    pub fn redirects(self, most: u32) -> Self {
        self.change(|request| {
            request.settings.redirects = Some(most);
            Ok(())
        })
    }

    /// Propagates a trace: the request carries a child of `context`.
    pub fn trace(self, context: &TraceContext) -> Self {
        self.change(|request| {
            context.child().write_to(&mut request.headers);
            Ok(())
        })
    }

    /// Sends the request. Returns the response when its headers have arrived, whatever the status.
    ///
    /// The body is read by the caller, within the timeout of the call.
    ///
    /// # Cancel safety
    /// The request is aborted: its connection is closed (HTTP/1.1) or its stream is reset (HTTP/2). It is unknown whether
    /// the request had its effect on the server. The slot for the host is free.
    ///
    /// # Errors
    /// [`Error`]. A non-2xx status is not an error here: see [`Response::success`].
    pub async fn send(self) -> Result<Response, Error> {
        self.client.call(self.request?).await
    }

    /// Sends the request. Returns the response when its whole body has arrived and its status is a success.
    ///
    /// The body is read within the attempt: if it breaks off, the request is retried if it may be repeated.
    ///
    /// # Cancel safety
    /// Like [`send`](Self::send).
    ///
    /// # Errors
    /// [`Error`]: also for a non-2xx status, with the beginning of the body, and for a body larger than
    /// [`max_body`](super::ApiClientBuilder::max_body).
    pub async fn fetch(self) -> Result<Response, Error> {
        let mut request = self.request?;
        request.settings.reads = Reads::Whole;
        self.client.call(request).await
    }

    /// Sends the request. Returns the body of a successful response.
    ///
    /// # Cancel safety
    /// Like [`send`](Self::send).
    ///
    /// # Errors
    /// Like [`fetch`](Self::fetch).
    pub async fn fetch_bytes(self) -> Result<Bytes, Error> {
        self.fetch().await?.bytes().await
    }

    /// Sends the request. Returns the body of a successful response, decoded from JSON.
    ///
    /// # Cancel safety
    /// Like [`send`](Self::send).
    ///
    /// # Errors
    /// Like [`fetch`](Self::fetch), and [`ErrorKind::Decode`] with the path in the document that does not match.
    pub async fn fetch_json<T: DeserializeOwned>(mut self) -> Result<T, Error> {
        if let Ok(request) = &mut self.request {
            request.settings.reads_json = true;
        }
        self.fetch().await?.json().await
    }
}
