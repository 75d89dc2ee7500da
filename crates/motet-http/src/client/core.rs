//! A call: redirects around policies around attempts, all within one deadline.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use motet::mutant;
use motet::observe::Registration;
use motet::resilience::{
    self, BreakerState, BulkheadPermit, CircuitBreaker, CircuitBreakers, DynPipeline, Pipeline,
    RejectedError, Retry,
};
use motet::task::timeout_at;
use tokio::task::yield_now;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::coding::{Codings, Rest};
use super::defaults::Defaults;
use super::error::{ErrorKind, Redirect, TimeLimit};
use super::exchange::{Exchange, Limits};
use super::host::{Host, Places};
use super::judge::{self, Repeat};
use super::request::{Reads, Request};
use super::request_line::RequestLine;
use super::target::Base;
use super::{ByStatus, ClientConfigError, Error, Response, redirect};
use crate::connect::Connections;

/// The state that the clones of a client share.
pub(super) struct Core {
    pub(super) connections: Connections,
    pub(super) base: Option<Base>,
    pub(super) defaults: Defaults,
    pub(super) codings: Codings,
    pub(super) retry: Retry,
    pub(super) pipeline: Option<DynPipeline<Response, Error>>,
    pub(super) breakers: Option<CircuitBreakers<Host>>,
    /// The policies in place of the retry, if there are any.
    pub(super) no_breaker: CircuitBreaker,
    pub(super) places: Places,
    pub(super) times: Times,
    pub(super) max_body: usize,
    pub(super) redirects: u32,
    pub(super) shown: OnceLock<Registration>,
}

#[derive(Debug, Clone)]
pub(super) struct Times {
    pub(super) total: Option<Duration>,
    pub(super) head: Option<Duration>,
    pub(super) read: Option<Duration>,
    pub(super) max_retry_after: Duration,
}

impl Times {
    /// Refuses a timeout of zero, with which no call could succeed.
    pub(super) fn check(&self) -> Result<(), ClientConfigError> {
        let limits = [("timeout", self.total), ("head_timeout", self.head), ("read_timeout", self.read)];
        match limits.into_iter().find(|(_, limit)| limit.is_some_and(|limit| limit.is_zero())) {
            Some((name, _)) => {
                Err(ClientConfigError::new(format!("`{name}` is zero; no call could succeed")))
            }
            None => Ok(()),
        }
    }
}

/// A request and its state while it is sent.
struct Call<'a> {
    request: &'a Request,
    host: &'a Host,
    repeat: Repeat,
    deadline: Option<Instant>,
    /// The attempts over all redirects.
    attempts: &'a AtomicU32,
}

impl Call<'_> {
    fn error(&self, kind: ErrorKind) -> Error {
        let error = self.request.error(kind).attempts_made(self.attempts.load(Ordering::Relaxed));
        error.repeat(self.repeat)
    }
}

impl Core {
    /// Carries out a call, in a span that names its method and its host. The path may contain a secret.
    pub(super) async fn call(&self, request: &mut Request) -> Result<Response, Error> {
        let RequestLine { method, uri } = &*request.line;
        let span = tracing::info_span!("http_call", %method, host = uri.host(), port = uri.port_u16());
        self.run(request).instrument(span).await
    }

    async fn run(&self, request: &mut Request) -> Result<Response, Error> {
        let deadline = request.settings.deadline.or_else(|| self.deadline(request));
        let attempts = AtomicU32::new(0);
        let Some(deadline) = deadline else { return self.follow(request, None, &attempts).await };
        if self.is_plain(request) {
            // The retry contains all waits, and enforces the deadline: a second timer would only cost.
            return self.follow(request, Some(deadline), &attempts).await;
        }
        let line = Arc::clone(&request.line);
        let followed = timeout_at(deadline, self.follow(request, Some(deadline), &attempts)).await;
        followed.unwrap_or_else(|_| {
            let late = Error::new(ErrorKind::TimedOut(TimeLimit::Total), &line);
            Err(late.attempts_made(attempts.load(Ordering::Relaxed)))
        })
    }

