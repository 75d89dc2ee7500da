//! An attempt, from its slot for the host to the end of the response body.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use motet::mutant;
use motet::resilience::BulkheadPermit;
use pin_project_lite::pin_project;
use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Error;
use super::coding::Rest;
use super::error::{ErrorKind, TimeLimit};
use super::judge::Repeat;
use super::request_line::RequestLine;

pin_project! {
    /// The state of an attempt and of its response: the slot, the limits, one timer for all waits, and the body.
    ///
    /// One allocation per attempt, so that a response is small when it is moved through the policies.
    pub(super) struct Exchange {
        pub(super) line: Arc<RequestLine>,
        // The number of the attempt within its call.
        pub(super) number: u32,
        pub(super) repeat: Repeat,
        limits: Limits,
        #[pin]
        timer: Option<Sleep>,
        // The timer of the current wait.
        due: Option<Instant>,
        // `None` before the response, and at its end.
        rest: Option<Rest>,
        // Released with the response.
        place: Option<BulkheadPermit<'static>>,
        // The chunk that was read ahead, returned first. Most bodies have one chunk, and are not copied.
        begun: Bytes,
        // Replaces it when there is a second chunk.
        pieces: BytesMut,
    }
}

/// The limits of an attempt and its response.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The deadline of the call.
    pub(super) deadline: Option<Instant>,
    /// The timeout of the headers.
    pub(super) head: Option<Duration>,
    /// The timeout of a read of the body.
    pub(super) read: Option<Duration>,
    /// The size limit of a body that is read whole.
    pub(super) max_body: usize,
}

impl Exchange {
    pub(super) fn begin(
        line: &Arc<RequestLine>,
        number: u32,
        repeat: Repeat,
        limits: Limits,
        place: BulkheadPermit<'static>,
    ) -> Pin<Box<Self>> {
        Box::pin(Self {
            line: Arc::clone(line),
            number,
            repeat,
            limits,
            timer: None,
            due: None,
            rest: None,
            place: Some(place),
            begun: Bytes::new(),
            pieces: BytesMut::new(),
        })
    }

