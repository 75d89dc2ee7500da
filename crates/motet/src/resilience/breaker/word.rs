/// The published state of a breaker in one word: its generation, whether calls need its lock, and the number of
/// successes that were counted without the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::resilience) struct StateWord(pub(super) u64);

const ADMITS: u64 = 1;
const OPEN: u64 = 1 << 1;
const SETTLED: u64 = 1 << 2;
const COUNTS: u64 = 1 << 3;
/// The unit of the success count. The field holds a million.
pub(super) const ONE: u64 = 1 << 4;
const GENERATION: u32 = 24;
pub(super) const SUCCESSES: u64 = (1 << GENERATION) - ONE;

/// How a breaker treats calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::resilience) enum CallMode {
    Admitted,
    RejectedUntil,
    /// The machine must decide.
    Decided,
}

/// How a breaker treats a success that was not slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::resilience) enum SuccessMode {
    /// The success changes nothing.
    Settled,
    /// The success cannot open the breaker, so that it is enough to count it.
    Counted,
    /// The machine must record it.
    Recorded,
}

impl StateWord {
    pub(in crate::resilience) fn new(generation: u64, calls: CallMode, success: SuccessMode) -> Self {
        let calls = match calls {
            CallMode::Admitted => ADMITS,
            CallMode::RejectedUntil => OPEN,
            CallMode::Decided => 0,
        };
        let success = match success {
            SuccessMode::Settled => SETTLED,
            SuccessMode::Counted => COUNTS,
            SuccessMode::Recorded => 0,
        };
        Self((generation << GENERATION) | success | calls)
    }

    /// A number that no other state of the breaker has, before or after.
    #[inline]
    pub(in crate::resilience) fn generation(self) -> u64 {
        self.0 >> GENERATION
    }

    /// Returns `true` if every call is admitted.
    #[inline]
    pub(super) fn admits(self) -> bool {
        self.0 & ADMITS != 0
    }

    /// Returns `true` if every call is rejected until a time.
    #[inline]
    pub(super) fn is_open(self) -> bool {
        self.0 & OPEN != 0
    }

    /// Returns `true` if a success that was not slow changes nothing.
    #[inline]
    pub(super) fn is_settled(self) -> bool {
        self.0 & SETTLED != 0
    }

    /// Returns `true` if it is enough to count a success that was not slow, and the field is not full.
    #[inline]
    pub(super) fn counts_successes(self) -> bool {
        self.0 & COUNTS != 0 && self.0 & SUCCESSES != SUCCESSES
    }

    pub(super) fn successes(self) -> u32 {
        ((self.0 & SUCCESSES) / ONE) as u32
    }
}
