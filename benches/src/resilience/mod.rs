//! Policies around calls, each area in a file of its own.

mod breaker;
mod limits;

use crate::report::Case;

pub(crate) fn run() -> Vec<Case> {
    [breaker::run, limits::run].into_iter().flat_map(|area| area()).collect()
}
