//! `BENCHMARKS.md`, written from a run of the benches.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::shell::{output, root};

const FILE: &str = "BENCHMARKS.md";

const HEAD: &str = "\
# Benchmarks

Written by `cargo xtask compare --markdown [AREA ..]`, which runs motet and its rivals side by side on the same work and
replaces the sections of these areas.

- A cell is the median cost of the rival, and in brackets the rival's time divided by motet's time in the same run: above
  1, motet is faster. For rates (`events/s`) it is motet's rate divided by the rival's.
- The column `motet` is the median over its runs beside each rival. The best of each row is in bold.
- `allocations` is the number of heap allocations per operation of motet, where it was counted.
- Machines are shared and noisy: compare within a row, not between sections.
";

/// A line that the benches print.
struct Case {
    name: String,
    rival: String,
    lacks: String,
    unit: String,
    ours: f64,
    theirs: f64,
    ratio: f64,
    allocations: Option<f64>,
}

/// Replaces the sections of the areas that `lines`, the output of the benches, are about.
pub(crate) fn write(lines: &[String]) -> Result<(), String> {
    let mut areas: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for line in lines {
        let (area, case) =
            parse(line).ok_or_else(|| format!("the benches printed a line that is not a case: {line}"))?;
        areas.entry(area).or_default().push(case);
    }
    let path = root().join(FILE);
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("cannot read {FILE}: {error}")),
    };
    let mut sections = sections(&before);
    let machine = machine()?;
    for (area, cases) in &areas {
        sections.insert(area.clone(), section(&machine, cases));
    }
    let body: String =
        sections.iter().map(|(area, text)| format!("\n## {area}\n\n{}\n", text.trim())).collect();
    fs::write(&path, HEAD.to_owned() + &body).map_err(|error| format!("cannot write {FILE}: {error}"))
}

fn parse(line: &str) -> Option<(String, Case)> {
    let json: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| json[key].as_str().map(str::to_owned);
    let case = Case {
        name: text("case")?,
        rival: text("rival_name")?,
        lacks: text("rival_lacks")?,
        unit: text("unit")?,
        ours: json["ours"].as_f64()?,
        theirs: json["rival"].as_f64()?,
        ratio: json["ratio"].as_f64()?,
        allocations: json["allocs_ours"].as_f64(),
    };
    Some((text("area")?, case))
}

/// The text below each heading of the second level.
fn sections(text: &str) -> BTreeMap<String, String> {
    let parts = text.split("\n## ").skip(1);
    parts
        .filter_map(|part| part.split_once('\n'))
        .map(|(area, body)| (area.to_owned(), body.to_owned()))
        .collect()
}

fn section(machine: &str, cases: &[Case]) -> String {
    // The minimum over the rounds is in the JSON lines only.
    let shown: Vec<_> = cases.iter().filter(|case| !case.name.ends_with(", minimum")).collect();
    let mut rivals: Vec<&str> = Vec::new();
    let mut rows: Vec<(&str, &str)> = Vec::new();
    for case in &shown {
        if !rivals.contains(&case.rival.as_str()) {
            rivals.push(&case.rival);
        }
        if !rows.contains(&(case.name.as_str(), case.unit.as_str())) {
            rows.push((&case.name, &case.unit));
        }
    }
    let mut text = format!("{machine}\n\n| case | unit | motet | {} | allocations |\n", rivals.join(" | "));
    text += &format!("|---|---|{}--:|\n", "--:|".repeat(rivals.len() + 1));
    for (name, unit) in rows {
        let of_row: Vec<_> = shown.iter().filter(|case| case.name == name && case.unit == unit).collect();
        text += &row(name, unit, &rivals, &of_row);
    }
    let mut lacks: Vec<_> = shown.iter().filter(|case| !case.lacks.is_empty()).collect();
    lacks.sort_by_key(|case| &case.rival);
    lacks.dedup_by_key(|case| &case.rival);
    if !lacks.is_empty() {
        text += "\nWhat motet provides in these figures and the rival does not:\n\n";
        text += &lacks.iter().map(|case| format!("- {}: {}\n", case.rival, case.lacks)).collect::<String>();
    }
    text
}

fn row(name: &str, unit: &str, rivals: &[&str], cases: &[&&Case]) -> String {
    let mut ours: Vec<f64> = cases.iter().map(|case| case.ours).collect();
    ours.sort_by(f64::total_cmp);
    let fastest = cases.iter().map(|case| case.ratio).fold(f64::INFINITY, f64::min);
    let bold = |is_best: bool, text: String| if is_best { format!("**{text}**") } else { text };
    let cells: Vec<_> = rivals
        .iter()
        .map(|rival| {
            let case = cases.iter().find(|case| case.rival == *rival);
            case.map_or_else(
                || "-".to_owned(),
                |case| {
                    let is_best = case.ratio < 1.0 && case.ratio <= fastest;
                    bold(is_best, format!("{} ({:.2})", number(case.theirs), case.ratio))
                },
            )
        })
        .collect();
    let motet = bold(fastest >= 1.0, number(ours[ours.len() / 2]));
    let allocations = cases.iter().find_map(|case| case.allocations).map_or_else(|| "-".to_owned(), number);
    let name = name.trim_end_matches(", median").replace('|', "\\|");
    format!("| {name} | {unit} | {motet} | {} | {allocations} |\n", cells.join(" | "))
}

/// Three digits that matter.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// The machine, the compiler and the commit of a run.
fn machine() -> Result<String, String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let rustc = output(Command::new("rustc").arg("--version"))?;
    let commit = output(Command::new("git").args(["log", "-1", "--format=%h of %cs"]).current_dir(root()))?;
    Ok(format!("{}, {cores} cores, {rustc}; commit {commit}.", model.unwrap_or("unknown processor")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, rival: &str, ours: f64, theirs: f64) -> Case {
        let [name, rival] = [name, rival].map(str::to_owned);
        let (lacks, unit) = (String::new(), "ns/op".to_owned());
        Case { name, rival, lacks, unit, ours, theirs, ratio: theirs / ours, allocations: Some(0.0) }
    }

    #[test]
    fn best_result_of_a_row_is_bold_and_rivals_have_their_ratio() {
        let cases =
            [case("a, median", "x", 10.0, 25.0), case("a, median", "y", 12.0, 6.0), case("b", "x", 1.0, 2.0)];
        let text = section("a machine", &cases);
        let rows: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| case | unit | motet | x | y | allocations |",
                "|---|---|--:|--:|--:|--:|",
                "| a | ns/op | 12.0 | 25.0 (2.50) | **6.00 (0.50)** | 0 |",
                "| b | ns/op | **1.00** | 2.00 (2.00) | - | 0 |",
            ]
        );
    }

    #[test]
    fn sections_of_a_report_are_parsed_by_area() {
        let kept = sections("# Benchmarks\n\n## pool\n\nold\n\n## queue\n\nolder\n");
        assert_eq!(kept["pool"].trim(), "old");
        assert_eq!(kept["queue"].trim(), "older");
    }
}
