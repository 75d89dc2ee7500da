//! The macros of the simulation. Each calls a function of this crate that is empty without the feature `sim`, so that the
//! feature of this crate counts, and not one of the crate that uses the macro.

/// Marks a fault point: a line at which a simulation may inject a delay or a failure.
///
/// The value is a [`Fault`](crate::sim::Fault). Awaiting it waits for the time that the simulation decided, usually zero,
/// and returns `true` if the program should fail here. [`fails`](crate::sim::Fault::fails) returns this without waiting, for
/// code that cannot await. Outside of a simulation, and without the feature `sim`, there is never a fault.
///
/// Each seed enables half of the points, by seed and name. An enabled point has an effect in one pass of four.
///
/// # Cancel safety
/// Safe: nothing is lost.
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
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// assert_eq!(connect().await.unwrap(), "connection");
/// # }
/// ```
#[macro_export]
macro_rules! fault {
    ($point:literal) => {
        $crate::sim::fault($point)
    };
}

/// States a condition that must be true whenever a simulation reaches this line.
///
/// If it is false, the run fails with the text and this line; the code continues until the simulation gets control. Outside
/// of a simulation, and without the feature `sim`, the condition is not evaluated, so it must have no side effects.
///
/// # Examples
/// ```
/// let (capacity, in_use) = (4, 3);
/// motet::always!(in_use <= capacity, "at most `capacity` permits are in use");
/// ```
#[macro_export]
macro_rules! always {
    ($condition:expr, $text:literal) => {
        if $crate::sim::is_current() {
            $crate::sim::always($condition, $text);
        }
    };
}

/// States a condition that must be true at this line at least once in all seeds of a sweep.
///
/// If it was never true, the sweep fails and prints the text, since it did not test what it should. A sweep does not know
/// of a line that no seed reaches; name the text there with `must_see`. Outside of a simulation, and without the feature
/// `sim`, the condition is not evaluated.
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

/// Returns `true` if a planted bug is enabled, so that a test can prove that it finds the bug.
///
/// It is `true` only on a thread with a guard of `sim::mutants::enable` for this name. Without the feature `sim` it is the
/// constant `false`, and the planted code is not compiled.
///
/// # Examples
/// ```
/// # let mut wakers = vec![1];
/// if motet::mutant!("scope.skip_wake") {
///     wakers.clear();
/// }
/// # assert_eq!(wakers, [1]);
/// ```
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {
        $crate::sim::mutant($name)
    };
}
