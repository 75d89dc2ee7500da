//! A table of what odd durations mean to settings.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::scan::ODD;

/// An effect that has not come within this time counts as one that never comes.
const HORIZON: Duration = Duration::from_secs(60 * 60);

/// An effect that comes within this time comes at once: timers are exact to a millisecond, and the tests have pauses of
/// a second.
const AT_ONCE: Duration = Duration::from_secs(10);

/// The meaning of an odd duration to a setting.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Odd {
    /// The effect that the setting delays, limits or allows happens at once.
    AtOnce,
    /// It does not happen.
    Never,
    /// The builder returns an error.
    Refused,
    /// The setter panics, as its docs state.
    Panics,
}

/// Uses a setting: ready when the effect has happened. An error is that of the builder.
pub(crate) type Effect = Pin<Box<dyn Future<Output = Result<(), Box<dyn Error>>>>>;

/// A setting, what each odd duration means to it (zero, 1 ns, 584 years, the longest), and how it is used.
pub(crate) struct Row {
    pub(crate) setting: &'static str,
    pub(crate) means: [Odd; 4],
    pub(crate) uses: fn(Duration) -> Effect,
}

/// A delay or a limit of which zero is the shortest.
pub(crate) const LIMIT: [Odd; 4] = [Odd::AtOnce, Odd::AtOnce, Odd::Never, Odd::Never];

/// A limit under which no call could succeed if it were zero.
#[allow(dead_code, reason = "the testkit has none")]
pub(crate) const ABOVE_ZERO: [Odd; 4] = [Odd::Refused, Odd::AtOnce, Odd::Never, Odd::Never];

/// Uses each setting of the table with each odd duration; fails with everything that differs from the table.
#[track_caller]
pub(crate) fn check(table: &[Row]) {
    let mut wrong = String::new();
    for row in table {
        for (odd, means) in ODD.into_iter().zip(&row.means) {
            let found = uses(row.uses, odd);
            if found.as_ref() != Ok(means) {
                wrong += &format!("\n{}: {odd:?} means {found:?}, not {means:?}", row.setting);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn uses(uses: fn(Duration) -> Effect, odd: Duration) -> Result<Odd, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let used = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let begun = Instant::now();
            match timeout(HORIZON, uses(odd)).await {
                Err(_) => Ok(Odd::Never),
                Ok(Err(_)) => Ok(Odd::Refused),
                Ok(Ok(())) if begun.elapsed() <= AT_ONCE => Ok(Odd::AtOnce),
                Ok(Ok(())) => Err(format!("an end after {:?}", begun.elapsed())),
            }
        })
    }));
    used.unwrap_or(Ok(Odd::Panics))
}
