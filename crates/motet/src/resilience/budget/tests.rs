use proptest::prelude::{Strategy, any, prop, prop_assert, proptest};

use super::tokens::{LAST_TICK, MEMORY, MOST, Rates, TICK, TOKEN, Tokens};

/// A naive balance: a sum over all tokens that were ever earned, with the real exponential.
#[derive(Default)]
struct Naive {
    /// When the tokens were earned, in milliseconds, and their number.
    earned: Vec<(f64, f64)>,
}

impl Naive {
    fn balance(&self, now: f64) -> f64 {
        self.earned.iter().map(|(at, tokens)| tokens * (-(now - at) / MEMORY).exp()).sum()
    }
}

fn some_rates() -> impl Strategy<Value = Rates> {
    (0.0..2.0, 0.0..50.0).prop_map(|(ratio, floor)| Rates { ratio, floor })
}

proptest! {
    /// A balance that is counted often agrees with the model; each withdrawal counts it.
    #[test]
    fn budget_balance_agrees_with_a_naive_model(
        rates in some_rates(),
        steps in prop::collection::vec((1..50_u64, 0..50_u64, any::<bool>()), 1..100),
    ) {
        let mut tokens = Tokens::full(rates);
        let mut model = Naive { earned: vec![(0.0, f64::from(tokens.balance) / 1_000.0)] };
        let mut now = 0;
        for (passed, calls, withdraws) in steps {
            // The model gets the tokens of the time in between in slices of a millisecond.
            let slices = passed * TICK;
            for ms in 0..slices {
                let at = (now * TICK + ms) as f64 + 0.5;
                let each = rates.ratio * calls as f64 / slices as f64 + rates.floor / 1_000.0;
                model.earned.push((at, each));
            }
            now += passed;
            tokens = tokens.earned(rates, calls, now);
            if withdraws && let Some(taken) = tokens.taken() {
                tokens = taken;
                model.earned.push(((now * TICK) as f64, -1.0));
            }
        }
        let (found, naive) = (f64::from(tokens.balance) / f64::from(TOKEN), model.balance((now * TICK) as f64));
        prop_assert!((found - naive).abs() <= 0.5 + naive.abs() * 0.02, "{found} is not {naive}");
    }

    #[test]
    fn budget_after_a_long_gap_holds_ten_seconds_of_earnings(
        rates in some_rates(), idle in 10_000..LAST_TICK / 2, balance in 0..=MOST, calls in 0..1_000_000_u64,
    ) {
        let after = Tokens { balance, at: 0 }.earned(rates, calls, idle);
        let tokens = f64::from(after.balance) / f64::from(TOKEN);
        let floor = rates.floor * MEMORY / 1_000.0;
        // After a hundred seconds or more, the tokens of ten seconds are left; the series fades slower than e^-x.
        let earned = rates.ratio * calls as f64 * MEMORY / (idle * TICK) as f64;
        let most = floor + earned * 1.01;
        prop_assert!(tokens >= (floor + earned) * 0.98 - 0.01, "{tokens} of {floor} and {earned}");
        prop_assert!(tokens <= most + f64::from(balance) / 1_000.0 / 100.0 + 0.01, "{tokens}, not {most}");
    }
}

#[test]
fn budget_floor_grants_its_rate_under_constant_withdrawals() {
    let rates = Rates { ratio: 0.0, floor: 1.0 };
    let (mut tokens, mut granted) = (Tokens { balance: 0, at: 0 }, 0);
    for millis in 0..100_000 {
        tokens = tokens.earned(rates, 0, millis / TICK);
        if let Some(taken) = tokens.taken() {
            tokens = taken;
            granted += 1;
        }
    }
    assert!((85..=100).contains(&granted), "{granted} in a hundred seconds, at one a second");
}

#[test]
fn budget_earns_across_a_clock_wrap_and_nothing_if_set_back() {
    let rates = Rates { ratio: 0.2, floor: 10.0 };
    let before = Tokens { balance: 5_000, at: LAST_TICK - 5 };
    assert_eq!(before.earned(rates, 0, LAST_TICK - 100), before);
    let after = before.earned(rates, 0, 94);
    assert_eq!(after.at, 94);
    assert!((13_000..15_000).contains(&after.balance), "{after:?}: a second later");
}

#[test]
fn packed_tokens_unpack_to_themselves() {
    let tokens = Tokens { balance: 7_000_001, at: 14_000_000_123 };
    assert_eq!(Tokens::unpack(tokens.pack()), tokens);
    let most = Tokens { balance: MOST, at: LAST_TICK };
    assert_eq!(Tokens::unpack(most.returned().pack()), most);
}
