use crate::task::outcome::IntoResult;

/// What a listener returns: nothing, or a `Result`.
///
/// Implemented for `()` and for `Result<(), E>` with any error that converts to a boxed one.
pub trait Answer: IntoResult {}

impl<T: IntoResult> Answer for T {}
