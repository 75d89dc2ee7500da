//! Ends the sending of a request whose call has ended.
//!
//! hyper continues to send a request whose call was dropped, or was answered before the request was sent completely:
//! while the peer reads nothing, the connection and the body stay. Therefore a call knows the task of hyper that sends
//! its body, and ends that task: with HTTP/1.1 the connection, with HTTP/2 only the stream of the request.
//!
//! The call and the task meet in the body, which hyper polls in the task that sends it. An HTTP/2 body is first polled by
//! the task that starts all requests of the connection, which is never ended. If the peer does not take the whole body at
//! once, that task starts a task of the body, which is ended with the call.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use motet::mutant;
use pin_project_lite::pin_project;

use crate::client::BoxError;

thread_local! {
    /// The task of hyper that is being polled.
    static CURRENT: RefCell<Option<Arc<SendingTask>>> = const { RefCell::new(None) };
}

/// The sending of the body of one request.
#[derive(Default)]
pub(crate) struct Upload {
    tasks: Mutex<Tasks>,
    /// hyper has read the whole body, or has dropped it.
    is_taken: AtomicBool,
    is_over: AtomicBool,
    /// The error of the body, which hyper loses with HTTP/2.
    failure: Mutex<Option<BoxError>>,
}

#[derive(Default)]
struct Tasks {
    /// The task of the connection.
    connection: Option<Arc<SendingTask>>,
    /// HTTP/2: the tasks of this request.
    own: Vec<Arc<SendingTask>>,
}

