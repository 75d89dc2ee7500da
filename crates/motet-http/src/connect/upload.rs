//! Ends the sending of a request whose call has ended.
//!
//! hyper continues to send a request whose call was dropped, or was answered before the request was sent completely:
//! while the peer reads nothing, the connection and the body stay. Therefore a call knows the task of hyper that sends
//! its body, and ends that task: with HTTP/1.1 the connection, with HTTP/2 only the stream of the request.
//!
//! The call and the task meet in the body, which hyper polls in the task that sends it. An HTTP/2 body is polled once
//! by the task that starts all requests of the connection, and then by its own task; the first task is never ended.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use motet::mutant;
use pin_project_lite::pin_project;

thread_local! {
    /// The task of hyper that is being polled.
    static CURRENT: RefCell<Option<Arc<SendingTask>>> = const { RefCell::new(None) };
}

/// The value in place of the address of an [`Upload`].
const NO_UPLOAD: usize = 0;

/// The sending of the body of one request.
#[derive(Default)]
pub(crate) struct Upload {
    tasks: Mutex<Tasks>,
    /// hyper has read the whole body, or has dropped it.
    is_taken: AtomicBool,
    is_over: AtomicBool,
}

#[derive(Default)]
struct Tasks {
    first: Option<Arc<SendingTask>>,
    latest: Option<Arc<SendingTask>>,
}

impl Upload {
    /// Notes the task that polls the body. Returns `false` if the call has ended.
    pub(crate) fn goes_on(&self) -> bool {
        if self.is_over.load(Ordering::Acquire) {
            return false;
        }
        self.note_task();
        true
    }

    /// Notes that the current task of hyper sends this request.
    ///
    /// hyper asks for the length of a body before it writes the head. From then on the connection belongs to this
    /// request, and a late end of the previous call must not end it.
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

    /// Notes that hyper does not poll the body any more.
    pub(crate) fn taken(&self) {
        self.is_taken.store(true, Ordering::Release);
    }

    /// Ends the sending, unless the whole request was sent and answered.
    fn end(&self, is_answered: bool) {
        self.is_over.store(true, Ordering::Release);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, latest) = (tasks.first.take(), tasks.latest.take());
        drop(tasks);
        let Some(task) = latest else { return };
        let is_taken = self.is_taken.load(Ordering::Acquire);
        let SendingState { has_wire, is_blocked, .. } = *task.state();
        let is_of_all = !has_wire && first.is_some_and(|first| Arc::ptr_eq(&first, &task));
        // The part of an HTTP/2 body that hyper has read ends with its stream, which the call resets.
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
/// Ends the call.
pub(crate) struct CallEnd {
    upload: Arc<Upload>,
    is_answered: bool,
}

impl CallEnd {
    pub(super) fn new(upload: &Arc<Upload>) -> Self {
        Self { upload: Arc::clone(upload), is_answered: false }
    }

    /// Notes that the head of the response has arrived.
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
    /// The current or last upload: a connection serves one call after another.
    upload: usize,
    /// The task is an HTTP/1.1 connection.
    has_wire: bool,
    /// The last write did not complete: the peer reads nothing.
    is_blocked: bool,
    is_ended: bool,
    waker: Option<Waker>,
}

impl SendingTask {
    /// Runs a future that the call can end.
    pub(super) fn run<F: Future<Output = ()>>(future: F) -> impl Future<Output = ()> {
        Running { future: Some(future), task: Arc::default() }
    }

    fn sends(&self, upload: usize) {
        let mut state = self.state();
        if state.upload != upload {
            state.upload = upload;
            // The previous call had ended when this one got its connection.
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

    /// Returns `true` if the task continues. Called at each poll.
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

/// Notes that the current task writes to an HTTP/1.1 connection, and whether the peer reads.
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
            // Drops its connection or stream, and the body.
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

    /// Simulates a peer that reads the first write of `task`, and not the second one, which belongs to the next
    /// request.
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