    pub(super) fn max_body(&self) -> usize {
        self.limits.max_body
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, &self.line).attempts_made(self.number)
    }

    /// Waits until the timeout of the headers elapses. Wakes its task at the deadline of the call, which the caller
    /// enforces.
    pub(super) fn poll_head(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Limits { deadline, mut head, .. } = self.limits;
        if mutant!("http.no_head_deadline") {
            head = None;
        }
        ready!(self.as_mut().poll_due(deadline, head, cx));
        if self.is_late() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Called when the headers have arrived.
    pub(super) fn answered(self: Pin<&mut Self>, body: Rest) {
        if body.is_end_stream() {
            return self.end();
        }
        let this = self.project();
        (*this.rest, *this.due) = (Some(body), None);
        if mutant!("http.free_place_early") {
            *this.place = None;
        }
    }

    /// The bytes that were read ahead.
    pub(super) fn begun(&self) -> &[u8] {
        if self.pieces.is_empty() { &self.begun } else { &self.pieces }
    }

    pub(super) fn take_begun(self: Pin<&mut Self>) -> Bytes {
        let this = self.project();
        if this.pieces.is_empty() { std::mem::take(this.begun) } else { this.pieces.split().freeze() }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_none()
    }

    /// The length of the body, if it is known, bytes that were read ahead included.
    pub(super) fn size_hint(&self) -> SizeHint {
        let begun = self.begun().len() as u64;
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Rest::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(begun));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(begun));
        }
        hint
    }

    /// Returns the next chunk, or `None` at the end. Trailers are skipped.
    pub(super) async fn chunk(mut self: Pin<&mut Self>) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = poll_fn(|cx| self.as_mut().poll_frame(cx)).await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Returns the bytes that were read ahead, and then the rest.
    pub(super) fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.begun().is_empty() {
            return self.poll_rest(cx);
        }
        Poll::Ready(Some(Ok(Frame::data(self.take_begun()))))
    }

    /// Reads until more than `limit` bytes are buffered or the body ends, and returns `true` if it ended. The bytes
    /// stay buffered, also if this future is dropped.
    pub(super) async fn fill(mut self: Pin<&mut Self>, limit: usize) -> Result<bool, Error> {
        while self.begun().len() <= limit
            && let Some(frame) = poll_fn(|cx| self.as_mut().poll_rest(cx)).await
        {
            let Ok(data) = frame?.into_data() else { continue };
            let this = self.as_mut().project();
            if this.begun.is_empty() && this.pieces.is_empty() {
                *this.begun = data;
                continue;
            }
            if this.pieces.is_empty() {
                let begun = std::mem::take(this.begun);
                this.pieces.extend_from_slice(&begun);
                if mutant!("http.lose_begun") {
                    this.pieces.clear();
                }
            }
            this.pieces.extend_from_slice(&data);
        }
        Ok(self.is_at_end())
    }

    /// Reads the next frame from the connection.
    fn poll_rest(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.as_mut().project();
        let Some(rest) = this.rest else { return Poll::Ready(None) };
        let Poll::Ready(frame) = rest.poll_frame(cx) else {
            if mutant!("http.no_body_deadline") {
                return Poll::Pending;
            }
            let Limits { deadline, read, .. } = *this.limits;
            ready!(self.as_mut().poll_due(deadline, read, cx));
            let limit = if self.is_late() { TimeLimit::Total } else { TimeLimit::Read };
            return self.end_early(ErrorKind::TimedOut(limit));
        };
        let is_over = rest.is_end_stream();
        // Each wait has its own timeout.
        *this.due = None;
        match frame {
            // A body that never waits also ends at the deadline.
            Some(Ok(_)) if !is_over && self.is_late() => {
                self.end_early(ErrorKind::TimedOut(TimeLimit::Total))
            }
            Some(Ok(frame)) => {
                if is_over {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => self.end_early(ErrorKind::Transport(error)),
            None => {
                self.end();
                Poll::Ready(None)
            }
        }
    }

    fn is_late(&self) -> bool {
        self.limits.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn end(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.timer.set(None);
        *this.rest = None;
        if mutant!("http.keep_place") {
            return;
        }
        *this.place = None;
    }

    fn end_early(self: Pin<&mut Self>, kind: ErrorKind) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let error = self.error(kind);
        self.end();
        Poll::Ready(Some(Err(error)))
    }

    /// Waits until `time` has passed, or the deadline of the call.
    fn poll_due(
        self: Pin<&mut Self>,
        deadline: Option<Instant>,
        within: Option<Duration>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut this = self.project();
        let due = match *this.due {
            Some(due) => due,
            None => {
                let within = within.and_then(|within| Instant::now().checked_add(within));
                let Some(due) = [deadline, within].into_iter().flatten().min() else { return Poll::Pending };
                *this.due = Some(due);
                due
            }
        };
        loop {
            match this.timer.as_mut().as_pin_mut() {
                None => this.timer.set(Some(sleep_until(due))),
                Some(timer) if timer.deadline() > due => timer.reset(due),
                // A timer that fires earlier stays: most waits end before it, and setting it takes a lock.
                Some(_) => {}
            }
            let Some(mut timer) = this.timer.as_mut().as_pin_mut() else { return Poll::Pending };
            // Unconstrained: the awaited future takes part in the coop budget, and may have used it up.
            ready!(pin!(coop::unconstrained(timer.as_mut())).poll(cx));
            if mutant!("http.ring_early") {
                return Poll::Ready(());
            }
            if timer.deadline() >= due {
                return Poll::Ready(());
            }
            timer.reset(due);
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("read_ahead", &self.begun().len())
            .field("is_at_end", &self.is_at_end())
            .finish_non_exhaustive()
    }
}
