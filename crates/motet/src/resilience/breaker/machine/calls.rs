use crate::resilience::breaker::counts::{CallCounts, EndedCall};

/// The last `size` calls: two bits for each, and their counts.
#[derive(Debug)]
pub(super) struct CallRing {
    size: u32,
    /// The position of the next call; in a full ring, that of the oldest one.
    next: u32,
    failed: Box<[u64]>,
    slow: Box<[u64]>,
    counts: CallCounts,
}

impl CallRing {
    pub(super) fn new(size: u32) -> Self {
        let words = || vec![0; size.div_ceil(u64::BITS) as usize].into_boxed_slice();
        Self { size, next: 0, failed: words(), slow: words(), counts: CallCounts::default() }
    }

    pub(super) fn record(&mut self, ended: EndedCall) {
        let (word, bit) = ((self.next / u64::BITS) as usize, 1 << (self.next % u64::BITS));
        let replace = |bits: &mut [u64], set: bool| {
            let had = bits[word] & bit != 0;
            bits[word] = if set { bits[word] | bit } else { bits[word] & !bit };
            had
        };
        let failed = replace(&mut self.failed, ended.failed);
        let slow = replace(&mut self.slow, ended.slow);
        // Until the ring is full, the bits that are replaced are zero and belong to no call.
        if self.is_full() {
            self.counts.subtract(CallCounts { calls: 1, failures: failed.into(), slow: slow.into() });
        }
        self.counts.add(ended);
        self.next += 1;
        if self.next == self.size {
            self.next = 0;
        }
    }

    /// Records `calls` successes, 64 at a time.
    pub(super) fn succeeded(&mut self, calls: u32) {
        // Successes beyond the size of the ring would replace each other.
        let mut left = calls.min(self.size);
        while left > 0 {
            let (word, from) = ((self.next / u64::BITS) as usize, self.next % u64::BITS);
            let here = left.min(u64::BITS - from).min(self.size - self.next);
            let places = (u64::MAX >> (u64::BITS - here)) << from;
            let replaced = |bits: &mut [u64]| {
                let had = bits[word] & places;
                bits[word] &= !places;
                u64::from(had.count_ones())
            };
            let (failures, slow) = (replaced(&mut self.failed), replaced(&mut self.slow));
            self.counts.calls += u64::from(here);
            let calls = self.counts.calls.saturating_sub(self.size.into());
            self.counts.subtract(CallCounts { calls, failures, slow });
            self.next = (self.next + here) % self.size;
            left -= here;
        }
    }

    pub(super) fn counts(&self) -> CallCounts {
        self.counts
    }

    fn is_full(&self) -> bool {
        self.counts.calls == u64::from(self.size)
    }

    /// Returns `true` if another success would leave everything as it is: it replaces a success.
    pub(super) fn is_saturated(&self) -> bool {
        self.is_full() && self.counts.is_clean()
    }

    pub(super) fn clear(&mut self) {
        self.failed.fill(0);
        self.slow.fill(0);
        self.next = 0;
        self.counts = CallCounts::default();
    }
}
