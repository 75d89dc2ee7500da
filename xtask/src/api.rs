//! `cargo xtask api`: the public types of `motet`, as a list in the repository, so that a change of it is seen in review.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::shell::{cargo, root, run, say};

/// The list, below the root of the repository.
const LIST: &str = "crates/motet/public-types.txt";
/// The most types that one person can be expected to learn. Counted apart: the module `sim`, which only tests need, and the
/// types that have a reason in the list.
const MOST: usize = 180;

const HEAD: &str = "\
# The public types of motet: every struct, enum, trait and alias that can be named from outside.
# Checked by `cargo xtask api`, written by `cargo xtask api --write`.
# A type above the limit needs a reason at the end of its line: `struct motet::x::Y # why a user needs it`.
";

/// Compares the list with the crate, or writes it.
pub(crate) fn check(args: &[String]) -> Result<(), String> {
    let write = match args {
        [] => false,
        [flag] if flag == "--write" => true,
        _ => return Err("usage: cargo xtask api [--write]".to_owned()),
    };
    let types = public_types()?;
    let file = root().join(LIST);
    let kept = fs::read_to_string(&file).map_err(|error| format!("cannot read {LIST}: {error}"))?;
    let reasons = reasons(&kept)?;
    let lines = types.iter().map(|(path, kind)| {
        let line = format!("{kind} {path}");
        reasons.get(line.as_str()).map_or_else(|| format!("{line}\n"), |why| format!("{line} # {why}\n"))
    });
    let text = HEAD.to_owned() + &lines.collect::<String>();
    if write {
        fs::write(&file, &text).map_err(|error| format!("cannot write {LIST}: {error}"))?;
    } else {
        compare(&kept, &text)?;
    }
    let has_reason = |kind: &str, path: &str| reasons.contains_key(format!("{kind} {path}").as_str());
    let counted =
        types.iter().filter(|(path, kind)| !path.starts_with("motet::sim::") && !has_reason(kind, path));
    let counted = counted.count();
    let with_reason = types.iter().filter(|(path, kind)| has_reason(kind, path)).count();
    say(&format!("{counted} public types, {MOST} at most; {with_reason} more with a reason"));
    if counted > MOST {
        return Err(format!("motet has {counted} public types without a reason in {LIST}: {MOST} at most"));
    }
    let twice = names_used_twice(&types);
    if twice.is_empty() {
        return Ok(());
    }
    Err(format!("public types need unique names:\n  {}", twice.join("\n  ")))
}

/// The reason of each line that has one.
fn reasons(kept: &str) -> Result<BTreeMap<&str, &str>, String> {
    let lines = kept.lines().filter(|line| !line.starts_with('#'));
    let reasons: BTreeMap<_, _> =
        lines.filter_map(|line| line.split_once(" #")).map(|(line, why)| (line, why.trim())).collect();
    match reasons.iter().find(|(_, why)| why.is_empty()) {
        Some((line, _)) => Err(format!("{LIST}: the reason of `{line}` is empty")),
        None => Ok(reasons),
    }
}

fn compare(kept: &str, now: &str) -> Result<(), String> {
    let lines = |text: &'_ str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (kept, now) = (lines(kept), lines(now));
    let added = now.difference(&kept).map(|line| format!("  + {line}\n"));
    let removed = kept.difference(&now).map(|line| format!("  - {line}\n"));
    let changes: String = added.chain(removed).collect();
    if changes.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the public types differ from {LIST}:\n{changes}if this is intended: `cargo xtask api --write`"
    ))
}

/// The kind of each public type by its shortest path.
fn public_types() -> Result<BTreeMap<String, String>, String> {
    let args = ["rustdoc", "--quiet", "--package", "motet", "--lib", "--all-features", "--"];
    let options = ["-Z", "unstable-options", "--output-format", "json", "--document-hidden-items"];
    // The JSON output is unstable: a stable compiler writes it only with RUSTC_BOOTSTRAP.
    run(cargo(&args)
        .args(options)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", root().join("target")))?;
    let path = root().join("target/doc/motet.json");
    let text =
        fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let json: Value =
        serde_json::from_str(&text).map_err(|error| format!("{} is not JSON: {error}", path.display()))?;
    let mut paths = BTreeMap::new();
    Walk { index: &json["index"], paths: &mut paths }.module(&json["root"], "motet")?;
    if paths.is_empty() {
        return Err(format!("{} has no public type: the format has changed", path.display()));
    }
    Ok(paths.into_values().collect())
}

/// Follows the modules and re-exports of a crate from its root.
struct Walk<'a> {
    index: &'a Value,
    /// Path and kind of each type, by its id.
    paths: &'a mut BTreeMap<String, (String, String)>,
}

impl<'a> Walk<'a> {
    fn module(&mut self, id: &Value, path: &str) -> Result<(), String> {
        let items = self.item(id).and_then(|item| item["inner"]["module"]["items"].as_array());
        let items = items.ok_or_else(|| format!("{path} is not a module: the format has changed"))?;
        for id in items {
            let Some(item) = self.item(id) else { continue };
            if item["visibility"] != "public" {
                continue;
            }
            let import = &item["inner"]["use"];
            if import.is_object() {
                self.import(import, path)?;
            } else if let Some(name) = item["name"].as_str() {
                self.named(id, &format!("{path}::{name}"))?;
            }
        }
        Ok(())
    }

    fn import(&mut self, import: &Value, path: &str) -> Result<(), String> {
        // Of another crate, or of a primitive type.
        if self.item(&import["id"]).is_none() {
            return Ok(());
        }
        if import["is_glob"] == true {
            return self.module(&import["id"], path);
        }
        let name = import["name"].as_str().ok_or("a re-export without a name: the format has changed")?;
        self.named(&import["id"], &format!("{path}::{name}"))
    }

    fn named(&mut self, id: &Value, path: &str) -> Result<(), String> {
        let Some(inner) = self.item(id).and_then(|item| item["inner"].as_object()) else { return Ok(()) };
        let Some(kind) = inner.keys().next() else { return Ok(()) };
        match kind.as_str() {
            "module" => return self.module(id, path),
            "struct" | "enum" | "union" | "trait" | "type_alias" => {}
            _ => return Ok(()),
        }
        let known = self.paths.entry(id.to_string()).or_insert_with(|| (path.to_owned(), kind.clone()));
        if path.len() < known.0.len() {
            path.clone_into(&mut known.0);
        }
        Ok(())
    }

    fn item(&self, id: &Value) -> Option<&'a Value> {
        self.index.get(id.to_string())
    }
}

fn names_used_twice(types: &BTreeMap<String, String>) -> Vec<String> {
    let mut paths: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for path in types.keys() {
        paths.entry(path.rsplit("::").next().unwrap_or(path)).or_default().push(path);
    }
    paths.into_values().filter(|paths| paths.len() > 1).map(|paths| paths.join(", ")).collect()
}
