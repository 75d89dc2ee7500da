use std::future::Future;

use hyper::rt::Executor;
use motet::task::Scope;

use super::upload::SendingTask;

/// Has the tasks of hyper's client belong to a scope: they are its services.
///
/// As services, for a connection that is idle must not keep the scope open, and one that is in use by a task of the
/// scope must live until that has ended.
#[derive(Debug, Clone)]
pub(crate) struct ScopeExecutor(Scope);

impl ScopeExecutor {
    pub(crate) fn new(scope: Scope) -> Self {
        Self(scope)
    }
}

impl<F> Executor<F> for ScopeExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        // Of a scope that has ended it comes back and is dropped, which closes the connection; the call that wanted
        // it hears of that.
        if self.0.service("http connection", SendingTask::run(future)).is_err() {
            tracing::debug!("a connection was opened for a scope that has ended, and is closed");
        }
    }
}
