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

/// A request on its way: what a middleware of an [`ApiClient`] sees and may change.
#[derive(Debug)]
pub struct Request {
    pub(super) line: Arc<RequestLine>,
    /// Those of the client are [put in](Self::put_in) once somebody is to see them.
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) extensions: Extensions,
    pub(super) settings: Settings,
}

/// What is asked for one call, in place of what the client does by itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    /// The outer one: whether it was asked for.
    pub(super) timeout: Option<Option<Duration>>,
    /// Set when it is sent.
    pub(super) deadline: Option<Instant>,
    pub(super) repeatable: Option<bool>,
    pub(super) pipeline: Option<DynPipeline<Response, Error>>,
    pub(super) redirects: Option<u32>,
    pub(super) reads: Reads,
    /// Which it says it accepts, unless a header says something else.
    reads_json: bool,
    /// The headers are all that are sent.
    is_filled: bool,
}

/// What is read within an attempt, so that it is repeated if that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Reads {
    /// The status and the headers; the body as it is asked for.
    #[default]
    Head,
    /// All of it, and the status is to be a success.
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

    /// Gives the method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.line.method
    }

    /// Gives the URL, which is absolute.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.line.uri
    }

    /// Gives the headers, those that the client sends by itself included.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Gives the headers, to be changed.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// Gives the body.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Gives what middlewares leave for each other. Nothing of it is sent.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Gives what middlewares leave for each other, to be changed.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Makes a second one like it; `None` if its body is a stream.
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

    /// Puts in what the client sends by itself, so that all headers can be seen and changed.
    pub(super) fn put_in(&mut self, defaults: &Defaults) {
        if !self.settings.is_filled {
            self.headers = self.all_headers(&defaults.headers);
            self.settings.is_filled = true;
        }
    }

    /// Its own headers and those of the client, with room for the `Host` that hyper adds.
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

    /// What hyper is to send; `None` if its body is gone.
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

    /// When it may be made again.
    pub(super) fn repeat(&self, patience: Duration) -> Repeat {
        if self.body.as_bytes().is_none() {
            return Repeat::NEVER;
        }
        let told = self.settings.repeatable;
        Repeat {
            sent: told.unwrap_or_else(|| self.line.method.is_idempotent() || mutant!("http.retry_unsafe")),
            unsent: told != Some(false),
            patience,
        }
    }
}

/// A request in the making: from [`ApiClient::get`] and its siblings.
///
/// What is wrong with it is said when it is sent.
#[must_use = "a request does nothing until it is sent"]
#[derive(Debug)]
pub struct RequestBuilder<'c> {
    client: &'c ApiClient,
    /// Boxed, for it is moved by each setter.
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

    /// Sends a header, in place of one of that name that the client sends by itself.
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

    /// Sends a token as `Authorization: Bearer`; it is not printed with the request.
    pub fn bearer(self, token: &str) -> Self {
        self.change(|request| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
            value.set_sensitive(true);
            request.headers.insert(AUTHORIZATION, value);
            Ok(())
        })
    }

    /// Adds to the query, encoded as forms are.
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

    /// Sends this body.
    pub fn body(self, body: impl Into<Body>) -> Self {
        self.change(|request| {
            request.body = body.into();
            Ok(())
        })
    }

    /// Sends a value as JSON.
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

    /// Says that the request does the same when it comes twice, whatever its method: it is retried like one that is
    /// idempotent.
    pub fn idempotent(self) -> Self {
        self.repeatable(true)
    }

    /// Sends an `Idempotency-Key`, by which the other side knows a request that comes again: with it, the request is
    /// [`idempotent`](Self::idempotent).
    pub fn idempotency_key(self, key: &str) -> Self {
        self.header(HeaderName::from_static("idempotency-key"), key).idempotent()
    }

    /// Makes one attempt and no other.
    pub fn once(self) -> Self {
        self.repeatable(false)
    }

    fn repeatable(self, repeatable: bool) -> Self {
        self.change(|request| {
            request.settings.repeatable = Some(repeatable);
            Ok(())
        })
    }

    /// Limits the time of this call, to the end of its answer's body, in place of the limit of the client. Zero fails
    /// the call at once, for one whose time is over already; [`Duration::MAX`] is no limit.
    pub fn timeout(self, within: Duration) -> Self {
        self.limit(Some(within))
    }

    /// Has no limit for the time of this call as a whole: for an answer that goes on.
    pub fn without_timeout(self) -> Self {
        self.limit(None)
    }

    fn limit(self, within: Option<Duration>) -> Self {
        self.change(|request| {
            request.settings.timeout = Some(within);
            Ok(())
        })
    }

    /// Runs the attempts of this call through these policies, in place of the retry of the client: see
    /// [`ApiClientBuilder::pipeline`](super::ApiClientBuilder::pipeline).
    pub fn pipeline(self, pipeline: DynPipeline<Response, Error>) -> Self {
        self.change(|request| {
            request.settings.pipeline = Some(pipeline);
            Ok(())
        })
    }

    /// Follows up to so many redirects, in place of what the client does.
    pub fn redirects(self, most: u32) -> Self {
        self.change(|request| {
            request.settings.redirects = Some(most);
            Ok(())
        })
    }

    /// Passes a trace on: the request says that it was caused by a child of this context.
    pub fn trace(self, context: &TraceContext) -> Self {
        self.change(|request| {
            context.child().write_to(&mut request.headers);
            Ok(())
        })
    }

    /// Sends it, and gives the answer as soon as its headers are there, whatever its status.
    ///
    /// The body comes as it is asked for. Its time is part of the call's.
    ///
    /// # Cancel safety
    /// The request is broken off: its connection is closed (HTTP/1.1) or its stream reset (HTTP/2). Whether it had its
    /// effect on the other side is not known. The place for the host is free.
    ///
    /// # Errors
    /// [`Error`]. A status that is not a success is none here: [`Response::success`] makes it one.
    pub async fn send(self) -> Result<Response, Error> {
        self.client.call(self.request?).await
    }

    /// Sends it, and gives the answer when all of it is there and it is a success.
    ///
    /// The body is read within the attempt: when it breaks off, the call is made again if it may be.
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// [`Error`]: also for a status that is not a success, with the beginning of the body, and for a body that is larger
    /// than [may be](super::ApiClientBuilder::max_body).
    pub async fn fetch(self) -> Result<Response, Error> {
        let mut request = self.request?;
        request.settings.reads = Reads::Whole;
        self.client.call(request).await
    }

    /// Sends it, and gives the bytes of the answer, which is to be a success.
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub async fn fetch_bytes(self) -> Result<Bytes, Error> {
        self.fetch().await?.bytes().await
    }

    /// Sends it, and gives what its answer says as JSON; the answer is to be a success.
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch), and [`ErrorKind::Decode`] with the place in the document that is not as expected.
    pub async fn fetch_json<T: DeserializeOwned>(mut self) -> Result<T, Error> {
        if let Ok(request) = &mut self.request {
            request.settings.reads_json = true;
        }
        self.fetch().await?.json().await
    }
}
