use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;

use super::Yielder;
use super::course::{Course, Step};

/// Makes a stream of what an async function emits.
///
/// The body runs while the stream is polled, in the reader's task: it is at rest until the first item is asked for, and
/// between any two. It may await anything, borrow what lives longer than the stream, and call itself.
///
/// # When to use
/// For a stream that is a loop in the end: pages, lines, events, a protocol. To have it run ahead in a task of its own,
/// [`spawned`](crate::stream::StreamCombinators::spawned). With errors: [`try_generator`](crate::stream::try_generator).
///
/// # Drop
/// The body is dropped at the emit or await where it is, with what it holds.
///
/// # Panics
/// The stream, when it is polled: with a panic of the body. It has ended then.
///
/// # Examples
/// ```
/// use motet::stream::generator;
/// use std::time::Duration;
/// use tokio_stream::StreamExt as _;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let batches = generator(async |mut y| {
///     for number in 1..=3 {
///         tokio::time::sleep(Duration::from_millis(200)).await;
///         y.emit(vec![number; 2]).await;
///     }
/// });
/// assert_eq!(batches.collect::<Vec<_>>().await, [[1, 1], [2, 2], [3, 3]]);
/// # });
/// ```
pub fn generator<T, B, F>(body: B) -> Generator<T, F>
where
    B: FnOnce(Yielder<T>) -> F,
    F: Future<Output = ()>,
{
    Generator { course: Course::new(|key| body(Yielder::new(key))) }
}

pin_project! {
    /// The stream of [`generator`].
    ///
    /// It is fused: polled after its end, it is at its end. It holds its body in place and allocates nothing. 32 items
    /// are one operation of tokio's budget.
    #[must_use = "a stream does nothing unless it is read"]
    pub struct Generator<T, F: Future<Output = ()>> {
        #[pin]
        course: Course<T, F>,
    }
}

impl<T, F: Future<Output = ()>> Stream for Generator<T, F> {
    type Item = T;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.project().course.poll(cx).map(|step| match step {
            Step::Item(item) => Some(item),
            Step::End(_) => None,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.is_terminated().then_some(0))
    }
}

impl<T, F: Future<Output = ()>> FusedStream for Generator<T, F> {
    fn is_terminated(&self) -> bool {
        self.course.is_over()
    }
}

impl<T, F: Future<Output = ()>> fmt::Debug for Generator<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator").field("over", &self.course.is_over()).finish_non_exhaustive()
    }
}
