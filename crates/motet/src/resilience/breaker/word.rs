/// What a breaker knows of itself, in one word: its generation, whether calls need its lock, and how many successes were
/// counted without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::resilience) struct Word(pub(super) u64);

const ADMITS: u64 = 1;
const OPEN: u64 = 1 << 1;
const SETTLED: u64 = 1 << 2;
const COUNTS: u64 = 1 << 3;
/// One success. There is room for a million.
pub(super) const ONE: u64 = 1 << 4;
const GENERATION: u32 = 24;
pub(super) const SUCCESSES: u64 = (1 << GENERATION) - ONE;

/// What becomes of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::resilience) enum Calls {
    Admitted,
    RejectedForATime,
    /// The machine is to say.
    Asked,
}

/// What becomes of a success that was not slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::resilience) enum Success {
    /// It changes nothing.
    Settled,
    /// It opens nothing, so that it is enough to count it.
    Counted,
    /// The machine is to be told.
    Told,
}

impl Word {
    pub(in crate::resilience) fn new(generation: u64, calls: Calls, success: Success) -> Self {
        let calls = match calls {
            Calls::Admitted => ADMITS,
            Calls::RejectedForATime => OPEN,
            Calls::Asked => 0,
        };
        let success = match success {
            Success::Settled => SETTLED,
            Success::Counted => COUNTS,
            Success::Told => 0,
        };
        Self((generation << GENERATION) | success | calls)
    }

    /// A number that no other state of the breaker has, before or after.
    #[inline]
    pub(in crate::resilience) fn generation(self) -> u64 {
        self.0 >> GENERATION
    }

    /// Whether every call is let through.
    #[inline]
    pub(super) fn admits(self) -> bool {
        self.0 & ADMITS != 0
    }

    /// Whether every call is rejected until a time.
    #[inline]
    pub(super) fn is_open(self) -> bool {
        self.0 & OPEN != 0
    }

    /// Whether a success that was not slow changes nothing.
    #[inline]
    pub(super) fn is_settled(self) -> bool {
        self.0 & SETTLED != 0
    }

    /// Whether it is enough to count a success that was not slow, and there is room.
    #[inline]
    pub(super) fn counts_successes(self) -> bool {
        self.0 & COUNTS != 0 && self.0 & SUCCESSES != SUCCESSES
    }

    pub(super) fn successes(self) -> u32 {
        ((self.0 & SUCCESSES) / ONE) as u32
    }
}
