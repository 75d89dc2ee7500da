//! The lines that an example prints.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::Instant;

thread_local! {
    static LINES: RefCell<Vec<(Instant, String)>> = const { RefCell::new(Vec::new()) };
}

/// Records a line of this thread.
pub(crate) fn record(line: String) {
    LINES.with_borrow_mut(|lines| lines.push((Instant::now(), line)));
}

/// The lines that this thread has printed since [`Printed::begin`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printed {
    begun: Instant,
}

impl Printed {
    /// Forgets the lines printed so far, and starts the clock.
    pub(crate) fn begin() -> Self {
        LINES.with_borrow_mut(Vec::clear);
        Self { begun: Instant::now() }
    }

    /// Each line with the milliseconds since the beginning.
    pub(crate) fn timed(self) -> Vec<(u64, String)> {
        let millis = |at: Instant| u64::try_from(at.duration_since(self.begun).as_millis()).unwrap();
        LINES.with_borrow(|lines| lines.iter().map(|(at, line)| (millis(*at), line.clone())).collect())
    }

    pub(crate) fn lines(self) -> Vec<String> {
        self.timed().into_iter().map(|(_, line)| line).collect()
    }

    /// The lines that begin with `prefix`.
    pub(crate) fn starting_with(self, prefix: &str) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.starts_with(prefix)).collect()
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.begun.elapsed()
    }
}

/// Lines with their times, to compare with [`Printed::timed`].
pub(crate) fn at<const N: usize>(lines: [(u64, &str); N]) -> Vec<(u64, String)> {
    lines.map(|(millis, line)| (millis, line.to_owned())).to_vec()
}
