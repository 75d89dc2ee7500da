//! A connection from its first byte to its end: its timeouts, and its orderly end.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::rt;
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use motet::task::CancelToken;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::phase::{ConnectionState, Phase};

/// A client may send the next request at the moment of the stop. An idle connection is kept for this time, and a closed
/// one is read for this time: otherwise the kernel answers with a reset, which may overtake the last response.
const LINGER: Duration = Duration::from_millis(500);

/// The time for a head that began before the stop.
const LATE_HEAD: Duration = Duration::from_secs(1);

/// The timeouts of the phases of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) head: Duration,
    pub(super) idle: Duration,
}

/// Drives a connection to its end. After `drain` is cancelled, it ends after its current request, if any.
pub(super) async fn drive<T, S>(
    connection: http1::Connection<TokioIo<T>, S>,
    state: &ConnectionState,
    drain: &CancelToken,
    times: Times,
) where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    TokioIo<T>: rt::Read + rt::Write,
    S: HttpService<Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connection = pin!(connection);
    let mut drained = pin!(drain.cancelled());
    let mut evicted = pin!(state.evicted.cancelled());
    let mut timer = pin!(Timer { sleep: None });
    let mut draining_since = None;
    // `true` once hyper has been asked to close the connection after its current request.
    let mut is_closing = false;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                if let Err(error) = ended {
                    tracing::debug!(error = %error, "a connection ended early");
                }
                return Poll::Ready(());
            }
            if draining_since.is_none() && drained.as_mut().poll(cx).is_ready() {
                draining_since = Some(Instant::now());
            }
            let is_evicted = state.evicted.is_cancelled() || evicted.as_mut().poll(cx).is_ready();
            let (phase, since) = state.phase();
            let deadline = match (phase, draining_since) {
                (Phase::Busy, _) => None,
                (Phase::Idle | Phase::Head, _) if is_evicted => Some(since),
                (Phase::Idle, None) => since.checked_add(times.idle),
                (Phase::Idle, Some(stop)) => Some(stop.max(since) + LINGER),
                (Phase::Head, None) => since.checked_add(times.head),
                (Phase::Head, Some(stop)) => Some(
                    since.checked_add(times.head).map_or(stop + LATE_HEAD, |end| end.min(stop + LATE_HEAD)),
                ),
            };
            ready!(timer.as_mut().poll_at(deadline.filter(|_| !is_closing || phase == Phase::Head), cx));
            if phase == Phase::Head {
                tracing::debug!("closing a connection whose client sent no request in time");
                return Poll::Ready(());
            }
            connection.as_mut().graceful_shutdown();
            is_closing = true;
        }
    })
    .await;
}

/// A timer that is set at its poll.
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Completes at `deadline`, or never if it is `None`.
    fn poll_at(mut self: Pin<&mut Self>, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }
}

