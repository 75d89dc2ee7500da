//! The state of a connection beneath hyper: whether it is in use, its age, and the bytes of its response heads.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::iter;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::frame_scan::{FrameEvent, FrameScan};
use super::head_scan::HeadScan;
use super::kept::Kept;
use super::upload;

/// The connection was closed to free a slot, or because of its age, before a byte of the request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the idle connection was closed")]
pub(super) struct GivenUp;

/// A connection, as seen by its stream, its calls and the table of idle connections.
///
/// # Ordering
/// The calls of a connection may report late, from another thread: a response may end after the next request has begun.
/// Such a connection counts as in use until the response of that request ends. With HTTP/2 the frames decide: the connection
/// is in use from the first frame of a request until both sides have ended its stream, or one has reset it.
pub(crate) struct Line {
    kept: Arc<Kept>,
    /// The end of life of the connection.
    until: Option<Instant>,
    /// `true` for HTTP/2: requests share the connection, and its heads are not text.
    is_shared: bool,
    state: Mutex<LineState>,
}

struct LineState {
    scan: HeadScan,
    /// The number of responses whose heads have arrived.
    answers: u64,
    /// The number of responses that have not ended; for HTTP/1.1.
    open: usize,
    /// The streams of HTTP/2 that are open, by number.
    streams: BTreeMap<u32, Sides>,
    /// The highest number of a stream so far.
    last_stream: u32,
    /// `true` if a byte was written after the last response head.
    wrote: bool,
    /// The number among the idle connections.
    idle: Option<u64>,
    is_given_up: bool,
    /// `true` once the connection was dropped. Its last response may end later, and must not make it idle.
    is_gone: bool,
    reader: Option<Waker>,
}

/// The sides that have ended their part of a stream.
#[derive(Clone, Copy, Default)]
struct Sides {
    is_sent: bool,
    is_received: bool,
}

/// The side that wrote a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

impl Line {
    pub(super) fn new(kept: &Arc<Kept>, most_head: usize, is_shared: bool) -> Arc<Self> {
        Arc::new(Self {
            kept: Arc::clone(kept),
            until: kept.until(),
            is_shared,
            state: Mutex::new(LineState {
                scan: HeadScan::new(most_head),
                answers: 0,
                open: 0,
                streams: BTreeMap::new(),
                last_stream: 0,
                wrote: false,
                idle: None,
                is_given_up: false,
                is_gone: false,
                reader: None,
            }),
        })
    }

    /// Notes the head of a response. With HTTP/1.1 the response ends when the returned guard is dropped.
    pub(super) fn answered(self: &Arc<Self>) -> Option<Answering> {
        let mut state = self.state();
        state.answers += 1;
        if self.is_shared {
            return None;
        }
        state.open += 1;
        state.wrote = false;
        state.scan.end();
        Some(Answering { number: state.answers, line: Arc::clone(self) })
    }

    /// Returns `true` if the connection has answered before, and no byte of the awaited response has arrived.
    pub(super) fn is_stale(&self) -> bool {
        let state = self.state();
        !self.is_shared && state.answers > 0 && state.open == 0 && state.scan.seen() == 0
    }

    /// Returns `true` if the connection was closed while it had no requests, and a failed request was none of it: with HTTP/2,
    /// where hyper hides [`GivenUp`].
    pub(super) fn has_refused(&self) -> bool {
        self.is_shared && self.state().is_given_up
    }

    /// Closes the connection if it is idle under this number.
    pub(super) fn give_up(&self, number: u64) {
        let reader = {
            let mut state = self.state();
            if state.idle != Some(number) {
                return;
            }
            state.idle = None;
            state.is_given_up = true;
            state.reader.take()
        };
        upload::wake_hyper(reader);
    }