    /// Returns `true` if the call is a retry and nothing else.
    fn is_plain(&self, request: &Request) -> bool {
        self.given(request).is_none() && self.most_redirects(request) == 0
    }

    /// The policies in place of the retry.
    fn given<'a>(&'a self, request: &'a Request) -> Option<&'a DynPipeline<Response, Error>> {
        request.settings.pipeline.as_ref().or(self.pipeline.as_ref())
    }

    fn most_redirects(&self, request: &Request) -> u32 {
        request.settings.redirects.unwrap_or(self.redirects)
    }

    pub(super) fn deadline(&self, request: &Request) -> Option<Instant> {
        let total = request.settings.timeout.unwrap_or(self.times.total);
        // Beyond the range of the clock: no limit.
        total.and_then(|total| Instant::now().checked_add(total))
    }

    async fn follow(
        &self,
        request: &mut Request,
        deadline: Option<Instant>,
        attempts: &AtomicU32,
    ) -> Result<Response, Error> {
        let most = self.most_redirects(request);
        let mut followed = 0;
        loop {
            let other;
            let host = match &self.base {
                Some(base) if base.host.is_of(request.uri()) => &base.host,
                _ => match Host::of(request.uri()) {
                    Some(host) => {
                        other = host;
                        &other
                    }
                    None => return Err(request.error(ErrorKind::Request("the URL has no host".into()))),
                },
            };
            let repeat = request.repeat(self.times.max_retry_after);
            let call = Call { request, host, repeat, deadline, attempts };
            let mut response = self.guarded(&call).await?;
            if most == 0 || !redirect::is_one(response.status, &response.headers) {
                return Ok(response);
            }
            if mutant!("http.endless_redirects") {
                followed = 0;
            }
            if followed == most {
                return Err(call.error(ErrorKind::Redirect(Redirect::TooMany)));
            }
            followed += 1;
            response.drain().await;
            // The headers of the client may contain credentials, which are not sent to another host.
            request.put_in(&self.defaults);
            let refused = |redirect| response.exchange.error(ErrorKind::Redirect(redirect));
            redirect::follow(request, response.status, &response.headers).map_err(refused)?;
        }
    }

    /// Runs the policies of the call, or of the client, or else the retry; and inside of them the breaker of the host,
    /// which sees each attempt.
    async fn guarded(&self, call: &Call<'_>) -> Result<Response, Error> {
        if let Some(pipeline) = self.given(call.request) {
            let done = pipeline.run(|| self.once(call)).await;
            return done.map_err(|error| flatten(error, call, TimeLimit::Policy));
        }
        let mut retry = self.retry.clone();
        if let Some(deadline) = call.deadline {
            // Each attempt has its own timer.
            retry = retry.deadline(deadline);
        }
        let pipeline = Pipeline::new().classify(ByStatus).retry(retry).breaker(self.breaker(call.host));
        let done = pipeline.run(|| self.attempt(call)).await;
        done.map_err(|error| flatten(error, call, TimeLimit::Total))
    }

    async fn once(&self, call: &Call<'_>) -> Result<Response, Error> {
        let pipeline = Pipeline::new().classify(ByStatus).breaker(self.breaker(call.host));
        let done = pipeline.run(|| self.attempt(call)).await;
        done.map_err(|error| flatten(error, call, TimeLimit::Policy))
    }

    fn breaker(&self, host: &Host) -> CircuitBreaker {
        self.breakers.as_ref().map_or_else(|| self.no_breaker.clone(), |breakers| breakers.get(host))
    }

