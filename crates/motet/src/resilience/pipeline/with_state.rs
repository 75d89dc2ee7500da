//! Operations that borrow mutably: each attempt takes the borrowed state by value, and returns it when it ends.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use crate::mutant;

/// A boxed `Send` future, as `run_with` takes it.
pub(crate) type BoxFuture<'s, T> = Pin<Box<dyn Future<Output = T> + Send + 's>>;

/// Holds the operation between two attempts.
///
/// The lock is held to move the operation in or out, never while it runs.
pub(crate) struct OperationSlot<T>(Mutex<Option<T>>);

impl<T> OperationSlot<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(Some(value)))
    }

    fn take(&self) -> LentOperation<'_, T> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        LentOperation { value: slot.take(), slot: self }
    }
}

/// Returns the operation, also when its attempt is dropped.
struct LentOperation<'c, T> {
    value: Option<T>,
    slot: &'c OperationSlot<T>,
}

impl<T> LentOperation<'_, T> {
    fn get(&mut self) -> &mut T {
        match &mut self.value {
            Some(value) => value,
            None => unreachable!("attempts run one at a time, and each returns the operation"),
        }
    }
}

impl<T> Drop for LentOperation<'_, T> {
    fn drop(&mut self) {
        if mutant!("resilience.lose_operation") {
            return;
        }
        *self.slot.0.lock().unwrap_or_else(PoisonError::into_inner) = self.value.take();
    }
}

pub(crate) async fn call_mut<F, T>(slot: &OperationSlot<F>) -> T
where
    F: AsyncFnMut() -> T,
{
    let mut operation = slot.take();
    operation.get()().await
}

pub(crate) async fn call_with<S, F, T>(slot: &OperationSlot<(&mut S, F)>) -> T
where
    S: ?Sized,
    F: for<'s> FnMut(&'s mut S) -> BoxFuture<'s, T>,
{
    let mut lent = slot.take();
    let (state, operation) = lent.get();
    operation(state).await
}
