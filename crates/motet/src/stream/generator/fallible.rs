use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;

use super::Yielder;
use super::course::{Course, Step};

/// Makes a stream of what an async function emits, which ends with an error if the function does.
///
/// What is emitted comes as `Ok`; a `?` in the body ends the stream with that error, as its last item. Otherwise it is a
/// [`generator`](super::generator).
///
/// # Drop
/// As a [`generator`](super::generator).
///
/// # Panics
/// The stream, when it is polled: with a panic of the body. It has ended then.
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
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
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
/// # });
/// ```
pub fn try_generator<T, E, B, F>(body: B) -> TryGenerator<T, E, F>
where
    B: FnOnce(Yielder<T>) -> F,
    F: Future<Output = Result<(), E>>,
{
    TryGenerator { course: Course::new(|key| body(Yielder::new(key))) }
}

pin_project! {
    /// The stream of [`try_generator`]. It is fused, and allocates nothing, as a [`Generator`](super::Generator).
    #[must_use = "a stream does nothing unless it is read"]
    pub struct TryGenerator<T, E, F: Future<Output = Result<(), E>>> {
        #[pin]
        course: Course<T, F>,
    }
}

impl<T, E, F: Future<Output = Result<(), E>>> Stream for TryGenerator<T, E, F> {
    type Item = Result<T, E>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.project().course.poll(cx).map(|step| match step {
            Step::Item(item) => Some(Ok(item)),
            Step::End(Some(Err(error))) => Some(Err(error)),
            Step::End(Some(Ok(())) | None) => None,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.is_terminated().then_some(0))
    }
}

impl<T, E, F: Future<Output = Result<(), E>>> FusedStream for TryGenerator<T, E, F> {
    fn is_terminated(&self) -> bool {
        self.course.is_over()
    }
}

impl<T, E, F: Future<Output = Result<(), E>>> fmt::Debug for TryGenerator<T, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryGenerator").field("over", &self.course.is_over()).finish_non_exhaustive()
    }
}
