use std::fmt;
use std::time::Duration;

/// The attempt that an operation is called for.
pub struct Attempt<'a, E> {
    pub(super) number: u32,
    pub(super) remaining: Option<Duration>,
    pub(super) last_error: Option<&'a E>,
}

impl<'a, E> Attempt<'a, E> {
    /// The number of this attempt within its call, hedges included; the first attempt has number 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The time that was left when the attempt began: until the nearest of all limits around it, including the limits
    /// of an outer pipeline. `None` if there is no limit.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.remaining
    }

    /// The last error of the operation in this call.
    #[must_use]
    pub fn last_error(&self) -> Option<&'a E> {
        self.last_error
    }
}

impl<E> Clone for Attempt<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Attempt<'_, E> {}

impl<E: fmt::Debug> fmt::Debug for Attempt<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("number", &self.number)
            .field("remaining", &self.remaining)
            .field("last_error", &self.last_error)
            .finish()
    }
}
