use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, ResponseFuture};

use super::line::{Answering, OfLine};
use super::upload::CallEnd;
use crate::client::BoxError;

/// A request in flight, until the head of its response arrives.
///
/// # Drop
/// The unsent rest of the request is dropped.
pub(crate) struct Sending {
    answer: ResponseFuture,
    /// `None` for a request without a body.
    end: Option<CallEnd>,
}

impl Sending {
    pub(super) fn new(answer: ResponseFuture, end: Option<CallEnd>) -> Self {
        Self { answer, end }
    }
}

/// The failure of a request, as hyper reports it.
pub(crate) struct SendFailure {
    pub(super) error: legacy::Error,
    /// The error of the body of the request, if it has failed: the cause of `error`.
    pub(super) of_body: Option<BoxError>,
}

impl Future for Sending {
    type Output = Result<Response<ReceivedBody>, SendFailure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut answer = ready!(Pin::new(&mut self.answer).poll(cx)).map_err(|error| {
            let of_body = self.end.as_ref().and_then(CallEnd::take_failure);
            SendFailure { error, of_body }
        })?;
        let answering = answer.extensions_mut().remove::<OfLine>().and_then(|OfLine(line)| line.answered());
        let mut end = self.end.take();
        end.iter_mut().for_each(CallEnd::answered);
        Poll::Ready(Ok(answer.map(|body| ReceivedBody::new(body, answering, end))))
    }
}

/// The body of a response from [`Connections`](crate::Connections), as a stream.
///
/// # Drop
/// Before its end, its connection is closed (HTTP/1.1) or its stream is reset (HTTP/2). The same happens to a request
/// that was not sent completely.
pub struct ReceivedBody {
    body: Incoming,
    /// Dropped at the end of the body: the connection is then free. `None` with HTTP/2.
    answering: Option<Answering>,
    /// Dropped with it: the unsent rest of the request is dropped then.
    end: Option<CallEnd>,
}

impl ReceivedBody {
    fn new(body: Incoming, answering: Option<Answering>, end: Option<CallEnd>) -> Self {
        let (answering, end) = if body.is_end_stream() { (None, None) } else { (answering, end) };
        Self { body, answering, end }
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || self.body.is_end_stream() {
            self.answering = None;
            self.end = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for ReceivedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedBody").field("body", &self.body).finish_non_exhaustive()
    }
}
