use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;

use crate::task::CancelToken;

pin_project! {
    /// The stream of [`until`](super::StreamCombinators::until).
    #[must_use = "a stream does nothing unless it is read"]
    pub struct Until<S> {
        #[pin]
        stream: Option<S>,
        token: CancelToken,
        // Created when the stream first has to wait.
        cancelled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    }
}

impl<S> Until<S> {
    pub(super) fn new(stream: S, token: CancelToken) -> Self {
        Self { stream: Some(stream), token, cancelled: None }
    }
}

impl<S: Stream> Stream for Until<S> {
    type Item = S::Item;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut this = self.project();
        let Some(stream) = this.stream.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        if !this.token.is_cancelled() {
            match stream.poll_next(cx) {
                Poll::Ready(Some(item)) => return Poll::Ready(Some(item)),
                Poll::Ready(None) => {}
                Poll::Pending => {
                    let cancelled = this.cancelled.get_or_insert_with(|| {
                        let token = this.token.clone();
                        Box::pin(async move {
                            token.cancelled().await;
                        })
                    });
                    if cancelled.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
        *this.cancelled = None;
        this.stream.set(None);
        Poll::Ready(None)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.stream.as_ref().map_or(Some(0), |stream| stream.size_hint().1))
    }
}

impl<S: Stream> FusedStream for Until<S> {
    fn is_terminated(&self) -> bool {
        self.stream.is_none()
    }
}

impl<S> fmt::Debug for Until<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Until")
            .field("over", &self.stream.is_none())
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
