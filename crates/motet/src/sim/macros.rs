//! The macros a program is written with. Each calls a function of this crate that is empty without the
//! feature `sim`: the feature is asked for here, not in the crate that uses the macro.

/// Marks a fault point: a place where a simulation may let things go wrong.
///
/// The value is a [`Fault`](crate::sim::Fault). Awaited, it first waits as long as the simulation decided,
/// which is mostly not at all, and then says whether to fail here; [`fails`](crate::sim::Fault::fails)
/// answers without waiting, where there is nothing to await. Outside a simulation, and without the feature
/// `sim`, it is never a fault.
///
/// Each seed enables half of the points, chosen by seed and name alone; an enabled point acts on one pass in
/// four. Seeds with few faults go deep, seeds with many go wide.
///
/// # Cancel safety
/// Safe: a dropped fault was only a wait.
///
/// # Examples
/// ```
/// # #[derive(Debug)] struct Refused;
/// async fn connect() -> Result<&'static str, Refused> {
///     if motet::fault!("pool.connect").await {
///         return Err(Refused);
///     }
///     Ok("connection")
/// }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(connect().await.unwrap(), "connection");
/// # });
/// ```
#[macro_export]
macro_rules! fault {
    ($point:literal) => {
        $crate::sim::fault($point)
    };
}

/// States what must hold whenever this line is reached in a simulation.
///
/// When it does not hold, the run fails with the text and this place; the code goes on until the simulation
/// gets control. Outside a simulation, and without the feature `sim`, the condition is not evaluated, so it
/// must have no effects.
///
/// # Examples
/// ```
/// let (capacity, in_use) = (4, 3);
/// motet::always!(in_use <= capacity, "no more permits in use than there are");
/// ```
#[macro_export]
macro_rules! always {
    ($condition:expr, $text:literal) => {
        if $crate::sim::is_current() {
            $crate::sim::always($condition, $text);
        }
    };
}

/// States what must have been true at this line at least once over all seeds of a simulation.
///
/// A sweep in which it was never true fails and lists the text: it tested less than it seems to. A line that
/// no seed reaches is unknown to the sweep; name it there with `must_see`. Outside a simulation, and without
/// the feature `sim`, the condition is not evaluated.
///
/// # Examples
/// ```
/// let left: u32 = 0;
/// motet::sometimes!(left == 0, "the queue ran empty");
/// ```
#[macro_export]
macro_rules! sometimes {
    ($condition:expr, $text:literal) => {
        if $crate::sim::is_current() {
            $crate::sim::sometimes($condition, $text);
        }
    };
}

/// Tells whether a planted bug is switched on, so that tests can show that they would find it.
///
/// True only on a thread that holds the guard of `sim::mutants::enable` for this name. Without the feature
/// `sim` it is a constant `false`, and the planted code is not compiled in.
///
/// # Examples
/// ```
/// # let mut wakers = vec![1];
/// if !motet::mutant!("scope.skip_wake") {
///     wakers.pop();
/// }
/// # assert!(wakers.is_empty());
/// ```
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {
        $crate::sim::mutant($name)
    };
}
