use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::task::coop::poll_proceed;

use super::BoxError;
use crate::connect::{Upload, note_empty, outside_of_task};

/// The body of a request: bytes, which can be sent again, or a stream, which can be sent once.
///
/// # Examples
/// ```
/// use motet_http::Body;
///
/// assert_eq!(Body::from("hello").as_bytes().map(|bytes| bytes.len()), Some(5));
/// ```
pub struct Body(Kind);

enum Kind {
    Bytes(Bytes),
    /// In a lock, so that a request is `Sync`. Taken once.
    Stream(Mutex<Option<UnsyncBoxBody<Bytes, BoxError>>>),
}

impl Body {
    /// Creates an empty body.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Bytes(Bytes::new()))
    }

    /// Creates a body that sends the chunks of a stream, as fast as the server reads them. Empty chunks are skipped.
    ///
    /// A request with such a body is sent once: it is not retried, and not redirected with its body. If the stream panics,
    /// the call fails with [`ErrorKind::RequestBody`](super::ErrorKind::RequestBody).
    #[must_use]
    pub fn stream<S, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Self::wrap(StreamBody::new(Frames { stream }))
    }

    /// Wraps a body of another library. A body of known length is sent with its length.
    #[must_use]
    pub fn wrap<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self(Kind::Stream(Mutex::new(Some(body.map_err(Into::into).boxed_unsync()))))
    }

    /// Returns the bytes, or `None` for a stream.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            Kind::Bytes(bytes) => Some(bytes),
            Kind::Stream(_) => None,
        }
    }

    pub(super) fn try_clone(&self) -> Option<Self> {
        self.as_bytes().map(|bytes| Self(Kind::Bytes(bytes.clone())))
    }

    /// Returns the body to send, or `None` if it is a stream that has been sent.
    pub(crate) fn outgoing(&self) -> Option<Outgoing> {
        match &self.0 {
            Kind::Bytes(bytes) if bytes.is_empty() => Some(Outgoing(None)),
            Kind::Bytes(bytes) => Some(Outgoing::new(bytes.clone(), None)),
            Kind::Stream(stream) => {
                let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take()?;
                Some(Outgoing::new(Bytes::new(), Some(stream)))
            }
        }
    }
}

pin_project_lite::pin_project! {
    struct Frames<S> {
        #[pin]
        stream: S,
    }
}

impl<S: Stream<Item = Result<Bytes, E>>, E> Stream for Frames<S> {
    type Item = Result<Frame<Bytes>, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.project().stream.poll_next(cx).map(|item| item.map(|chunk| chunk.map(Frame::data)))
    }
}

/// The message of a panic.
fn message_of(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&'static str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (None, Some(message)) => message,
        (None, None) => "without a message",
    }
}

/// A body as hyper takes it. Small, since hyper moves requests often, and most requests have no body.
pub(crate) struct Outgoing(Option<Box<Unsent>>);

/// The most bytes that hyper receives in one frame.
///
/// After the response has ended and hyper has read the last frame, an HTTP/2 stream cannot be reset any more: its frames
/// stay in memory until the peer reads them, or until the connection ends. Before the last frame, hyper reads only what
/// the peer allows it to send.
const MAX_FRAME: usize = 64 << 10;

struct Unsent {
    /// The rest of the current chunk.
    chunk: Bytes,
    /// `true` if the chunk was larger than a frame.
    is_split: bool,
    /// The further chunks; `None` if the body is one chunk of bytes.
    stream: Option<UnsyncBoxBody<Bytes, BoxError>>,
    upload: Arc<Upload>,
}

impl Unsent {
    /// The next piece of the current chunk.
    fn next_piece(&mut self) -> Bytes {
        let piece = self.chunk.split_to(self.chunk.len().min(MAX_FRAME));
        match self.is_split && !self.upload.is_http1() {
            // Or a frame that stays in memory would keep the memory of the whole chunk.
            true => Bytes::copy_from_slice(&piece),
            false => piece,
        }
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.upload.taken();
    }
}

impl Outgoing {
    fn new(chunk: Bytes, stream: Option<UnsyncBoxBody<Bytes, BoxError>>) -> Self {
        let is_split = chunk.len() > MAX_FRAME;
        Self(Some(Box::new(Unsent { chunk, is_split, stream, upload: Arc::default() })))
    }

    /// The state of the upload, or `None` for an empty body.
    pub(crate) fn upload(&self) -> Option<&Arc<Upload>> {
        self.0.as_deref().map(|unsent| &unsent.upload)
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(unsent) = self.get_mut().0.as_deref_mut() else { return Poll::Ready(None) };
        if !unsent.upload.goes_on() {
            return Poll::Ready(Some(Err("the call of this body has ended".into())));
        }
        // Empty chunks are not sent: with HTTP/2 each one would be a frame outside of the flow control, and servers
        // end a connection with many of them.
        while unsent.chunk.is_empty() {
            let Some(stream) = &mut unsent.stream else { return Poll::Ready(None) };
            // hyper polls a body until it is pending: a body that is always ready would never let its task end.
            let unit = ready!(poll_proceed(cx));
            let polled =
                outside_of_task(|| catch_unwind(AssertUnwindSafe(|| Pin::new(stream).poll_frame(cx))));
            let frame = match polled {
                Ok(polled) => ready!(polled),
                // It must end its own call, and not the task of hyper, whose panic would end the scope of the client.
                Err(panic) => Some(Err(format!("the stream panicked: {}", message_of(&*panic)).into())),
            };
            unit.made_progress();
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(chunk))) => {
                    unsent.is_split = chunk.len() > MAX_FRAME;
                    unsent.chunk = chunk;
                }
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => {
                    unsent.upload.failed(error);
                    return Poll::Ready(Some(Err("the body has failed".into())));
                }
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(unsent.next_piece()))))
    }

    /// hyper asks this in the task that sends the request, before it writes the head.
    fn is_end_stream(&self) -> bool {
        let Some(unsent) = self.0.as_deref() else {
            note_empty();
            return true;
        };
        unsent.upload.note_task();
        unsent.chunk.is_empty() && unsent.stream.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let Some(unsent) = self.0.as_deref() else { return SizeHint::with_exact(0) };
        let chunk = unsent.chunk.len() as u64;
        let Some(stream) = &unsent.stream else { return SizeHint::with_exact(chunk) };
        let mut size = stream.size_hint();
        if let Some(upper) = size.upper() {
            size.set_upper(upper.saturating_add(chunk));
        }
        size.set_lower(size.lower().saturating_add(chunk));
        size
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

macro_rules! from_bytes {
    ($($bytes:ty),+) => {$(
        impl From<$bytes> for Body {
            fn from(bytes: $bytes) -> Self {
                Self(Kind::Bytes(bytes.into()))
            }
        }
    )+};
}

from_bytes!(Bytes, Vec<u8>, String, &'static [u8], &'static str);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Bytes(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Kind::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}
