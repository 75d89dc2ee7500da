/// What a breaker knows of itself, in one word: its generation, and whether calls need its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

const ADMITS: u64 = 1;
const SETTLED: u64 = 2;

impl Word {
    pub(super) fn new(generation: u64, admits: bool, settled: bool) -> Self {
        let (settled, admits) = (if settled { SETTLED } else { 0 }, if admits { ADMITS } else { 0 });
        Self((generation << 2) | settled | admits)
    }

    /// A number that no other state of the breaker has, before or after.
    pub(super) fn generation(self) -> u64 {
        self.0 >> 2
    }

    /// Whether every call is let through.
    pub(super) fn admits(self) -> bool {
        self.0 & ADMITS != 0
    }

    /// Whether a success that was not slow changes nothing.
    pub(super) fn is_settled(self) -> bool {
        self.0 & SETTLED != 0
    }
}
