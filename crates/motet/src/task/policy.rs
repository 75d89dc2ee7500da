/// Decides what a scope does when a child of it fails or succeeds.
///
/// A child that panics cancels its siblings under every policy but `Isolate`, and the scope rethrows the
/// panic when all have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Policy {
    /// The first error cancels the body and all siblings; the scope returns it, and what else failed.
    #[default]
    FailFast,
    /// Errors cancel nobody; the scope returns all of them when everything has ended.
    CollectAll,
    /// The first fallible child that succeeds cancels its siblings, but not the body. Errors count only if
    /// none succeeds.
    FirstOk,
    /// Errors and panics stay with the task that made them: its [`Task`](super::Task) yields them, and the
    /// scope does not. Where panics need no containing, [`gather`](super::gather()) of futures that return
    /// `Result`s does the same in one task.
    Isolate,
}
