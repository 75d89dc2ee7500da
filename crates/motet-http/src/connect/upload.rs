//! Ends what still sends the request of a call that is over.
//!
//! hyper goes on sending a request whose call was dropped, or was answered before all of it was sent: while the peer takes
//! nothing, the connection and the body stay. So a call knows the task of hyper's that sends its body, and ends that
//! task: with HTTP/1.1 the connection, with HTTP/2 the stream of the request alone.
//!
//! The two meet in the body, which hyper polls in the task that sends it. An HTTP/2 body is polled once by the task that
//! begins all requests of the connection, and from then on by a task of its own; that first task is never ended.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use motet::mutant;
use pin_project_lite::pin_project;

thread_local! {
    /// The task of hyper's that is polled.
    static CURRENT: RefCell<Option<Arc<SendingTask>>> = const { RefCell::new(None) };
}

/// In place of the address of an [`Upload`].
const NO_UPLOAD: usize = 0;

/// The sending of one request's body.
#[derive(Default)]
pub(crate) struct Upload {
    tasks: Mutex<Tasks>,
    /// hyper has all of it, or has given it up.
    is_taken: AtomicBool,
    is_over: AtomicBool,
}

#[derive(Default)]
struct Tasks {
    first: Option<Arc<SendingTask>>,
    latest: Option<Arc<SendingTask>>,
}

impl Upload {
    /// Notes which task polls the body. Returns `false` if its call is over.
    pub(crate) fn goes_on(&self) -> bool {
        if self.is_over.load(Ordering::Acquire) {
            return false;
        }
        self.note_task();
        true
    }

    /// Notes that the current task of hyper sends this request.
    ///
    /// hyper asks for the length of a body before it writes the head. From then on the connection belongs to this request,
    /// and the end of the call before, which may still come, must not end it.
    pub(crate) fn note_task(&self) {
        CURRENT.with_borrow(|current| {
            let Some(current) = current else { return };
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            if !tasks.latest.as_ref().is_some_and(|latest| Arc::ptr_eq(latest, current)) {
                tasks.first.get_or_insert_with(|| Arc::clone(current));
                tasks.latest = Some(Arc::clone(current));
            }
            drop(tasks);
            current.sends(self.id());
        });
    }

    /// The body is not polled any more.
    pub(crate) fn taken(&self) {
        self.is_taken.store(true, Ordering::Release);
    }

    /// The call is over: ends what sends for it, unless all was sent and answered.
    fn end(&self, is_answered: bool) {
        self.is_over.store(true, Ordering::Release);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, latest) = (tasks.first.take(), tasks.latest.take());
        drop(tasks);
        let Some(task) = latest else { return };
        let is_taken = self.is_taken.load(Ordering::Acquire);
        let SendingState { has_wire, is_blocked, .. } = *task.state();
        let is_of_all = !has_wire && first.is_some_and(|first| Arc::ptr_eq(&first, &task));
        // What hyper has of an HTTP/2 body goes with its stream, which the call itself gives up.
        let is_done = is_taken && (!has_wire || (is_answered && !is_blocked));
        if !is_of_all && !is_done {
            task.end(self.id());
        }
    }

    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

/// Notes that the current task of hyper sends a request without a body.
pub(crate) fn note_empty() {
    CURRENT.with_borrow(|current| {
        if let Some(current) = current {
            current.sends(NO_UPLOAD);
        }
    });
}

/// The call's side of an upload.
///
/// # Drop
/// The call is over.
pub(crate) struct CallEnd {
    upload: Arc<Upload>,
    is_answered: bool,
}

impl CallEnd {
    pub(super) fn new(upload: &Arc<Upload>) -> Self {
        Self { upload: Arc::clone(upload), is_answered: false }
    }

    /// The head of the answer is there.
    pub(super) fn answered(&mut self) {
        self.is_answered = true;
    }
}

impl Drop for CallEnd {
    fn drop(&mut self) {
        if mutant!("http.let_it_send") {
            return;
        }
        self.upload.end(self.is_answered);
    }
}

/// A task of hyper's client.
#[derive(Default)]
pub(super) struct SendingTask(Mutex<SendingState>);

#[derive(Default)]
struct SendingState {
    /// The upload that it sends, or sent last: a connection serves one call after another.
    upload: usize,
    /// It is a connection of HTTP/1.1.
    has_wire: bool,
    /// The peer takes nothing at the moment.
    is_blocked: bool,
    is_ended: bool,
    waker: Option<Waker>,
}

impl SendingTask {
    /// Runs a future that may be ended by the call for which it sends.
    pub(super) fn run<F: Future<Output = ()>>(future: F) -> impl Future<Output = ()> {
        Running { future: Some(future), task: Arc::default() }
    }

    fn sends(&self, upload: usize) {
        let mut state = self.state();
        if state.upload != upload {
            state.upload = upload;
            // The call before was over when this one had got its connection.
            state.is_ended = false;
        }
    }

    fn end(&self, upload: usize) {
        let mut state = self.state();
        if state.upload != upload {
            return;
        }
        state.is_ended = true;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Asks, at a poll, whether the task goes on.
    fn goes_on(&self, waker: &Waker) -> bool {
        let mut state = self.state();
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        !state.is_ended
    }

    fn state(&self) -> MutexGuard<'_, SendingState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes that the task which is polled now writes to a connection of HTTP/1.1, and whether the peer takes it.
pub(super) fn wrote<T>(written: &Poll<T>) {
    CURRENT.with_borrow(|current| {
        if let Some(current) = current {
            let mut state = current.state();
            state.has_wire = true;
            state.is_blocked = written.is_pending();
        }
    });
}

pin_project! {
    struct Running<F> {
        #[pin]
        future: Option<F>,
        task: Arc<SendingTask>,
    }
}

impl<F: Future<Output = ()>> Future for Running<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if !this.task.goes_on(cx.waker()) {
            // Its connection, or its stream, and the body.
            this.future.set(None);
        }
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        let _current = Current::enter(this.task);
        future.poll(cx)
    }
}

/// Makes a task the current one until it is dropped.
struct Current(Option<Arc<SendingTask>>);

impl Current {
    fn enter(task: &Arc<SendingTask>) -> Self {
        Self(CURRENT.replace(Some(Arc::clone(task))))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has the peer take the first write of `task` and not the second one, which belongs to the next request.
    fn blocked_after(task: &Arc<SendingTask>, first: &Upload, next: impl FnOnce()) {
        let _current = Current::enter(task);
        first.note_task();
        assert!(first.goes_on());
        first.taken();
        wrote(&Poll::Ready(()));
        next();
        wrote(&Poll::<()>::Pending);
    }

    #[test]
    fn late_end_of_a_call_leaves_the_next_request() {
        let (task, first, second) = (Arc::new(SendingTask::default()), Upload::default(), Upload::default());
        blocked_after(&task, &first, || second.note_task());
        first.end(true);
        assert!(task.goes_on(Waker::noop()));
        second.end(false);
        assert!(!task.goes_on(Waker::noop()));
    }

    #[test]
    fn late_end_of_a_call_leaves_a_request_without_body() {
        let (task, first) = (Arc::new(SendingTask::default()), Upload::default());
        blocked_after(&task, &first, note_empty);
        first.end(false);
        assert!(task.goes_on(Waker::noop()));
    }

    #[test]
    fn end_of_a_call_ends_a_blocked_request() {
        let (task, first) = (Arc::new(SendingTask::default()), Upload::default());
        blocked_after(&task, &first, || {});
        first.end(true);
        assert!(!task.goes_on(Waker::noop()));
    }
}
