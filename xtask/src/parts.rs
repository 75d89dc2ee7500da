//! Parts of a long command: each with its time, and remembered once it has passed.

#![allow(clippy::disallowed_methods, reason = "how long a command takes is real time")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::shell::{output, root, say};

/// A part of `verify`.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// A line about the checks of this part.
    pub(crate) what: &'static str,
    pub(crate) run: fn() -> Result<(), String>,
}

/// The time limit of a part, on two cores.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// Runs `work`, and prints under its name how long it took.
pub(crate) fn timed(name: &str, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    say(&format!("== {name}"));
    let started = Instant::now();
    let done = work();
    let ended = if done.is_ok() { "passed" } else { "failed" };
    say(&format!("== {name}: {ended} after {}", shown(started.elapsed())));
    done
}

/// Runs the parts that have not passed on this state of the files, one by one, and prints a table of all of them. Stops at
/// the first that fails.
pub(crate) fn run_missing(parts: &[Part]) -> Result<(), String> {
    let state = state()?;
    let mut done = Ok(());
    for part in parts {
        if let Some(passed) = Passed::read(part, &state) {
            say(&format!("== {}: has passed on this state after {}", part.name, passed.took));
            continue;
        }
        done = run_part(part, &state);
        if done.is_err() {
            break;
        }
    }
    print_table(parts, &state);
    done
}

/// Runs these parts, whether or not they have passed before.
pub(crate) fn run_named(parts: &[Part], names: &[String]) -> Result<(), String> {
    let find = |name: &String| {
        parts.iter().find(|part| part.name == name).ok_or_else(|| {
            let known: Vec<_> = parts.iter().map(|part| part.name).collect();
            format!("there is no part {name:?}; there are: {}", known.join(", "))
        })
    };
    let chosen = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let state = state()?;
    chosen.into_iter().try_for_each(|part| run_part(part, &state))
}

fn run_part(part: &Part, state: &str) -> Result<(), String> {
    let started = Instant::now();
    timed(part.name, || (part.run)()).map_err(|why| format!("part {}: {why}", part.name))?;
    let took = started.elapsed();
    if took > LIMIT {
        return Err(format!(
            "part {} took {}; split it: {} is the limit",
            part.name,
            shown(took),
            shown(LIMIT)
        ));
    }
    Passed { took: shown(took) }.write(part, state)
}

fn print_table(parts: &[Part], state: &str) {
    say("");
    for part in parts {
        let took = Passed::read(part, state).map_or_else(|| "not passed".to_owned(), |passed| passed.took);
        say(&format!("{:<10} {took:>12}  {}", part.name, part.what));
    }
}

/// A part has passed.
struct Passed {
    took: String,
}

impl Passed {
    fn read(part: &Part, state: &str) -> Option<Self> {
        let text = fs::read_to_string(file(part)).ok()?;
        let (of_state, took) = text.split_once('\n')?;
        (of_state == state).then(|| Self { took: took.to_owned() })
    }

    fn write(&self, part: &Part, state: &str) -> Result<(), String> {
        let file = file(part);
        let folder = file.parent().unwrap_or(&file);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&file, format!("{state}\n{}", self.took)))
            .map_err(|error| format!("cannot write {}: {error}", file.display()))
    }
}

fn file(part: &Part) -> PathBuf {
    root().join("target/verify").join(part.name)
}

/// Identifies the state of the files: the commit, or the tree that includes uncommitted changes.
fn state() -> Result<String, String> {
    let git = |args: &[&str]| output(Command::new("git").args(args).current_dir(root()));
    let commit = git(&["rev-parse", "HEAD"])?;
    let changes = git(&["status", "--porcelain"])?;
    if changes.is_empty() {
        return Ok(commit);
    }
    // The tree of all files as they are, in an index of its own.
    let index = root().join("target/verify/index");
    let _old = fs::remove_file(&index);
    fs::create_dir_all(root().join("target/verify"))
        .map_err(|error| format!("cannot make a folder: {error}"))?;
    let with_index = |args: &[&str]| {
        output(Command::new("git").args(args).current_dir(root()).env("GIT_INDEX_FILE", &index))
    };
    with_index(&["add", "--all"])?;
    with_index(&["write-tree"])
}

fn shown(took: Duration) -> String {
    let seconds = took.as_secs();
    format!("{} min {:02} s", seconds / 60, seconds % 60)
}
