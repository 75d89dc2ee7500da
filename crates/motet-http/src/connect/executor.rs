use std::future::Future;

use hyper::rt::Executor;
use motet::task::Scope;

use super::upload::SendingTask;

/// Runs the tasks of hyper's client as services of a scope.
///
/// They are services, since an idle connection must not keep the scope open, and a connection that a task of the scope
/// uses must live until that task has ended.
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
        // A scope that has ended returns the task. Dropping it closes the connection, and the call fails.
        if self.0.service("http connection", SendingTask::run(future)).is_err() {
            tracing::debug!("closing a connection that was opened for a scope that has ended");
        }
    }
}
