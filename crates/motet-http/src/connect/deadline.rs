use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::Connection;
use hyper_util::rt::TokioIo;
use motet::task::timeout;
use tokio::time::Instant;
use tower_service::Service;

use super::ConnectError;
use super::kept::Kept;
use super::line::{Line, Wire};
use crate::client::BoxError;

/// A timer that fires this much later than it was set was not run in between: the process was stopped, or starved.
const PAUSE: Duration = Duration::from_secs(1);

/// The time to read the data that arrived in the sockets during such a pause.
const AFTER_PAUSE: Duration = Duration::from_secs(1);

/// Limits all of connecting (name resolution, TCP and TLS), and creates the [`Line`] of each connection.
#[derive(Debug, Clone)]
pub(crate) struct ConnectDeadline<C> {
    inner: C,
    within: Duration,
    kept: Arc<Kept>,
    most_head: usize,
    /// HTTP/2 is used without negotiation.
    is_http2: bool,
}

impl<C> ConnectDeadline<C> {
    pub(super) const fn new(
        inner: C,
        within: Duration,
        kept: Arc<Kept>,
        most_head: usize,
        is_http2: bool,
    ) -> Self {
        Self { inner, within, kept, most_head, is_http2 }
    }
}

impl<C> Service<Uri> for ConnectDeadline<C>
where
    C: Service<Uri, Error: Into<BoxError> + Send>,
    C::Future: Send + 'static,
    C::Response: Read + Write + Connection + Unpin + Send + 'static,
{
    type Response = TokioIo<Wire<TokioIo<C::Response>>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { within, ref kept, most_head, is_http2, .. } = *self;
        let kept = Arc::clone(kept);
        let mut connecting = Box::pin(self.inner.call(uri));
        Box::pin(async move {
            let begun = Instant::now();
            let mut connected = timeout(within, connecting.as_mut()).await;
            if connected.is_err() && begun.elapsed().saturating_sub(within) >= PAUSE {
                connected = timeout(AFTER_PAUSE, connecting.as_mut()).await;
            }
            let Ok(connected) = connected else { return Err(ConnectError::Deadline(within).into()) };
            let stream = connected.map_err(Into::into);
            #[cfg(feature = "tls")]
            let stream = stream.map_err(ConnectError::explain);
            let stream = stream?;
            let is_shared = is_http2 || stream.connected().is_negotiated_h2();
            let line = Line::new(&kept, most_head, is_shared);
            Ok(TokioIo::new(Wire::new(TokioIo::new(stream), line)))
        })
    }
}
