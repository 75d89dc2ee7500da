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

/// A request that is being sent, until the head of its answer is there.
pub(crate) struct Sending(ResponseFuture);

impl Sending {
    pub(super) fn new(answer: ResponseFuture) -> Self {
        Self(answer)
    }
}

impl Future for Sending {
    type Output = Result<Response<ReceivedBody>, legacy::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut answer = ready!(Pin::new(&mut self.0).poll(cx))?;
        let answering = answer.extensions_mut().remove::<OfLine>().map(|OfLine(line)| line.answered());
        Poll::Ready(Ok(answer.map(|body| ReceivedBody::new(body, answering))))
    }
}

/// The body of an answer from [`Connections`](crate::Connections), as it comes.
///
/// # Drop
/// Before its end, its connection is closed (HTTP/1.1) or its stream is reset (HTTP/2).
pub struct ReceivedBody {
    body: Incoming,
    /// Gone at the end of the body: the connection is free then.
    answering: Option<Answering>,
}

impl ReceivedBody {
    fn new(body: Incoming, answering: Option<Answering>) -> Self {
        let answering = answering.filter(|_| !body.is_end_stream());
        Self { body, answering }
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
