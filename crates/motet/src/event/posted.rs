/// The result of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
#[must_use = "it reports whether an event was dropped"]
pub struct Posted {
    /// The number of listeners for which the event is queued.
    pub queued: usize,
    /// The number of events that were dropped, the posted event or an older one: the backlog of a listener was full,
    /// its scope has ended, or its runtime has shut down.
    pub dropped: usize,
}

/// The policy of a listener whose backlog is full when an event is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The listener does not receive the new event.
    DropNewest,
    /// The listener does not receive the oldest event of its backlog.
    DropOldest,
}
