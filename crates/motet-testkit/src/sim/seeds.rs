use std::env::VarError;
use std::ops::Range;

/// The seeds of a sweep: a number of them, counted from zero, or a range.
///
/// # Examples
/// ```
/// use motet_testkit::sim::Seeds;
///
/// assert_eq!(Seeds::from(500), Seeds::from(0..500));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeds(Range<u64>);

impl Seeds {
    pub(super) const DEFAULT: Self = Self(0..100);

    pub(super) fn range(&self) -> Range<u64> {
        self.0.clone()
    }
}

impl From<u64> for Seeds {
    fn from(runs: u64) -> Self {
        Self(0..runs)
    }
}

impl From<Range<u64>> for Seeds {
    fn from(range: Range<u64>) -> Self {
        Self(range)
    }
}

/// Whether all seeds of a test are run, or one is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Sweep,
    Replay,
}

/// The settings of the environment.
#[derive(Debug, Default)]
pub(super) struct Environment {
    seed: Option<String>,
    runs: Option<String>,
}

impl Environment {
    pub(super) fn of_process() -> Self {
        let read = |name| match std::env::var(name) {
            Ok(value) => Some(value),
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(value)) => Some(value.to_string_lossy().into_owned()),
        };
        Self { seed: read("MOTET_SEED"), runs: read("MOTET_RUNS") }
    }

    /// Returns the seeds to run in place of `seeds`, or an error about the environment.
    pub(super) fn choose(&self, seeds: &Seeds) -> Result<(Range<u64>, Scope), String> {
        if let Some(seed) = &self.seed {
            let seed: u64 = parse("MOTET_SEED", seed)?;
            let end = seed.checked_add(1).ok_or("MOTET_SEED is the largest number there is; take another")?;
            return Ok((seed..end, Scope::Replay));
        }
        let Range { start, end } = seeds.range();
        let end = match &self.runs {
            Some(runs) => start.saturating_add(parse("MOTET_RUNS", runs)?),
            None => end,
        };
        if start >= end {
            return Err("there are no seeds to run: a sweep without a run proves nothing".to_owned());
        }
        Ok((start..end, Scope::Sweep))
    }
}

fn parse(name: &str, value: &str) -> Result<u64, String> {
    value.trim().parse().map_err(|error| format!("{name} is `{value}`, not a whole number: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(seed: Option<&str>, runs: Option<&str>) -> Result<(Range<u64>, Scope), String> {
        let environment = Environment { seed: seed.map(str::to_owned), runs: runs.map(str::to_owned) };
        environment.choose(&Seeds::from(3..10))
    }

    #[test]
    fn environment_overrides_the_seeds_of_the_test() {
        assert_eq!(chosen(None, None), Ok((3..10, Scope::Sweep)));
        assert_eq!(chosen(Some("17"), None), Ok((17..18, Scope::Replay)));
        assert_eq!(chosen(Some("17"), Some("9")), Ok((17..18, Scope::Replay)));
        assert_eq!(chosen(None, Some(" 2 ")), Ok((3..5, Scope::Sweep)));
    }

    #[test]
    fn invalid_seed_or_runs_variable_is_an_error_with_its_reason() {
        for (seed, runs, said) in [
            (Some("17a"), None, "MOTET_SEED is `17a`, not a whole number: invalid digit found in string"),
            (Some(""), None, "MOTET_SEED is ``, not a whole number: cannot parse integer from empty string"),
            (None, Some("-1"), "MOTET_RUNS is `-1`, not a whole number: invalid digit found in string"),
            (None, Some("0"), "there are no seeds to run: a sweep without a run proves nothing"),
        ] {
            assert_eq!(chosen(seed, runs), Err(said.to_owned()));
        }
    }
}
