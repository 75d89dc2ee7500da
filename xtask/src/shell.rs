//! Running other programs.

use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells the user something, on standard error: standard output belongs to the command that runs.
pub(crate) fn say(text: &str) {
    // Where it cannot be written, the work goes on all the same.
    let _ = writeln!(io::stderr(), "{text}");
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new(".")).to_owned()
}

/// The cargo that runs this, in the root of the repository.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Runs a program to its end; its failure is an error that repeats the command line.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    say(&format!("$ {}", line(command)));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}` failed: {status}", line(command))),
        Err(error) => Err(format!("`{}` cannot be run: {error}", line(command))),
    }
}

/// Runs a program to its end and returns what it prints, without the line break at its end.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let ran = command.output().map_err(|error| format!("`{}` cannot be run: {error}", line(command)))?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        return Err(format!("`{}` failed: {}: {}", line(command), ran.status, said.trim()));
    }
    Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