/// The stream of a connection. It notes when the client sends, and lingers at its end.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    state: Arc<ConnectionState>,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(super) const fn new(stream: S, state: Arc<ConnectionState>) -> Self {
        Self { stream, state, lingering: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.state.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Closes the write side, and reads the rest from the client until the client has closed its side.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            // From now on, bytes of the client begin no request, and only the linger limits the time.
            this.state.enter(Phase::Busy);
        }
        let lingering = this.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if lingering.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut scratch = [0; 1_024];
        loop {
            let mut late = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut late)) {
                Ok(()) if !late.filled().is_empty() => {}
                // The client has closed its side, or is gone.
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::service::service_fn;
    use motet::task::Reason;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::advance;

    use super::super::answering::Answering;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TIMES: Times = Times { head: Duration::from_secs(30), idle: Duration::from_secs(75) };

    struct Served {
        client: DuplexStream,
        state: Arc<ConnectionState>,
        drain: CancelToken,
        stop: CancelToken,
        driving: tokio::task::JoinHandle<()>,
    }

    impl Served {
        #[allow(clippy::disallowed_methods, reason = "the test awaits the task itself")]
        fn new(times: Times) -> Self {
            let (client, server) = duplex(1 << 16);
            let state = Arc::new(ConnectionState::new(Instant::now()));
            let (drain, stop) = (CancelToken::new(), CancelToken::new());
            let answer = async |_: Request<Incoming>| {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
            };
            let service = Answering {
                service: service_fn(answer),
                peer: None,
                is_reserved: false,
                state: Arc::clone(&state),
                stop: stop.clone(),
            };
            let stream = TokioIo::new(Watched::new(server, Arc::clone(&state)));
            let connection = http1::Builder::new().serve_connection(stream, service);
            let driving = tokio::spawn({
                let (state, drain) = (Arc::clone(&state), drain.clone());
                async move { drive(connection, &state, &drain, times).await }
            });
            Self { client, state, drain, stop, driving }
        }

        async fn request(&mut self) -> String {
            self.client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"hello") {
                assert_ne!(self.client.read_buf(&mut answer).await.unwrap(), 0, "the connection was closed");
            }
            String::from_utf8(answer).unwrap()
        }

        fn stop(&self) {
            self.stop.cancel(Reason::requested("the test"));
            self.drain.cancel(Reason::requested("the test"));
        }

        /// Waits for the end of the connection; the client then closes its side.
        async fn ends_after(mut self) -> Duration {
            let begun = Instant::now();
            assert_eq!(self.client.read(&mut [0; 64]).await.unwrap(), 0, "nothing more is sent");
            drop(self.client);
            self.driving.await.unwrap();
            begun.elapsed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connection_without_a_request_ends_after_the_head_timeout() {
        assert_eq!(Served::new(TIMES).ends_after().await, TIMES.head);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_ends_after_the_idle_timeout() {
        let mut served = Served::new(TIMES);
        served.request().await;
        advance(TIMES.idle - SECOND).await;
        served.request().await;
        assert_eq!(served.ends_after().await, TIMES.idle);
    }

    #[tokio::test(start_paused = true)]
    async fn head_timeout_of_a_later_request_runs_from_its_first_byte() {
        let mut served = Served::new(TIMES);
        served.request().await;
        advance(TIMES.idle - SECOND).await;
        served.client.write_all(b"GET / HT").await.unwrap();
        // Further bytes do not extend its time.
        tokio::task::yield_now().await;
        advance(TIMES.head / 2).await;
        served.client.write_all(b"TP/1.1\r\n").await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(served.ends_after().await, TIMES.head / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn timeouts_of_duration_max_do_not_elapse_in_a_year() {
        let mut served = Served::new(Times { head: Duration::MAX, idle: Duration::MAX });
        advance(365 * 86_400 * SECOND).await;
        served.request().await;
        advance(365 * 86_400 * SECOND).await;
        served.request().await;
    }

    #[tokio::test(start_paused = true)]
    async fn request_shortly_after_a_stop_is_the_last_of_its_connection() {
        let mut served = Served::new(TIMES);
        assert!(!served.request().await.contains("connection: close"));
        served.stop();
        advance(LINGER - Duration::from_millis(1)).await;
        assert!(served.request().await.contains("connection: close"));
        assert_eq!(served.ends_after().await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn stop_ends_an_idle_connection_after_the_linger_time() {
        let mut served = Served::new(TIMES);
        served.request().await;
        served.stop();
        assert_eq!(served.ends_after().await, LINGER);
    }

    #[tokio::test(start_paused = true)]
    async fn stop_ends_a_connection_with_half_a_head_after_a_second() {
        let mut served = Served::new(TIMES);
        served.client.write_all(b"GET / HT").await.unwrap();
        served.stop();
        assert_eq!(served.ends_after().await, LATE_HEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn evicted_connection_ends_at_once() {
        for begun in ["", "GET / HT"] {
            let mut served = Served::new(TIMES);
            served.request().await;
            served.client.write_all(begun.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
            served.state.evicted.cancel(Reason::requested("the test"));
            assert_eq!(served.ends_after().await, Duration::ZERO, "{begun:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stop_closes_a_connection_whose_client_keeps_sending() {
        let mut served = Served::new(TIMES);
        served.request().await;
        served.stop();
        let begun = Instant::now();
        // The client continues to send, and is not answered with a reset.
        while !served.driving.is_finished() {
            let _gone = served.client.write_all(b"x").await;
            advance(Duration::from_millis(10)).await;
            tokio::task::yield_now().await;
        }
        assert!(begun.elapsed() <= 4 * LINGER, "{:?}", begun.elapsed());
    }
}
