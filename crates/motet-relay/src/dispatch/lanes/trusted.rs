use std::collections::HashSet;

use super::LaneTrust;

/// Number of endpoints in each of the two sets: about 4 MiB together.
const MAX_IN_SET: usize = 1 << 16;

/// The endpoints whose last attempt returned its slot quickly.
///
/// The number is bounded: an endpoint that was neither added nor looked up while [`MAX_IN_SET`] other endpoints were
/// added is removed, and is a suspect until its next attempt.
#[derive(Debug, Default)]
pub(super) struct Trusted {
    young: HashSet<i64>,
    old: HashSet<i64>,
}

impl Trusted {
    /// Returns the trust of an endpoint, and protects a trusted endpoint from removal.
    pub(super) fn trust_of(&mut self, endpoint: i64) -> LaneTrust {
        if self.contains(endpoint) { LaneTrust::Trusted } else { LaneTrust::Suspect }
    }

    fn contains(&mut self, endpoint: i64) -> bool {
        if self.old.remove(&endpoint) {
            self.insert(endpoint);
        }
        self.young.contains(&endpoint)
    }

    pub(super) fn insert(&mut self, endpoint: i64) {
        self.old.remove(&endpoint);
        if self.young.insert(endpoint) && self.young.len() >= MAX_IN_SET {
            self.old = std::mem::take(&mut self.young);
        }
    }

    pub(super) fn remove(&mut self, endpoint: i64) {
        self.young.remove(&endpoint);
        self.old.remove(&endpoint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusted_set_keeps_used_endpoints_and_forgets_unused_ones() {
        let mut trusted = Trusted::default();
        for endpoint in 0..4 * MAX_IN_SET as i64 {
            trusted.insert(endpoint);
            assert!(trusted.contains(0) && trusted.contains(endpoint));
        }
        assert!(!trusted.contains(1));
        assert!(trusted.young.len() + trusted.old.len() <= 2 * MAX_IN_SET);
        trusted.remove(0);
        assert!(!trusted.contains(0));
    }
}
