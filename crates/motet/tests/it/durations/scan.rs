//! Finds the settings of a crate that take a duration, in its sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Zero, the shortest, the longest whose nanoseconds fit into a `u64` (584 years), and the longest of all.
pub(crate) const ODD: [Duration; 4] =
    [Duration::ZERO, Duration::from_nanos(1), Duration::from_nanos(u64::MAX), Duration::MAX];

/// Fails if the sources have a setting that is neither in a `table` of odd durations nor among `no_settings`, or if either
/// has one that the sources do not have.
///
/// A setting is a parameter of a public function, a field of a public struct or a variant of a public enum whose type
/// names a `Duration` or a `Backoff`. What only reports one is not a setting: `no_settings` lists it.
#[track_caller]
pub(crate) fn check_complete(
    sources: &str,
    table: impl IntoIterator<Item = &'static str>,
    no_settings: &[&'static str],
) {
    let mut found = BTreeSet::new();
    collect(Path::new(sources), Path::new(sources), &mut found);
    let listed = table.into_iter().chain(no_settings.iter().copied());
    let listed: BTreeSet<String> = listed.map(str::to_owned).collect();
    let missing: Vec<_> = found.difference(&listed).collect();
    assert!(missing.is_empty(), "give these a row in the table of odd durations: {missing:#?}");
    let stale: Vec<_> = listed.difference(&found).collect();
    assert!(stale.is_empty(), "the sources do not have these: {stale:#?}");
}

fn collect(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let file = path.strip_prefix(root).unwrap().display().to_string();
            let code = code_of(&fs::read_to_string(&path).unwrap());
            found.extend(settings_in(&code).into_iter().map(|setting| format!("{file} {setting}")));
        }
    }
}

/// The code without comments and the contents of literals, and without the module of tests at its end.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = match next {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '"' => string_end(rest, '"'),
            // Not a lifetime.
            '\'' if rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'') => string_end(rest, '\''),
            _ => {
                code.push(next);
                next.len_utf8()
            }
        };
        rest = &rest[skipped..];
    }
    match code.find("#[cfg(test)]\nmod ").or_else(|| code.find("#[cfg(all(test, target_os = ))]\nmod ")) {
        Some(tests) if !code[tests..].lines().nth(1).is_some_and(|line| line.ends_with(';')) => {
            code.truncate(tests)
        }
        _ => {}
    }
    code
}

fn string_end(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == quote && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

fn settings_in(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let traits: Vec<_> = blocks(code, "pub trait ").into_iter().map(|(_, body)| body).collect();
    for (at, _) in code.match_indices("fn ") {
        let qualifiers = code[..at].trim_end_matches(|c: char| c.is_whitespace());
        let qualifiers = ["const", "async", "unsafe"]
            .iter()
            .fold(qualifiers, |before, word| before.strip_suffix(word).map_or(before, str::trim_end));
        let is_public = qualifiers.ends_with("pub")
            || traits.iter().any(|body| body.contains(&at)) && code[..at].ends_with("\n    ");
        if is_public && code[..at].ends_with(char::is_whitespace) && takes_duration(&code[at..]) {
            found.push(word_at(&code[at + 3..]).to_owned());
        }
    }
    for (name, body) in blocks(code, "pub struct ") {
        let fields = code[body].lines().map(str::trim).filter_map(|line| line.strip_prefix("pub "));
        let fields = fields.filter(|field| is_duration(field));
        found.extend(fields.map(|field| format!("{name}.{}", word_at(field))));
    }
    for (name, body) in blocks(code, "pub enum ") {
        let mut variant = "";
        for line in code[body].lines().map(str::trim) {
            if line.starts_with(char::is_uppercase) {
                variant = word_at(line);
            }
            if is_duration(line) {
                found.push(format!("{name}::{variant}"));
            }
        }
    }
    found
}

/// Returns each block that starts with `opening` at the beginning of a line: its name, and its range in braces.
fn blocks<'a>(code: &'a str, opening: &str) -> Vec<(&'a str, std::ops::Range<usize>)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(opening) {
        let Some(length) = code[at..].find("\n}") else { continue };
        // One without a block ends before another begins.
        let Some(begin) = code[at..at + length].find('{') else { continue };
        if code[at..at + begin].contains(';') || !(at == 0 || code[..at].ends_with('\n')) {
            continue;
        }
        found.push((word_at(&code[at + opening.len()..]), at + begin..at + length));
    }
    found
}

/// Whether a function takes one: in its parameters, its generics or its bounds, but not in what it returns.
fn takes_duration(function: &str) -> bool {
    let signature = &function[..function.find(['{', ';']).unwrap_or(function.len())];
    let (mut depth, mut end) = (0, signature.len());
    for (at, c) in signature.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            '>' if depth == 0 && at > 0 && signature[..at].ends_with(") -") => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    let bounds = signature[end..].find("where").map_or("", |at| &signature[end + at..]);
    is_duration(&signature[..end]) || is_duration(bounds)
}

fn is_duration(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| matches!(word, "Duration" | "Backoff"))
}

fn word_at(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}
