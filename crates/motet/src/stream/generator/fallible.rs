use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;

use super::Yielder;
use super::state::{GeneratorState, GeneratorStep};

/// Creates a stream of the items that an async function emits, and of its error.
///
/// An emitted item is yielded as `Ok`. A `?` in the body ends the stream, with the error as its last item. Apart from
/// this, it behaves like a [`generator`](super::generator).
///
/// # Drop
/// As with a [`generator`](super::generator).
///
/// # Panics
/// When the stream is polled, with a panic of the body. The stream has ended then.
///
/// # Examples
/// ```
/// use motet::stream::{Yielder, try_generator};
/// use tokio_stream::StreamExt as _;
///
/// # struct Page { lines: Vec<u32>, next: Option<u32> }
/// # async fn fetch(page: u32) -> Result<Page, &'static str> {
/// #     if page == 2 { return Err("gone") }
/// #     Ok(Page { lines: vec![page * 10, page * 10 + 1], next: Some(page + 1) })
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let lines = try_generator(async |mut y: Yielder<u32>| {
///     let mut next = Some(0);
///     while let Some(page) = next {
///         let page = fetch(page).await?;
///         for line in page.lines {
///             y.emit(line).await;
///         }
///         next = page.next;
///     }
///     Ok(())
/// });
/// assert_eq!(lines.collect::<Vec<_>>().await, [Ok(0), Ok(1), Ok(10), Ok(11), Err("gone")]);
/// # }
/// ```
pub fn try_generator<T, E, B, F>(body: B) -> TryGenerator<T, E, F>
where
    B: FnOnce(Yielder<T>) -> F,
    F: Future<Output = Result<(), E>>,
{
    TryGenerator { state: GeneratorState::new(|key| body(Yielder::new(key))) }
}

pin_project! {
    /// The stream of [`try_generator`]. It is fused, and allocates nothing.
    #[must_use = "a stream does nothing unless it is read"]
    pub struct TryGenerator<T, E, F: Future<Output = Result<(), E>>> {
        #[pin]
        state: GeneratorState<T, F>,
    }
}

impl<T, E, F: Future<Output = Result<(), E>>> Stream for TryGenerator<T, E, F> {
    type Item = Result<T, E>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.project().state.poll(cx).map(|step| match step {
            GeneratorStep::Item(item) => Some(Ok(item)),
            GeneratorStep::End(Some(Err(error))) => Some(Err(error)),
            GeneratorStep::End(Some(Ok(())) | None) => None,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.is_terminated().then_some(0))
    }
}

impl<T, E, F: Future<Output = Result<(), E>>> FusedStream for TryGenerator<T, E, F> {
    fn is_terminated(&self) -> bool {
        self.state.is_over()
    }
}

impl<T, E, F: Future<Output = Result<(), E>>> fmt::Debug for TryGenerator<T, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryGenerator").field("over", &self.state.is_over()).finish_non_exhaustive()
    }
}
