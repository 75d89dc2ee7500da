//! A stream with several readers.

mod hub;
mod reader;

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use futures_core::Stream;
use tokio::task::coop::consume_budget;

use super::error::{SetupProblem, StreamSetupError};
use super::tasks::drop_caught;
use crate::event::Lag;
use crate::sync::Class;
use crate::task::child::{Plain, Spec, Stop, launch};
use crate::task::member::Member;
use crate::task::{Name, Scope};
use hub::{End, Hub};
pub use reader::Broadcast;

/// Reads a stream in a task, for this number of readers.
pub(super) fn broadcast<S>(
    source: S,
    (scope, name, site): (&Scope, Name, &'static Location<'static>),
    readers: usize,
    lag: Lag,
) -> Result<Vec<Broadcast<S::Item>>, StreamSetupError<S>>
where
    S: Stream<Item: Send + Sync + 'static> + Send + 'static,
{
    // A member until the task has started, so that the scope cannot close after this check.
    let Some(_member) = Member::enter(&scope.0, Class::Work) else {
        return Err(StreamSetupError { stream: source, problem: SetupProblem::ScopeClosed });
    };
    let hub = Arc::new(Hub::new(lag, scope.clone(), name.clone(), readers));
    let driver = Driver { source: Some(Box::pin(source)), hub: Arc::clone(&hub), ended: false };
    let spec = Spec::new(name, site, Class::Work, Stop::Drop);
    let _detached = launch::<_, Plain>(&scope.0, spec, driver.drive());
    Ok((0..readers).map(|reader| Broadcast::new(Arc::clone(&hub), reader)).collect())
}

struct Driver<S: Stream> {
    source: Option<Pin<Box<S>>>,
    hub: Arc<Hub<S::Item>>,
    ended: bool,
}

enum Step<T> {
    Item(T),
    Over,
    Panicked(Box<dyn Any + Send>),
}

impl<S: Stream> Driver<S> {
    async fn drive(mut self) {
        let end = loop {
            consume_budget().await;
            match self.step().await {
                Step::Item(item) => self.hub.put(item),
                Step::Over => break End::Over,
                Step::Panicked(payload) => break self.hub.panicked(payload),
            }
        };
        drop_caught(self.source.take(), &self.hub.scope, &self.hub.name);
        self.ended = true;
        self.hub.end(end);
    }

    async fn step(&mut self) -> Step<S::Item> {
        let Self { source, hub, .. } = self;
        poll_fn(|cx| {
            // Checked at each poll, since the last reader may have been dropped.
            let wanted = ready!(hub.poll_wanted(cx));
            let Some(source) = source.as_mut().filter(|_| wanted) else { return Poll::Ready(Step::Over) };
            match catch_unwind(AssertUnwindSafe(|| source.as_mut().poll_next(cx))) {
                Ok(polled) => polled.map(|item| item.map_or(Step::Over, Step::Item)),
                Err(payload) => Poll::Ready(Step::Panicked(payload)),
            }
        })
        .await
    }
}

impl<S: Stream> Drop for Driver<S> {
    fn drop(&mut self) {
        if !self.ended {
            self.hub.end(End::CutOff);
        }
    }
}
