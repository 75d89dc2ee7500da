use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use motet::task::timeout;
use tower_service::Service;

use super::ConnectError;
use crate::client::BoxError;

/// Bounds the whole of connecting: name resolution, TCP and TLS.
#[derive(Debug, Clone)]
pub(crate) struct ConnectDeadline<C> {
    inner: C,
    within: Duration,
}

impl<C> ConnectDeadline<C> {
    pub(super) const fn new(inner: C, within: Duration) -> Self {
        Self { inner, within }
    }
}

impl<C> Service<Uri> for ConnectDeadline<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Future: Send + 'static,
    C::Response: 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let within = self.within;
        let connecting = self.inner.call(uri);
        Box::pin(async move {
            let late = |_| Err(ConnectError::Deadline(within).into());
            timeout(within, connecting).await.unwrap_or_else(late)
        })
    }
}
