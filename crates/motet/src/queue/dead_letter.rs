/// An item that was handed out as often as the queue allows, without being settled as done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter<T> {
    /// The item.
    pub item: T,
    /// The number of times the item was handed out.
    pub attempts: u32,
}