    /// Makes the connection idle, or closes it if it is too old.
    fn rest(self: &Arc<Self>) {
        let number = {
            // Locked over both, so that the table has a connection if and only if the connection has its number.
            let mut state = self.state();
            if state.is_gone {
                return;
            }
            let number = self.kept.add(self);
            state.idle = Some(number);
            number
        };
        if self.until.is_some_and(|until| Instant::now() >= until) {
            self.kept.remove(number);
            self.give_up(number);
        } else {
            self.kept.close_surplus();
        }
    }

    fn ended(self: &Arc<Self>, number: u64) {
        {
            let mut state = self.state();
            state.open -= 1;
            if number == state.answers {
                state.scan.restart();
            }
            if state.is_begun() {
                return;
            }
        }
        self.rest();
    }

    /// Notes that bytes of a request are about to be written, over HTTP/1.1. Returns `true` if the server may have begun to
    /// answer.
    fn begin(&self) -> Result<bool, GivenUp> {
        self.take(|state| {
            let is_begun = state.is_begun();
            state.wrote = true;
            is_begun
        })
    }

    /// Notes that the first frame of a request is about to be written.
    fn open_stream(&self, stream: u32) -> Result<(), GivenUp> {
        self.take(|state| {
            // Trailers are also headers, and a write may be tried several times.
            if stream > state.last_stream {
                state.last_stream = stream;
                state.streams.insert(stream, Sides::default());
            }
        })
    }

    /// Fails if the connection was given up.
    fn check(&self) -> Result<(), GivenUp> {
        if self.state().is_given_up { Err(GivenUp) } else { Ok(()) }
    }

    /// Takes the connection out of the table of idle connections.
    fn take<T>(&self, note: impl FnOnce(&mut LineState) -> T) -> Result<T, GivenUp> {
        let (noted, idle) = {
            let mut state = self.state();
            if state.is_given_up {
                return Err(GivenUp);
            }
            (note(&mut state), state.idle.take())
        };
        if let Some(number) = idle {
            self.kept.remove(number);
        }
        Ok(noted)
    }

    /// Notes the end of a part of a stream. The connection becomes idle when its last stream has ended.
    fn note(self: &Arc<Self>, event: FrameEvent, side: Side) {
        let (stream, is_reset) = match event {
            FrameEvent::Headers(_) => return,
            FrameEvent::Ended(stream) => (stream, false),
            FrameEvent::Reset(stream) => (stream, true),
        };
        {
            let mut state = self.state();
            let Some(sides) = state.streams.get_mut(&stream) else { return };
            sides.is_sent |= side == Side::Client;
            sides.is_received |= side == Side::Server;
            let is_over = is_reset || (sides.is_sent && sides.is_received);
            if !is_over {
                return;
            }
            state.streams.remove(&stream);
            if !state.streams.is_empty() {
                return;
            }
        }
        self.rest();
    }

    /// Notes whether the peer takes the written bytes. With HTTP/2 that is not a matter of one request.
    fn wrote<T>(&self, written: &Poll<T>) {
        if !self.is_shared {
            upload::wrote(written);
        }
    }

    /// Returns `true` if a read is useful. Otherwise the connection has ended.
    fn is_open(&self, cx: &Context<'_>) -> bool {
        let mut state = self.state();
        if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            state.reader = Some(cx.waker().clone());
        }
        !state.is_given_up
    }

    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("answers", &self.state().answers).finish_non_exhaustive()
    }
}

impl LineState {
    /// Returns `true` if a part of the current request was written.
    fn is_begun(&self) -> bool {
        self.wrote || self.open > 0
    }
}

/// A response whose head has arrived. Dropped at its end.
#[derive(Debug)]
pub(super) struct Answering {
    line: Arc<Line>,
    number: u64,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.line.ended(self.number);
    }
}

