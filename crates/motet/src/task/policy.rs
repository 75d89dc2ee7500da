/// The reaction of a scope to the error or success of a child.
///
/// A child that panics cancels its siblings under every policy except `Isolate`, and the scope rethrows the panic when all
/// tasks have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Policy {
    /// The first error cancels the body and all siblings. The scope returns it, together with later errors.
    #[default]
    FailFast,
    /// No error cancels a task. The scope returns all errors when all tasks have ended.
    CollectAll,
    /// The first fallible child that succeeds cancels its siblings, but not the body. Errors count only if
    /// none succeeds.
    FirstOk,
    /// Errors and panics belong to the task: its [`Task`](super::Task) returns them, and the scope does not. Without panics,
    /// [`gather`](super::gather()) of futures that return `Result`s does the same in one task.
    Isolate,
}
