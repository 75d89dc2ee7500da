//! Prints a line for each case.

use serde_json::json;

use crate::guarantees::missing;
use crate::measure::Cost;

/// Prints a line of the table. If standard error cannot be written, the figures on standard output continue.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($line)*);
    }};
}
pub(crate) use say;

/// A comparison. The ratio is above 1 if motet is better.
#[derive(Debug)]
pub(crate) struct Case {
    case: String,
    rival_name: &'static str,
    ours: Cost,
    rival: Cost,
    unit: Unit,
}

/// The unit of the figures.
#[derive(Debug, Clone, Copy)]
enum Unit {
    NanosecondsPerOperation,
    Microseconds,
    Milliseconds,
    /// A figure without a unit, stored in place of the nanoseconds.
    Times,
    EventsPerSecond,
    /// Memory, stored in place of the nanoseconds.
    Kibibytes,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::NanosecondsPerOperation => "ns/op",
            Self::Microseconds => "us",
            Self::Milliseconds => "ms",
            Self::Times => "times",
            Self::EventsPerSecond => "events/s",
            Self::Kibibytes => "KiB",
        }
    }

    const fn digits(self) -> usize {
        match self {
            Self::NanosecondsPerOperation | Self::Microseconds | Self::EventsPerSecond | Self::Kibibytes => 1,
            Self::Milliseconds | Self::Times => 3,
        }
    }

    fn of(self, cost: Cost) -> f64 {
        match self {
            Self::NanosecondsPerOperation | Self::Times | Self::Kibibytes => cost.nanoseconds,
            Self::Microseconds => cost.nanoseconds / 1e3,
            Self::Milliseconds => cost.nanoseconds / 1e6,
            Self::EventsPerSecond => 1e9 / cost.nanoseconds,
        }
    }
}

impl Case {
    pub(crate) fn new(case: String, rival_name: &'static str, ours: Cost, rival: Cost) -> Self {
        Self { case, rival_name, ours, rival, unit: Unit::NanosecondsPerOperation }
    }

    /// Shows operations per second. An operation is an event.
    pub(crate) fn per_second(self) -> Self {
        Self { unit: Unit::EventsPerSecond, ..self }
    }

    pub(crate) fn in_microseconds(self) -> Self {
        Self { unit: Unit::Microseconds, ..self }
    }

    pub(crate) fn in_milliseconds(self) -> Self {
        Self { unit: Unit::Milliseconds, ..self }
    }

    /// Shows memory.
    pub(crate) fn in_kibibytes(self) -> Self {
        Self { unit: Unit::Kibibytes, ..self }
    }

    /// Shows figures that are ratios themselves.
    pub(crate) fn in_times(self) -> Self {
        Self { unit: Unit::Times, ..self }
    }

    /// Two cases of a comparison: the median, and the quickest round.
    pub(crate) fn median_and_minimum(
        case: &str,
        rival_name: &'static str,
        ours: Cost,
        rival: Cost,
    ) -> [Self; 2] {
        let minimum = |cost: Cost| Cost { nanoseconds: cost.minimum, ..cost };
        [
            Self::new(format!("{case}, median"), rival_name, ours, rival),
            Self::new(format!("{case}, minimum"), rival_name, minimum(ours), minimum(rival)),
        ]
    }
}

pub(crate) fn head() {
    say!(
        "{:<12}{:<32}{:>12}{:>12}{:>8}{:>9}{:>9}  rival (unit), and what it lacks",
        "area",
        "case",
        "ours",
        "rival",
        "ratio",
        "allocs",
        "rival's"
    );
}

/// Receives the cases of an area, and prints each at once, so that an interrupted run has printed its results.
#[derive(Debug)]
pub(crate) struct Cases {
    area: &'static str,
}

impl Cases {
    pub(crate) fn of(area: &'static str) -> Self {
        Self { area }
    }

    pub(crate) fn push(&mut self, case: Case) {
        show(self.area, &case);
    }

    pub(crate) fn extend(&mut self, cases: impl IntoIterator<Item = Case>) {
        cases.into_iter().for_each(|case| self.push(case));
    }
}

/// Prints JSON on standard output, and a row of the table on standard error.
fn show(area: &str, case: &Case) {
    let Case { case, rival_name, ours, rival, unit } = case;
    let ratio = rival.nanoseconds / ours.nanoseconds;
    let round = |value: f64, digits: i32| (value * 10_f64.powi(digits)).round() / 10_f64.powi(digits);
    let (digits, lacks) = (unit.digits(), missing(area, rival_name));
    let cut_at = [ours, rival].iter().filter_map(|cost| cost.cut_at).min();
    let cut = cut_at.map_or_else(String::new, |rounds| format!(" [deadline: {rounds} rounds]"));
    say!(
        "{area:<12}{case:<32}{:>12.digits$}{:>12.digits$}{ratio:>8.2}{:>9.2}{:>9.2}  {rival_name} ({}){cut}{}{lacks}",
        unit.of(*ours),
        unit.of(*rival),
        ours.allocations,
        rival.allocations,
        unit.name(),
        if lacks.is_empty() { "" } else { ": " },
    );
    println!(
        "{}",
        json!({
            "area": area,
            "case": case,
            "ours": round(unit.of(*ours), digits as i32),
            "rival": round(unit.of(*rival), digits as i32),
            "rival_name": rival_name,
            "rival_lacks": lacks,
            "unit": unit.name(),
            "ratio": round(ratio, 3),
            "rounds_cut_at": cut_at,
            "allocs_ours": round(ours.allocations, 3),
            "allocs_rival": round(rival.allocations, 3),
        })
    );
}