/// The byte stream of a connection as hyper reads and writes it: above TLS.
///
/// A server may answer early and close the connection, with a part of the request unread: the next write then fails
/// while the response waits to be read, and hyper reports a failed write without reading. Therefore the failure of a
/// write over HTTP/1.1 is reported by the read that has nothing more to return.
pub(crate) struct Wire<S> {
    stream: S,
    line: Arc<Line>,
    /// The failure of a write. Further writes wait.
    failed: Option<io::Error>,
    /// The frames that were written and read; for HTTP/2.
    written: FrameScan,
    read: FrameScan,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, line: Arc<Line>) -> Self {
        Self { stream, line, failed: None, written: FrameScan::of_client(), read: FrameScan::of_server() }
    }

    /// Notes that these bytes are about to be written. Returns `true` if the server may have begun to answer over HTTP/1.1.
    fn begin<'b>(&self, bufs: impl Iterator<Item = &'b [u8]>) -> io::Result<bool> {
        if !self.line.is_shared {
            return self.line.begin().map_err(io::Error::other);
        }
        // Other frames leave an idle connection idle.
        let mut begun = self.line.check();
        let mut frames = self.written.clone();
        for buf in bufs {
            frames.feed(buf, |event| {
                if let (FrameEvent::Headers(stream), true) = (event, begun.is_ok()) {
                    begun = self.line.open_stream(stream);
                }
            });
        }
        begun.map(|()| false).map_err(io::Error::other)
    }

    /// Notes the bytes that were written.
    fn advance<'b>(&mut self, bufs: impl Iterator<Item = &'b [u8]>, written: &Poll<io::Result<usize>>) {
        let Poll::Ready(Ok(mut left)) = *written else { return };
        if self.line.is_shared {
            for buf in bufs {
                let length = left.min(buf.len());
                self.written.feed(&buf[..length], |event| self.line.note(event, Side::Client));
                left -= length;
            }
        }
    }

    /// Writes, unless a write has failed. `is_begun` returns `true` if the server may have begun to answer.
    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        is_begun: impl FnOnce(&Line) -> bool,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>>
    where
        S: Unpin,
    {
        let written = match self.failed {
            Some(_) => Poll::Pending,
            None => match write(Pin::new(&mut self.stream), cx) {
                Poll::Ready(Err(error)) if !self.line.is_shared && is_begun(&self.line) => {
                    self.failed = Some(error);
                    // hyper begins each poll with a read.
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                written => written,
            },
        };
        self.line.wrote(&written);
        written
    }
}

impl<S> Drop for Wire<S> {
    fn drop(&mut self) {
        let idle = {
            let mut state = self.line.state();
            state.is_gone = true;
            state.idle.take()
        };
        if let Some(number) = idle {
            self.line.kept.remove(number);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.line.is_open(cx) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if buf.filled().len() == before
            && let Some(failure) = self.failed.take()
        {
            return Poll::Ready(Err(failure));
        }
        read?;
        let this = &mut *self;
        let bytes = &buf.filled()[before..];
        if this.line.is_shared {
            this.read.feed(bytes, |event| this.line.note(event, Side::Server));
        } else {
            let fed = this.line.state().scan.feed(bytes);
            fed.map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let is_begun = self.begin(iter::once(buf))?;
        let written = self.write(cx, |_| is_begun, |stream, cx| stream.poll_write(cx, buf));
        self.advance(iter::once(buf), &written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let is_begun = self.begin(bufs.iter().map(|buf| &**buf))?;
        let written = self.write(cx, |_| is_begun, |stream, cx| stream.poll_write_vectored(cx, bufs));
        self.advance(bufs.iter().map(|buf| &**buf), &written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(cx, |line| line.state().is_begun(), |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The value that hyper-util attaches to a response or an error of the connection.
#[derive(Debug, Clone)]
pub(super) struct OfLine(pub(super) Arc<Line>);

impl<S: Connection> Connection for Wire<S> {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(OfLine(Arc::clone(&self.line)))
    }
}

impl<S> fmt::Debug for Wire<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("line", &self.line).finish_non_exhaustive()
    }
}
