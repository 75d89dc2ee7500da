use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::Error;
use super::error::{ErrorKind, TimeLimit};
use super::request_line::RequestLine;
use super::tenure::Tenure;

/// The body of an answer, as it comes: an [`http_body::Body`], within the time of its call.
///
/// # Drop
/// As of a [`Response`](super::Response).
pub struct ResponseBody {
    /// What was read ahead, and is handed out first. Most bodies come in one piece, and are not copied.
    begun: Bytes,
    /// In its place once there is a second piece.
    pieces: BytesMut,
    /// `None` at the end.
    rest: Option<Incoming>,
    tenure: Pin<Box<Tenure>>,
}

impl ResponseBody {
    pub(super) fn new(rest: Incoming, mut tenure: Pin<Box<Tenure>>) -> Self {
        let rest = Some(rest).filter(|rest| !rest.is_end_stream());
        match rest {
            Some(_) => tenure.as_mut().waited(),
            None => tenure.as_mut().end(),
        }
        Self { begun: Bytes::new(), pieces: BytesMut::new(), rest, tenure }
    }

    pub(super) fn line(&self) -> &RequestLine {
        self.tenure.line()
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        self.tenure.error(kind)
    }

    /// What was read ahead.
    pub(super) fn begun(&self) -> &[u8] {
        if self.pieces.is_empty() { &self.begun } else { &self.pieces }
    }

    pub(super) fn take_begun(&mut self) -> Bytes {
        if self.pieces.is_empty() { std::mem::take(&mut self.begun) } else { self.pieces.split().freeze() }
    }

    /// Asks whether it says itself that it has more bytes than that.
    pub(super) fn exceeds(&self, limit: usize) -> bool {
        self.size_hint().lower() > limit as u64
    }

    /// Gives the next piece; `None` at the end. Trailers are passed over.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    ///
    /// # Errors
    /// As [`Response::chunk`](super::Response::chunk).
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Reads on, until more than `limit` bytes are there or the end is: gives whether it is. They stay in it, also if
    /// this is dropped.
    pub(super) async fn fill(&mut self, limit: usize) -> Result<bool, Error> {
        while self.begun().len() <= limit
            && let Some(frame) = poll_fn(|cx| self.poll_rest(cx)).await
        {
            let Ok(data) = frame?.into_data() else { continue };
            if self.begun().is_empty() {
                self.begun = data;
                continue;
            }
            if self.pieces.is_empty() {
                self.pieces.extend_from_slice(&std::mem::take(&mut self.begun));
            }
            self.pieces.extend_from_slice(&data);
        }
        Ok(self.rest.is_none())
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        match Pin::new(&mut *rest).poll_frame(cx) {
            Poll::Ready(frame) => {
                let is_over = rest.is_end_stream();
                match frame {
                    // One that never waits is cut off, too.
                    Some(Ok(_)) if !is_over && self.tenure.is_late() => {
                        self.end_early(ErrorKind::TimedOut(TimeLimit::Total))
                    }
                    Some(Ok(frame)) => {
                        if is_over {
                            self.end();
                        } else {
                            self.tenure.as_mut().waited();
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Some(Err(error)) => self.end_early(ErrorKind::Transport(error.into())),
                    None => {
                        self.end();
                        Poll::Ready(None)
                    }
                }
            }
            Poll::Pending => {
                let limit = ready!(self.tenure.as_mut().poll_read(cx));
                self.end_early(ErrorKind::TimedOut(limit))
            }
        }
    }

    fn end(&mut self) {
        self.rest = None;
        self.tenure.as_mut().end();
    }

    fn end_early(&mut self, kind: ErrorKind) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.end();
        Poll::Ready(Some(Err(self.error(kind))))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if this.begun().is_empty() {
            return this.poll_rest(cx);
        }
        Poll::Ready(Some(Ok(Frame::data(this.take_begun()))))
    }

    fn is_end_stream(&self) -> bool {
        self.begun().is_empty() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let begun = self.begun().len() as u64;
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), |rest| rest.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(begun));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(begun));
        }
        hint
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("read_ahead", &self.begun().len())
            .field("is_at_end", &self.rest.is_none())
            .finish_non_exhaustive()
    }
}
