use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Error;
use super::exchange::Exchange;

/// The body of a response as a stream: an [`http_body::Body`], within the timeout of its call.
///
/// # Drop
/// Like a [`Response`](super::Response).
pub struct ResponseBody(pub(super) Pin<Box<Exchange>>);

impl ResponseBody {
    /// Returns the next chunk, or `None` at the end. Trailers are skipped.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    ///
    /// # Errors
    /// Like [`Response::chunk`](super::Response::chunk).
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.0.as_mut().chunk().await
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.get_mut().0.as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.begun().is_empty() && self.0.is_at_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("read_ahead", &self.0.begun().len())
            .field("is_at_end", &self.0.is_at_end())
            .finish_non_exhaustive()
    }
}
