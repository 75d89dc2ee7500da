/// What became of an event that was posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
#[must_use = "it says whether something was thrown away"]
pub struct Posted {
    /// How many listeners will hear it.
    pub queued: usize,
    /// How many events were thrown away for it, this one or an older one: the backlog of a listener was full, its scope
    /// has ended, or its runtime is gone.
    pub dropped: usize,
}

/// What becomes of a posted event when the backlog of a listener is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The listener does not hear the new event.
    DropNewest,
    /// The listener does not hear the oldest event that waits for it.
    DropOldest,
}
