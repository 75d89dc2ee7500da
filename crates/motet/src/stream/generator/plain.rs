use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;

use super::Yielder;
use super::state::{GeneratorState, GeneratorStep};

/// Creates a stream of the items that an async function emits.
///
/// The body runs in the task of the reader, only while the stream is polled: it starts when the reader asks for the first
/// item, and pauses at each item until the reader asks for the next one. It may await any future, borrow values that
/// outlive the stream, and be recursive.
///
/// # When to use
/// For a stream that is a loop: pages, lines, events, a protocol. To run the body ahead of the reader, in a task:
/// [`spawned`](crate::stream::StreamCombinators::spawned). For a body with errors:
/// [`try_generator`](crate::stream::try_generator).
///
/// # Drop
/// The body is dropped at its current emit or await, with its values.
///
/// # Panics
/// When the stream is polled, with a panic of the body. The stream has ended then.
///
/// # Examples
/// ```
/// use motet::stream::generator;
/// use std::time::Duration;
/// use tokio_stream::StreamExt as _;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let batches = generator(async |mut y| {
///     for number in 1..=3 {
///         tokio::time::sleep(Duration::from_millis(200)).await;
///         y.emit(vec![number; 2]).await;
///     }
/// });
/// assert_eq!(batches.collect::<Vec<_>>().await, [[1, 1], [2, 2], [3, 3]]);
/// # }
/// ```
pub fn generator<T, B, F>(body: B) -> Generator<T, F>
where
    B: FnOnce(Yielder<T>) -> F,
    F: Future<Output = ()>,
{
    Generator { state: GeneratorState::new(|key| body(Yielder::new(key))) }
}

pin_project! {
    /// The stream of [`generator`].
    ///
    /// It is fused: polled after its end, it returns `None` again. It contains its body, and allocates nothing. 32 items
    /// count as one operation of tokio's budget.
    #[must_use = "a stream does nothing unless it is read"]
    pub struct Generator<T, F: Future<Output = ()>> {
        #[pin]
        state: GeneratorState<T, F>,
    }
}

impl<T, F: Future<Output = ()>> Stream for Generator<T, F> {
    type Item = T;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.project().state.poll(cx).map(|step| match step {
            GeneratorStep::Item(item) => Some(item),
            GeneratorStep::End(_) => None,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.is_terminated().then_some(0))
    }
}

impl<T, F: Future<Output = ()>> FusedStream for Generator<T, F> {
    fn is_terminated(&self) -> bool {
        self.state.is_over()
    }
}

impl<T, F: Future<Output = ()>> fmt::Debug for Generator<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator").field("over", &self.state.is_over()).finish_non_exhaustive()
    }
}
