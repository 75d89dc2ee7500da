//! One line per case.

use serde_json::json;

use crate::measure::Cost;

/// One comparison; the unit is nanoseconds per operation.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) case: String,
    pub(crate) rival_name: &'static str,
    pub(crate) ours: Cost,
    pub(crate) rival: Cost,
}

impl Case {
    /// The same comparison twice: by the median, and by the quickest round.
    pub(crate) fn median_and_minimum(
        case: &str,
        rival_name: &'static str,
        ours: Cost,
        rival: Cost,
    ) -> [Self; 2] {
        let minimum = |cost: Cost| Cost { nanoseconds: cost.minimum, ..cost };
        [
            Self { case: format!("{case}, median"), rival_name, ours, rival },
            Self { case: format!("{case}, minimum"), rival_name, ours: minimum(ours), rival: minimum(rival) },
        ]
    }
}

pub(crate) fn head() {
    eprintln!(
        "{:<12}{:<32}{:>12}{:>12}{:>8}{:>9}{:>9}  rival",
        "area", "case", "ours ns", "rival ns", "ratio", "allocs", "rival's"
    );
}

/// JSON for programs on standard output, a row for people on standard error.
pub(crate) fn show(area: &str, case: &Case) {
    let Case { case, rival_name, ours, rival } = case;
    let ratio = rival.nanoseconds / ours.nanoseconds;
    let round = |value: f64, digits: i32| (value * 10_f64.powi(digits)).round() / 10_f64.powi(digits);
    eprintln!(
        "{area:<12}{case:<32}{:>12.1}{:>12.1}{ratio:>8.2}{:>9.2}{:>9.2}  {rival_name}",
        ours.nanoseconds, rival.nanoseconds, ours.allocations, rival.allocations
    );
    println!(
        "{}",
        json!({
            "area": area,
            "case": case,
            "ours": round(ours.nanoseconds, 1),
            "rival": round(rival.nanoseconds, 1),
            "rival_name": rival_name,
            "unit": "ns/op",
            "ratio": round(ratio, 3),
            "allocs_ours": round(ours.allocations, 3),
            "allocs_rival": round(rival.allocations, 3),
        })
    );
}
