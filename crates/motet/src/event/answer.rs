use crate::resource::ReleaseOutcome;

/// What a listener returns: nothing, or a `Result`.
///
/// Implemented for `()` and for `Result<(), E>` with any error that converts to a boxed one.
pub trait Answer: ReleaseOutcome {}

impl<T: ReleaseOutcome> Answer for T {}
