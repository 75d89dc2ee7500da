/// Something that has happened, of one type each.
///
/// Listeners get it by reference, or share it: it needs no `Clone`.
///
/// # Examples
/// ```
/// use motet::event::Event;
///
/// struct UserCreated {
///     id: u64,
/// }
///
/// impl Event for UserCreated {
///     const NAME: &'static str = "user.created";
/// }
/// ```
pub trait Event: Send + Sync + 'static {
    /// The name that patterns go by: segments with dots between them.
    const NAME: &'static str;
}
