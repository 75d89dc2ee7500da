//! Budgets for retries and hedges.

mod tokens;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::time::Instant;

use super::PolicyConfigError;
use crate::mutant;
use tokens::{LAST_TICK, MEMORY, Rates, TICK, TOKEN, Tokens};

/// Limits retries, or hedges, to a share of the calls: when all calls fail, their retries do not overload the failing
/// dependency.
///
/// Each call earns a fraction of a token, and each second earns some more, so that a client with few calls can retry
/// too; an additional attempt costs a token. Earned tokens fade with a time constant of ten seconds: a healthy hour
/// does not pay for a storm of retries after it. A retry is charged when it is decided, before its delay, so that
/// waiting retries count. The charge of a retry that is dropped during its delay is returned.
///
/// It is a handle: clones share the balance. Share one budget between the clients of a backend, and between retries and
/// hedges.
///
/// The scheme is that of Finagle ("retry budgets", 2016), with a fading sum in place of a ring of slices, so that the
/// balance is one word and one compare-and-swap. A call adds to a counter, and reads no clock.
///
/// # Defaults
/// 20 % of the calls and 10 a second. The budget starts with the tokens of ten idle seconds, 100.
///
/// # Examples
/// ```
/// use motet::resilience::RetryBudget;
///
/// # fn main() -> Result<(), motet::resilience::PolicyConfigError> {
/// let budget = RetryBudget::new(0.5, 0.0)?;
/// budget.deposit();
/// assert!(budget.try_withdraw().is_none(), "half a token");
/// budget.deposit();
/// budget.try_withdraw().expect("a whole token").spend();
/// assert!(budget.try_withdraw().is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RetryBudget(Arc<BudgetShared>);

struct BudgetShared {
    rates: Rates,
    origin: Instant,
    /// The calls that are not yet counted in the balance.
    calls: AtomicU64,
    tokens: AtomicU64,
    /// Whether the last withdrawal was refused, so that the warning is logged once.
    empty: AtomicBool,
}

impl RetryBudget {
    /// Creates a budget of `ratio` additional attempts for each call, and `floor` for each second.
    ///
    /// # Errors
    /// [`PolicyConfigError`] if `ratio` or `floor` is negative or not finite.
    pub fn new(ratio: f64, floor: f64) -> Result<Self, PolicyConfigError> {
        for (setting, rate) in [("ratio", ratio), ("floor", floor)] {
            let is_valid = rate.is_finite() && rate >= 0.0;
            PolicyConfigError::unless(is_valid, setting, rate, "finite and at least 0")?;
        }
        Ok(Self::with_rates(ratio, floor))
    }

    /// Creates the budget of [`new`](Self::new) for rates that are known to be valid.
    pub(super) fn with_rates(ratio: f64, floor: f64) -> Self {
        let rates = Rates { ratio, floor };
        Self(Arc::new(BudgetShared {
            rates,
            origin: Instant::now(),
            calls: AtomicU64::new(0),
            tokens: AtomicU64::new(Tokens::full(rates).pack()),
            empty: AtomicBool::new(false),
        }))
    }

    /// Counts a call.
    #[inline]
    pub fn deposit(&self) {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a token for an additional attempt, if the budget has one.
    ///
    /// Call `spend()` on the token when the attempt begins. A token that is dropped before that returns to the budget.
    #[must_use]
    pub fn try_withdraw(&self) -> Option<Charge> {
        let calls = self.0.calls.swap(0, Ordering::Relaxed);
        let now = self.0.now();
        let mut word = self.0.tokens.load(Ordering::Relaxed);
        let taken = loop {
            let earned = Tokens::unpack(word).earned(self.0.rates, calls, now);
            let taken = earned.taken();
            let new = taken.unwrap_or(earned).pack();
            match self.0.tokens.compare_exchange_weak(word, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break taken,
                Err(current) => word = current,
            }
        };
        let was_empty = self.0.empty.load(Ordering::Relaxed);
        if taken.is_none() != was_empty {
            self.0.empty.store(taken.is_none(), Ordering::Relaxed);
            if taken.is_none() {
                crate::log::warn!("the retry budget is exhausted: failed calls are not retried");
            }
        }
        taken.map(|_| Charge { budget: Some(self.clone()) })
    }

    /// The number of tokens, as of the last withdrawal: the seconds since then are not counted.
    #[must_use]
    pub fn balance(&self) -> f64 {
        let calls = self.0.calls.load(Ordering::Relaxed) as f64;
        let tokens = Tokens::unpack(self.0.tokens.load(Ordering::Relaxed));
        f64::from(tokens.balance) / f64::from(TOKEN) + calls * self.0.rates.ratio
    }

    pub(super) fn rates(&self) -> (f64, f64) {
        (self.0.rates.ratio, self.0.rates.floor)
    }
}

impl BudgetShared {
    fn now(&self) -> u64 {
        // Wraps around, as `Tokens` expects.
        (Instant::now().saturating_duration_since(self.origin).as_millis() as u64 / TICK) & LAST_TICK
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::with_rates(0.2, 10.0)
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget")
            .field("ratio", &self.0.rates.ratio)
            .field("floor", &self.0.rates.floor)
            .field("memory_ms", &MEMORY)
            .field("balance", &self.balance())
            .finish()
    }
}

/// A token for an additional attempt that has not begun.
///
/// # Drop
/// Returns the token to the budget: the attempt is not made.
#[allow(unnameable_types, reason = "`RetryBudget::try_withdraw` returns it, and users seldom store it")]
#[must_use = "a charge that is dropped returns its token to the budget"]
pub struct Charge {
    budget: Option<RetryBudget>,
}

impl Charge {
    /// Spends the token: the attempt begins.
    pub fn spend(mut self) {
        self.budget = None;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if mutant!("resilience.keep_charge") {
            self.budget = None;
        }
        let Some(RetryBudget(shared)) = self.budget.take() else { return };
        let returned = |word| Some(Tokens::unpack(word).returned().pack());
        // Never an error: the closure always returns a value.
        let _ = shared.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, returned);
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
