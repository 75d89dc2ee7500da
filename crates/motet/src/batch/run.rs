//! A running batch: a task of the scope that always ends with answers.

use std::sync::Arc;

use super::shared::{BatchShared, Start};
use super::slots::{Answers, BatchSlots, Failure};
use super::state::SlotMap;
use crate::sync::{Class, panic_words};
use crate::task::caught::Caught;
use crate::task::child::{Plain, Spec, Stop, launch};
use crate::task::coop::cooperative;
use crate::task::core::Level;
use crate::task::{CancelToken, Scope};
use crate::{mutant, sim};

/// The output of a handler: an answer for each item, in the order of the items, or one error for all of them.
///
/// Implemented for `Vec<Result<R, E>>` and for `Result<Vec<Result<R, E>>, E>`.
#[allow(unnameable_types, reason = "handlers return one of two types, and do not name the trait")]
#[diagnostic::on_unimplemented(
    message = "a batch handler cannot return `{Self}`",
    label = "return `Vec<Result<R, E>>`, or `Result<Vec<Result<R, E>>, E>`"
)]
pub trait BatchOutcome {
    /// The answer to an item.
    type Value;
    /// The error of an item.
    type Error;

    /// The answers to the items, or the error for all of them.
    #[allow(clippy::type_complexity, reason = "a result of results")]
    fn into_answers(self) -> Result<Vec<Result<Self::Value, Self::Error>>, Self::Error>;
}

impl<R, E> BatchOutcome for Vec<Result<R, E>> {
    type Value = R;
    type Error = E;

    fn into_answers(self) -> Result<Self, E> {
        Ok(self)
    }
}

impl<R, E> BatchOutcome for Result<Vec<Result<R, E>>, E> {
    type Value = R;
    type Error = E;

    fn into_answers(self) -> Self {
        self
    }
}

pub(super) struct Running<T, R, E> {
    shared: Arc<BatchShared<T, R, E>>,
    slots: Arc<BatchSlots<T, R, E>>,
    /// `Some` until the handler gets the items.
    items: Option<Vec<T>>,
    slot_map: SlotMap,
    ended: bool,
}

impl<T, R, E> Running<T, R, E> {
    pub(super) fn new(
        shared: Arc<BatchShared<T, R, E>>,
        slots: Arc<BatchSlots<T, R, E>>,
        items: Vec<T>,
        slot_map: SlotMap,
    ) -> Self {
        Self { shared, slots, items: Some(items), slot_map, ended: false }
    }

    async fn run<F, Fut>(mut self, handler: Arc<F>)
    where
        F: Fn(Vec<T>) -> Fut,
        Fut: Future<Output: BatchOutcome<Value = R, Error = E>>,
    {
        let items = self.items.take().unwrap_or_default();
        let items = self.slot_map.in_order(items);
        let count = items.len();
        sim::op("batch.run");
        // The call is inside as well: a handler may panic before it returns its future.
        let answers = match Caught::new(async move { handler(items).await.into_answers() }).await {
            Ok(Ok(answers)) if answers.len() == count => Ok((self.shared.spread)(&self.slot_map, answers)),
            Ok(Ok(answers)) => {
                let mismatch = Failure::Mismatch { items: count, answers: answers.len() };
                self.shared.drop_caught(answers);
                Err(mismatch)
            }
            Ok(Err(error)) => Err(Failure::Failed(Arc::new(error))),
            Err(payload) => Err(Failure::Panicked(panic_words(payload).into())),
        };
        self.end(answers.map_or_else(Answers::All, Answers::Each));
    }

    fn end(&mut self, answers: Answers<T, R, E>) {
        self.ended = true;
        self.shared.end(&self.slots, answers);
    }
}

/// If it is dropped before its end, the scope is cancelled, or the runtime shuts down: no further batch would run.
impl<T, R, E> Drop for Running<T, R, E> {
    fn drop(&mut self) {
        if mutant!("batch.strand_on_cancel") {
            return;
        }
        if self.ended {
            return;
        }
        let answers = match self.items.take() {
            Some(items) => Answers::Back(self.slot_map.by_number(items)),
            None => Answers::All(Failure::Cancelled),
        };
        // First, so that the end of this batch starts no other one.
        self.shared.abandon();
        self.end(answers);
    }
}

/// Returns the function that starts a task for a batch.
pub(super) fn starter<T, R, E, F, Fut>(scope: Scope, handler: F) -> Start<T, R, E>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Send + Sync + 'static,
    F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: BatchOutcome<Value = R, Error = E>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Box::new(move |running: Running<T, R, E>| {
        let (name, site) = (running.shared.name.clone(), running.shared.site);
        let core = &scope.0;
        let batch = running.run(Arc::clone(&handler));
        // Only services are left: this batch is the last work that the scope waits for, and it has the grace period of
        // the scope.
        if core.reached(Level::Services) && core.reason().is_none() {
            let token = CancelToken::new();
            let spec = Spec::cooperative(name.clone(), site, Class::Service, token.clone());
            drop(launch::<_, crate::task::coop::Cooperative>(
                core,
                spec,
                cooperative(name, token, core.grace, batch),
            ));
            return;
        }
        let spec = Spec::new(name, site, Class::Work, Stop::Drop).in_span_of_scope();
        // If the scope has ended, the task is dropped, and hands its items back.
        drop(launch::<_, Plain>(core, spec, batch));
    })
}
