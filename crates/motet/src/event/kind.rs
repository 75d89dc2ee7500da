/// A type of events.
///
/// Listeners receive the event by reference or share it, so it does not have to be `Clone`.
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
    /// The name that patterns are compared with: segments, separated by dots.
    const NAME: &'static str;
}