    /// Waits for a slot, until the deadline of the call.
    async fn place(&self, call: &Call<'_>) -> Result<BulkheadPermit<'static>, RejectedError> {
        let place = self.places.take(call.host);
        if mutant!("http.wait_for_place_for_ever") {
            return place.await;
        }
        let Some(deadline) = call.deadline else { return place.await };
        match timeout_at(deadline, place).await {
            Ok(place) => place,
            Err(_) => {
                yield_now().await;
                std::future::pending().await
            }
        }
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Response, Error> {
        let place = self.place(call).await.map_err(|rejected| {
            call.error(ErrorKind::Rejected(rejected.by())).hinted(rejected.retry_after())
        })?;
        let breaker = self.breaker(call.host);
        if matches!(breaker.state(), BreakerState::Open | BreakerState::ForcedOpen) {
            // It opened while the call was in line. The call has a permit of its own already.
            let rejected = breaker.try_acquire().map(drop);
            rejected.map_err(|rejected| {
                call.error(ErrorKind::Rejected(rejected.by())).hinted(rejected.retry_after())
            })?;
        }
        let number = call.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let is_below_base = self.base.as_ref().is_some_and(|base| ptr::eq(&base.host, call.host));
        let Some(mut outgoing) = call.request.outgoing(&self.defaults, is_below_base) else {
            return Err(call.error(ErrorKind::Request("the body is a stream, which has been sent".into())));
        };
        let is_decoded = self.codings.apply(outgoing.headers_mut());
        let Times { head, read, .. } = self.times;
        let limits = Limits { deadline: call.deadline, head, read, max_body: self.max_body };
        let mut exchange = Exchange::begin(&call.request.line, number, call.repeat, limits, place);
        let begun = self.connections.request(outgoing);
        let mut answer = begun.map_err(|error| call.error(error.into()))?;
        let answer = poll_fn(|cx| match Pin::new(&mut answer).poll(cx) {
            Poll::Ready(answer) => {
                Poll::Ready(answer.map_err(|failure| self.connections.failed(failure).into()))
            }
            Poll::Pending => {
                exchange.as_mut().poll_head(cx).map(|()| Err(ErrorKind::TimedOut(TimeLimit::Head)))
            }
        });
        let (head, body) = answer.await.map_err(|kind| call.error(kind))?.into_parts();
        let http::response::Parts { status, version, mut headers, extensions, .. } = head;
        let body = if is_decoded { Rest::decoded(body, &mut headers) } else { Rest::AsSent(body) };
        exchange.as_mut().answered(body);
        let mut response = Response { status, version, headers, extensions, exchange };
        self.read(call, &mut response).await?;
        match call.request.settings.reads {
            Reads::Whole if !self.is_followed(call, &response) => response.success().await,
            Reads::Head | Reads::Whole => Ok(response),
        }
    }

    /// Reads the part of the response that belongs to the attempt.
    async fn read(&self, call: &Call<'_>, response: &mut Response) -> Result<(), Error> {
        if response.status.is_success() && call.request.settings.reads == Reads::Whole {
            let filled = response.fill().await;
            return filled.map_err(|error| error.repeat(call.repeat));
        }
        if mutant!("http.leave_body_unread") {
            return Ok(());
        }
        if judge::is_passing(response.status) && call.repeat.sent {
            // The response is probably dropped for a retry, which can then use its connection.
            response.drain().await;
        }
        Ok(())
    }

    fn is_followed(&self, call: &Call<'_>, response: &Response) -> bool {
        self.most_redirects(call.request) > 0 && redirect::is_one(response.status, &response.headers)
    }
}

/// Merges the error of the policies and the error of the last attempt.
fn flatten(error: resilience::Error<Error>, call: &Call<'_>, total: TimeLimit) -> Error {
    let retry_after = error.retry_after();
    let ended_by = error.kind();
    let kind = match ended_by {
        resilience::ErrorKind::Rejected(by) => ErrorKind::Rejected(by),
        resilience::ErrorKind::TimedOut => ErrorKind::TimedOut(total),
        resilience::ErrorKind::AttemptTimedOut => ErrorKind::TimedOut(TimeLimit::Policy),
        // The retry gave up: the last error is the reason.
        _ => match (error.last_attempt(), error.into_error()) {
            (_, Some(last)) => {
                let attempts = call.attempts.load(Ordering::Relaxed);
                return last.attempts_made(attempts).hinted(retry_after);
            }
            (resilience::ErrorKind::Rejected(by), None) => ErrorKind::Rejected(by),
            (_, None) => ErrorKind::TimedOut(TimeLimit::Policy),
        },
    };
    call.error(kind).hinted(retry_after)
}
