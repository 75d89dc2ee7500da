use std::panic::Location;
use std::time::Duration;

use super::run::run_once;
use super::{CancelReport, Outcome};

/// Drops an operation at each of its suspensions, with configurable limits.
///
/// # Defaults
/// At most 10,000 suspensions, and an hour of virtual time for each of setup, operation and invariant.
///
/// # Examples
/// ```
/// use motet_testkit::CancelEverywhere;
/// use std::time::Duration;
///
/// let report = CancelEverywhere::new().virtual_limit(Duration::from_secs(5)).run(
///     async || (),
///     async |()| tokio::time::sleep(Duration::from_secs(1)).await,
///     async |(), _| {},
/// );
/// // Dropped unpolled, as it comes to the `sleep`, and while it sleeps.
/// assert_eq!(report.points(), 3);
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is cancelled until it is run"]
pub struct CancelEverywhere {
    pub(super) max_points: usize,
    pub(super) virtual_limit: Duration,
}

impl Default for CancelEverywhere {
    fn default() -> Self {
        Self { max_points: 10_000, virtual_limit: Duration::from_secs(60 * 60) }
    }
}

impl CancelEverywhere {
    /// Creates a driver with the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the maximum number of suspensions; 10,000 by default. The time of all runs grows with its square.
    pub const fn max_points(mut self, points: usize) -> Self {
        self.max_points = points;
        self
    }

    /// Sets the limit of virtual time for each of setup, operation and invariant; an hour by default. With zero, each
    /// of them that waits for time fails; [`Duration::MAX`] sets no limit.
    pub const fn virtual_limit(mut self, limit: Duration) -> Self {
        self.virtual_limit = limit;
        self
    }

    /// Runs the operation once to its end, and once for each of its suspensions, like
    /// [`cancel_everywhere`](super::cancel_everywhere).
    ///
    /// # Panics
    /// Like [`cancel_everywhere`](super::cancel_everywhere).
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "closures are written in place")]
    pub fn run<S, T>(
        &self,
        setup: impl AsyncFn() -> S,
        operation: impl AsyncFn(&S) -> T,
        invariant: impl AsyncFn(&S, Outcome<T>),
    ) -> CancelReport {
        assert!(
            tokio::runtime::Handle::try_current().is_err(),
            "each run creates its own runtime: use #[test], not #[tokio::test]"
        );
        let site = Location::caller();
        let run = |drop_after| run_once(self, site, drop_after, &setup, &operation, &invariant);
        // The first run is not dropped: it counts the suspensions, and shows whether the operation ends.
        let suspensions = run(None).unwrap_or_else(|trouble| panic!("{trouble}"));
        for drop_after in 0..=suspensions {
            if let Err(trouble) = run(Some(drop_after)) {
                panic!("{trouble}");
            }
        }
        CancelReport { points: suspensions + 1 }
    }
}
