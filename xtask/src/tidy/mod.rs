//! `cargo xtask tidy`: checks the language of docs, comments, messages and Markdown files, and the names of tests.
//!
//! The words that are not used are data, in `xtask/words.txt`.

mod names;
mod phrases;
mod prose;
mod tables;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::shell::{output, root, say};
use phrases::Phrases;

/// A line that has to be changed.
pub(crate) struct Finding {
    pub(crate) line: usize,
    /// The fault, and the text to write instead.
    pub(crate) message: String,
}

/// Checks the files of the repository, or those whose path starts with one of `prefixes`.
pub(crate) fn check(prefixes: &[String]) -> Result<(), String> {
    let phrases = Phrases::read(&root().join("xtask/words.txt"))?;
    let listed = output(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(root()),
    )?;
    let chosen = |path: &&str| prefixes.is_empty() || prefixes.iter().any(|prefix| path.starts_with(prefix));
    let mut count = 0;
    for path in listed.lines().filter(chosen) {
        for finding in check_file(path, &phrases)? {
            say(&format!("{path}:{}: {}", finding.line, finding.message));
            count += 1;
        }
    }
    match count {
        0 => Ok(()),
        1 => Err("tidy: 1 line to change".to_owned()),
        count => Err(format!("tidy: {count} lines to change")),
    }
}

fn check_file(path: &str, phrases: &Phrases) -> Result<Vec<Finding>, String> {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    let read =
        || fs::read_to_string(root().join(path)).map_err(|error| format!("cannot read {path}: {error}"));
    let mut findings = match extension {
        Some("rs") => {
            let text = read()?;
            let runs = prose::of_rust(&text);
            let mut findings = phrases.find(&runs);
            findings.extend(tables::without_head(&runs));
            findings.extend(names::too_long(&text));
            findings
        }
        Some("md") => {
            let runs = [prose::of_markdown(&read()?)];
            let mut findings = phrases.find(&runs);
            findings.extend(tables::without_head(&runs));
            findings
        }
        Some("toml") => phrases.find(&prose::of_lines(&read()?, "#")),
        Some("sql") => phrases.find(&prose::of_lines(&read()?, "--")),
        _ => Vec::new(),
    };
    findings.sort_by_key(|finding| finding.line);
    Ok(findings)
}
