use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::child::{Fallible, Link, Sink};
use super::failure::Failure;
use super::{Name, Task, TaskError};
use crate::mutant;

/// Reports that a task spawned by [`Nursery::start`](super::Nursery::start) is ready.
///
/// # Drop
/// The starter continues to wait until the task ends.
pub struct Ready<R, E>(Answer<R, E>);

/// The single answer to the starter: the value, or how the task ended before it was ready.
pub(crate) type Answer<R, E> = Arc<Mutex<Option<oneshot::Sender<Result<R, NotReady<E>>>>>>;

fn take<R, E>(answer: &Answer<R, E>) -> Option<oneshot::Sender<Result<R, NotReady<E>>>> {
    answer.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl<R, E> Ready<R, E> {
    pub(crate) fn answer(&self) -> Answer<R, E> {
        Arc::clone(&self.0)
    }

    /// Reports that the task is ready, and sends `value` to the starter: an address, a handle.
    ///
    /// If the starter is gone, the value is dropped, and the task remains a child of its scope.
    pub fn send(self, value: R) {
        let starter = take(&self.0);
        if mutant!("start.lose_answer") {
            return;
        }
        if let Some(starter) = starter {
            drop(starter.send(Ok(value)));
        }
    }
}

/// How a task ended before it was ready.
pub(crate) enum NotReady<E> {
    Returned,
    Failed(E),
}

/// The side of the starter.
pub(crate) struct Starting<R, E>(oneshot::Receiver<Result<R, NotReady<E>>>);

/// Creates the two sides of a start.
pub(crate) fn handshake<R, E>() -> (Ready<R, E>, Starting<R, E>) {
    let (sender, receiver) = oneshot::channel();
    (Ready(Arc::new(Mutex::new(Some(sender)))), Starting(receiver))
}

/// The end of a started task without an error for the scope.
pub(crate) enum Started {
    /// It returned after it was ready.
    Done,
    /// It ended before it was ready: the starter has the answer, and for the scope it is neither a success nor a failure.
    Answered,
}

/// The sink of started tasks.
pub(crate) struct Starter<E>(PhantomData<fn(E)>);

impl<E: Send + 'static> Sink<Result<Started, E>> for Starter<E> {
    type Out = Result<(), Failure<E>>;

    fn returned(link: &Link<'_>, output: Result<Started, E>) -> Self::Out {
        match output {
            Ok(Started::Answered) => Ok(()),
            Ok(Started::Done) => Fallible::returned(link, Ok(())),
            Err(error) => Fallible::returned(link, Err(error)),
        }
    }

    fn failed(failed: TaskError) -> Self::Out {
        Err(Failure::Ended(failed.widen()))
    }
}

/// Ends the wait of the starter when the future of the task is dropped, wherever its `Ready` is by then.
struct LetGo<'a, R, E>(&'a Answer<R, E>);

impl<R, E> Drop for LetGo<'_, R, E> {
    fn drop(&mut self) {
        drop(take(self.0));
    }
}

/// Runs the task, and answers the starter if the task does not.
pub(crate) async fn answering<R, E>(
    answer: Answer<R, E>,
    task: impl Future<Output = Result<(), E>>,
) -> Result<Started, E> {
    let _let_go = LetGo(&answer);
    let ended = task.await;
    let Some(starter) = take(&answer) else { return ended.map(|()| Started::Done) };
    let failed = match ended {
        Ok(()) => NotReady::Returned,
        Err(error) => NotReady::Failed(error),
    };
    let sent = starter.send(Err(failed));
    if mutant!("start.swallow_error") {
        return Ok(Started::Answered);
    }
    match sent {
        // The starter is gone, so the error goes to the scope.
        Err(Err(NotReady::Failed(error))) => Err(error),
        _ => Ok(Started::Answered),
    }
}

impl<R, E> Starting<R, E> {
    pub(crate) async fn ready(self, name: Name, task: Task<(), E>) -> Result<R, TaskError<E>> {
        match self.0.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(NotReady::Returned)) => Err(TaskError::NeverReady { task: name }),
            Ok(Err(NotReady::Failed(error))) => Err(TaskError::Error { task: name, error }),
            // The future of the child was dropped without an answer: it was cancelled, or it panicked.
            Err(_) => Err(task.await.err().unwrap_or(TaskError::NeverReady { task: name })),
        }
    }
}

impl<R, E> fmt::Debug for Ready<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").finish_non_exhaustive()
    }
}
