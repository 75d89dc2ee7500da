//! What is known of a connection beneath hyper: whether it is in use, how old it is, and what its answers' heads take.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::head_scan::HeadScan;
use super::kept::Kept;
use super::upload;

/// The connection was closed to make room, or for its age, before anything of the request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the kept connection was given up")]
pub(super) struct GivenUp;

/// One connection, as its stream, its calls and the table of idle ones know it.
///
/// # Ordering
/// The calls of a connection may report late, on another thread: an answer's end may come after the next request has
/// begun. Such a connection counts as in use until that request's own answer ends.
pub(crate) struct Line {
    kept: Arc<Kept>,
    /// It is not kept beyond this.
    until: Option<Instant>,
    /// HTTP/2: requests share it, and its heads are not text.
    is_shared: bool,
    state: Mutex<LineState>,
}

struct LineState {
    scan: HeadScan,
    /// Answers whose heads were there.
    answers: u64,
    /// Answers that are not at their end.
    open: usize,
    /// Something was written since the last answer's head.
    wrote: bool,
    /// Its number among the idle connections.
    idle: Option<u64>,
    is_given_up: bool,
    reader: Option<Waker>,
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
                wrote: false,
                idle: None,
                is_given_up: false,
                reader: None,
            }),
        })
    }

    /// The head of an answer is there. The answer ends when what is returned is dropped.
    pub(super) fn answered(self: &Arc<Self>) -> Answering {
        let mut state = self.state();
        state.answers += 1;
        state.open += 1;
        state.wrote = false;
        state.scan.end();
        Answering { number: state.answers, line: Arc::clone(self) }
    }

    /// Returns `true` if it had answered before, and nothing came of the answer that is waited for.
    pub(super) fn is_stale(&self) -> bool {
        let state = self.state();
        !self.is_shared && state.answers > 0 && state.open == 0 && state.scan.seen() == 0
    }

    /// Closes it if it is idle under this number.
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
        reader.into_iter().for_each(Waker::wake);
    }

    /// Is idle from now on, or closed if it is too old for that.
    fn rest(self: &Arc<Self>) {
        let number = self.kept.add(self);
        self.state().idle = Some(number);
        if self.until.is_some_and(|until| Instant::now() >= until) {
            self.kept.remove(number);
            self.give_up(number);
        } else {
            self.kept.make_room();
        }
    }

    fn ended(self: &Arc<Self>, number: u64) {
        {
            let mut state = self.state();
            state.open -= 1;
            if !self.is_shared && number == state.answers {
                state.scan.restart();
            }
            if state.open > 0 || (state.wrote && !self.is_shared) {
                return;
            }
        }
        self.rest();
    }

    /// Something is about to be written.
    fn begin(&self) -> Result<(), GivenUp> {
        let idle = {
            let mut state = self.state();
            if state.is_given_up {
                return Err(GivenUp);
            }
            state.wrote = true;
            state.idle.take()
        };
        if let Some(number) = idle {
            self.kept.remove(number);
        }
        Ok(())
    }

    /// Notes whether the peer takes what is written. Where requests share the connection it is no matter of one of them.
    fn wrote<T>(&self, written: &Poll<T>) {
        if !self.is_shared {
            upload::wrote(written);
        }
    }

    /// Returns `true` if there is something to read for. Otherwise the connection is at its end.
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

/// An answer whose head is there. Dropped at its end.
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

/// A connection's bytes as hyper reads and writes them: above TLS.
pub(crate) struct Wire<S> {
    stream: S,
    line: Arc<Line>,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, line: Arc<Line>) -> Self {
        Self { stream, line }
    }
}

impl<S> Drop for Wire<S> {
    fn drop(&mut self) {
        let idle = self.line.state().idle.take();
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
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if !self.line.is_shared {
            let fed = self.line.state().scan.feed(&buf.filled()[before..]);
            fed.map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.line.begin().map_err(io::Error::other)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.line.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.line.begin().map_err(io::Error::other)?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.line.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.line.wrote(&flushed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What hyper-util hands along with an answer, or an error, of the connection.
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
