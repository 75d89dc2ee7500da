use crate::task::outcome::IntoResult;

/// The return value of a listener: `()` or a `Result`.
///
/// Implemented for `()` and for `Result<(), E>`, where `E` is any error that converts to a boxed error.
pub trait Answer: IntoResult {}

impl<T: IntoResult> Answer for T {}