impl Upload {
    /// Returns `false` if the call has ended. Called at each poll of the body.
    pub(crate) fn goes_on(self: &Arc<Self>) -> bool {
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
    pub(crate) fn note_task(self: &Arc<Self>) {
        CURRENT.with_borrow(|current| {
            let Some(current) = current else { return };
            self.tasks().connection.get_or_insert_with(|| Arc::clone(current));
            current.sends(Some(self));
        });
    }

    /// Returns `true` if the request is known to be sent over HTTP/1.1.
    pub(crate) fn is_http1(&self) -> bool {
        self.tasks().connection.as_ref().is_some_and(|connection| connection.state().has_wire)
    }

    /// Notes that hyper does not poll the body any more.
    pub(crate) fn taken(&self) {
        self.is_taken.store(true, Ordering::Release);
    }

    /// Notes the error of the body.
    pub(crate) fn failed(&self, error: BoxError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Ends the sending, unless the whole request was sent and answered.
    fn end(self: &Arc<Self>, is_answered: bool) {
        self.is_over.store(true, Ordering::Release);
        let Tasks { connection, own } = std::mem::take(&mut *self.tasks());
        let is_taken = self.is_taken.load(Ordering::Acquire);
        if !is_taken {
            // Dropping the task of the body resets the stream.
            own.iter().for_each(|task| task.end(self));
        }
        let Some(connection) = connection else { return };
        let SendingState { has_wire, is_blocked, .. } = *connection.state();
        let is_sent = is_taken && is_answered && !is_blocked;
        if has_wire && !is_sent {
            connection.end(self);
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes that the current task of hyper sends a request without a body.
pub(crate) fn note_empty() {
    CURRENT.with_borrow(|current| {
        if let Some(current) = current {
            current.sends(None);
        }
    });
}

/// Runs code of the caller, such as the stream of a body, inside of a task of hyper.
///
/// The calls that this code makes are not a part of the request that the task sends: their connections are shared, and
/// must not end with that request.
pub(crate) fn outside_of_task<T>(code: impl FnOnce() -> T) -> T {
    let _outside = Current(CURRENT.take());
    code()
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

    /// The error of the body, if the body has failed.
    pub(super) fn take_failure(&self) -> Option<BoxError> {
        self.upload.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
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
    upload: Option<Weak<Upload>>,
    /// `true` if the task is an HTTP/1.1 connection.
    has_wire: bool,
    /// `true` if the last write did not complete, because the peer reads nothing.
    is_blocked: bool,
    is_ended: bool,
    waker: Option<Waker>,
}

impl SendingTask {
    /// Runs a future that the call can end. If a task of hyper starts the future, it belongs to the request that this
    /// task sends.
    pub(super) fn run<F: Future<Output = ()>>(future: F) -> impl Future<Output = ()> {
        let task = Arc::<Self>::default();
        let upload = CURRENT.with_borrow(|current| current.as_ref()?.state().upload.as_ref()?.upgrade());
        if let Some(upload) = upload {
            task.sends(Some(&upload));
            upload.tasks().own.push(Arc::clone(&task));
            // The call may have ended between the poll of the body and this start, on another thread.
            if upload.is_over.load(Ordering::Acquire) {
                task.end(&upload);
            }
        }
        Running { future: Some(future), task }
    }

    fn sends(&self, upload: Option<&Arc<Upload>>) {
        let mut state = self.state();
        if !state.is_of(upload) {
            state.upload = upload.map(Arc::downgrade);
            // The previous call had ended when this one got its connection.
            state.is_ended = false;
        }
    }

    fn end(&self, upload: &Arc<Upload>) {
        let mut state = self.state();
        if !state.is_of(Some(upload)) {
            return;
        }
        state.is_ended = true;
        let waker = state.waker.take();
        drop(state);
        wake_hyper(waker);
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

impl SendingState {
    fn is_of(&self, upload: Option<&Arc<Upload>>) -> bool {
        match (&self.upload, upload) {
            (Some(current), Some(upload)) => std::ptr::eq(current.as_ptr(), Arc::as_ptr(upload)),
            (None, None) => true,
            _ => false,
        }
    }
}

/// Wakes a task of hyper.
#[expect(clippy::disallowed_methods, reason = "the waker of a task of this crate, which does not panic")]
pub(super) fn wake_hyper(waker: Option<Waker>) {
    waker.into_iter().for_each(Waker::wake);
}

/// Notes that the current task writes to an HTTP/1.1 connection, and whether the peer reads.
pub(super) fn wrote<T>(written: &Poll<T>) {
    CURRENT.with_borrow(|current| {
        let Some(current) = current else { return };
        let mut state = current.state();
        state.is_blocked = written.is_pending();
        if std::mem::replace(&mut state.has_wire, true) {
            return;
        }
        // The call may have ended before this first write, when the task was not known to be an HTTP/1.1 connection.
        let upload = state.upload.as_ref().and_then(Weak::upgrade);
        if upload.is_some_and(|upload| upload.is_over.load(Ordering::Acquire)) {
            state.is_ended = true;
            let waker = state.waker.take();
            drop(state);
            wake_hyper(waker);
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
    fn blocked_after(task: &Arc<SendingTask>, first: &Arc<Upload>, next: impl FnOnce()) {
        let _current = Current::enter(task);
        first.note_task();
        assert!(first.goes_on());
        first.taken();
        wrote(&Poll::Ready(()));
        next();
        wrote(&Poll::<()>::Pending);
    }

    #[test]
    fn late_end_of_a_call_does_not_end_the_next_request() {
        let (task, first, second) =
            (Arc::new(SendingTask::default()), Arc::<Upload>::default(), Arc::<Upload>::default());
        blocked_after(&task, &first, || second.note_task());
        first.end(true);
        assert!(task.goes_on(Waker::noop()));
        second.end(false);
        assert!(!task.goes_on(Waker::noop()));
    }

    #[test]
    fn late_end_of_a_call_does_not_end_a_request_without_body() {
        let (task, first) = (Arc::new(SendingTask::default()), Arc::<Upload>::default());
        blocked_after(&task, &first, note_empty);
        first.end(false);
        assert!(task.goes_on(Waker::noop()));
    }

    #[test]
    fn sending_task_started_after_the_end_of_its_call_ends_at_once() {
        let (connection, upload) = (Arc::new(SendingTask::default()), Arc::<Upload>::default());
        let _current = Current::enter(&connection);
        assert!(upload.goes_on());
        upload.end(false);
        let mut task = std::pin::pin!(SendingTask::run(std::future::pending()));
        assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    #[test]
    fn call_that_ended_before_the_first_write_ends_its_sending_task() {
        let (task, upload) = (Arc::new(SendingTask::default()), Arc::<Upload>::default());
        let _current = Current::enter(&task);
        upload.note_task();
        assert!(upload.goes_on());
        upload.end(false);
        wrote(&Poll::<()>::Pending);
        assert!(!task.goes_on(Waker::noop()));
    }

    #[test]
    fn end_of_a_call_ends_its_blocked_sending_task() {
        let (task, first) = (Arc::new(SendingTask::default()), Arc::<Upload>::default());
        blocked_after(&task, &first, || {});
        first.end(true);
        assert!(!task.goes_on(Waker::noop()));
    }
}
