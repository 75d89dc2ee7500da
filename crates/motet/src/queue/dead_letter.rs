/// An item that was handed out as often as it may be, and was never done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter<T> {
    /// The item.
    pub item: T,
    /// How often it was handed out.
    pub attempts: u32,
}
