//! The unsafe code under valgrind: the races of real threads, and the futures that are leaked or run in a task.
//!
//! The address sanitizer would be quicker, and needs a nightly compiler.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::shell::{cargo, root, run};
use crate::test_tools::install_packages;

/// The tests that go through the lists and slots, but for those that leak memory on purpose.
const TESTS: [&str; 7] = [
    "stress::",
    "local::",
    "gather::",
    "race::",
    "queue::threads::",
    "stream::generator::",
    "stream::tasks::par_map_loses_no_item_across_threads",
];

/// Runs the tests under valgrind. An invalid read or write is a failure, and so is leaked memory.
pub(crate) fn check() -> Result<(), String> {
    if run(valgrind(&["--version"]).stdout(Stdio::null())).is_err() {
        install_packages(&["valgrind"])?;
    }
    let checks = [
        "--error-exitcode=9",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite",
        "--show-leak-kinds=definite",
    ];
    run(valgrind(&checks)
        .arg(test_binary()?)
        .args(TESTS)
        .args(["--skip", "drivers", "--skip", "leak"])
        // A round takes a hundred times as long.
        .env("MOTET_STRESS_ROUNDS", "20"))
}

fn valgrind(args: &[&str]) -> Command {
    let mut command = Command::new("valgrind");
    // Fair: or one thread that spins keeps the others from what it waits for.
    command.args(["--quiet", "--fair-sched=yes"]).args(args).current_dir(root());
    command
}

/// Builds the tests of the library and finds their binary.
fn test_binary() -> Result<PathBuf, String> {
    let mut build =
        cargo(&["test", "--package", "motet", "--test", "it", "--no-run", "--message-format=json"]);
    let output =
        build.stderr(Stdio::inherit()).output().map_err(|error| format!("cargo cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    // One line of JSON per artifact; the test's own is the one with an executable.
    let executables =
        said.lines().filter_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next());
    let executable = executables.fold(None, |_, last| Some(last));
    executable.map(PathBuf::from).ok_or_else(|| "cargo names no test binary".to_owned())
}
