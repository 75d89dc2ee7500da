//! Running other programs.

use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Prints a line to standard error: standard output belongs to the command that runs.
pub(crate) fn say(text: &str) {
    // A closed standard error does not stop the work.
    let _ = writeln!(io::stderr(), "{text}");
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    // cargo sets it when it runs the command; the value of the build is wrong in a copy of the repository.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).parent().unwrap_or_else(|| Path::new(".")).to_owned()
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

/// Runs a program to its end, passes on the lines it prints, and returns them.
pub(crate) fn run_and_read(command: &mut Command) -> Result<Vec<String>, String> {
    let shown = line(command);
    say(&format!("$ {shown}"));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("`{shown}` cannot be run: {error}"))?;
    let stdout = child.stdout.take().ok_or("a program without standard output")?;
    let mut lines = Vec::new();
    for printed in BufReader::new(stdout).lines() {
        let printed = printed.map_err(|error| format!("cannot read the output of `{shown}`: {error}"))?;
        // If standard output cannot be written, the run and the returned lines are still of use.
        let _ = writeln!(io::stdout(), "{printed}");
        lines.push(printed);
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(lines),
        Ok(status) => Err(format!("`{shown}` failed: {status}")),
        Err(error) => Err(format!("`{shown}` cannot be waited for: {error}")),
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
