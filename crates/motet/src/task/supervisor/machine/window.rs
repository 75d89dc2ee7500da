use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The restarts of the last `within`: the intensity of OTP.
///
/// Keeps the moment of each restart, at most `max` of them: a count per interval would allow twice as many restarts around
/// the border of two intervals.
#[derive(Debug)]
pub(super) struct Window {
    max: u32,
    within: Duration,
    moments: VecDeque<Instant>,
}

impl Window {
    pub(super) fn new(max: u32, within: Duration) -> Self {
        Self { max, within, moments: VecDeque::new() }
    }

    pub(super) fn max(&self) -> u32 {
        self.max
    }

    pub(super) fn within(&self) -> Duration {
        self.within
    }

    /// Counts a restart and returns `true`, or returns `false` if the limit is reached. A restart that is `within` old does
    /// not count any more.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let within = self.within;
        while self.moments.pop_front_if(|moment| now.duration_since(*moment) >= within).is_some() {}
        if self.moments.len() >= self.max as usize {
            return false;
        }
        self.moments.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn restart_window_admits_up_to_its_maximum_within_its_length(
            max in 0..6u32,
            within in 0..20u64,
            steps in proptest::collection::vec(0..8u64, 0..60),
        ) {
            let begin = Instant::now();
            let mut window = Window::new(max, Duration::from_secs(within));
            let mut admitted: Vec<u64> = Vec::new();
            let mut at = 0;
            for step in steps {
                at += step;
                let lately = admitted.iter().filter(|then| at - **then < within).count();
                let expected = lately < max as usize;
                if expected {
                    admitted.push(at);
                }
                prop_assert_eq!(window.admit(begin + Duration::from_secs(at)), expected, "at {}", at);
            }
        }
    }
}
