use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Uri};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use motet::resilience::BulkheadPermit;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Error;
use super::error::{ErrorKind, TimeLimit};

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
    /// Given back at the end.
    place: Option<BulkheadPermit<'static>>,
    limits: Limits,
    /// Kept once made, for the next wait.
    timer: Option<Pin<Box<Sleep>>>,
    is_armed: bool,
    pub(super) method: Method,
    pub(super) uri: Uri,
}

/// The time that a body has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// That of the call.
    pub(super) deadline: Option<Instant>,
    /// That of a wait for more.
    pub(super) read: Option<Duration>,
}

impl ResponseBody {
    pub(super) fn new(
        rest: Incoming,
        place: BulkheadPermit<'static>,
        limits: Limits,
        method: Method,
        uri: Uri,
    ) -> Self {
        let begun = Bytes::new();
        let (rest, place) = if rest.is_end_stream() { (None, None) } else { (Some(rest), Some(place)) };
        Self {
            begun,
            pieces: BytesMut::new(),
            rest,
            place,
            limits,
            timer: None,
            is_armed: false,
            method,
            uri,
        }
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, &self.method, &self.uri)
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
                self.is_armed = false;
                let is_over = rest.is_end_stream();
                match frame {
                    // One that never waits is cut off, too.
                    Some(Ok(_)) if !is_over && self.is_late() => {
                        self.end_early(ErrorKind::TimedOut(TimeLimit::Total))
                    }
                    Some(Ok(frame)) => {
                        if is_over {
                            self.end();
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
                let limit = ready!(self.poll_timer(cx));
                self.end_early(ErrorKind::TimedOut(limit))
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<TimeLimit> {
        let Limits { deadline, read } = self.limits;
        if !self.is_armed {
            let read = read.and_then(|read| Instant::now().checked_add(read));
            let Some(at) = [deadline, read].into_iter().flatten().min() else { return Poll::Pending };
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(at),
                None => self.timer = Some(Box::pin(sleep_until(at))),
            }
            self.is_armed = true;
        }
        match &mut self.timer {
            Some(timer) => ready!(timer.as_mut().poll(cx)),
            None => return Poll::Pending,
        }
        Poll::Ready(if self.is_late() { TimeLimit::Total } else { TimeLimit::Read })
    }

    fn is_late(&self) -> bool {
        self.limits.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn end(&mut self) {
        (self.rest, self.place, self.timer) = (None, None, None);
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
