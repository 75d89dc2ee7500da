//! The project's own commands.
//!
//! - `cargo xtask test`: every test, doc tests included; installs what they need first.
//! - `cargo xtask lint`: formatting, clippy and docs, with warnings as errors.
//! - `cargo xtask ci`: both.
//! - `cargo xtask compare [AREA ..]`: ours beside its rivals, one JSON line per case.
//! - `cargo xtask verify`: what is too slow for every push: dependency policy and long runs.

mod memory;
mod shell;
mod test_tools;

use std::env;
use std::process::ExitCode;

use shell::{cargo, run};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [ARG ..]       all tests, doc tests included; installs what they need first.
                      Arguments go to `cargo test`: `cargo xtask test crash` runs tests with that name
  lint                cargo fmt, clippy and doc, with warnings as errors
  ci                  test and lint
  compare [AREA ..]   ours beside its rivals: a JSON line per case on stdout, a table on stderr
  verify              slow checks: dependency policy, loom models, valgrind, many seeds, many rounds of kill -9,
                      many proptest cases
";

/// The most that glibc takes as the threshold from which memory is mapped by itself.
const KEPT_BYTES: &str = "33554432";

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let done = match command.as_str() {
        "test" => test(&rest),
        "lint" if rest.is_empty() => lint(),
        "ci" if rest.is_empty() => test(&[]).and_then(|()| lint()),
        "compare" => compare(&rest),
        "verify" if rest.is_empty() => verify(),
        "help" | "--help" | "-h" => {
            shell::say(USAGE);
            Ok(())
        }
        other => Err(format!("there is no command {other:?}\n\n{USAGE}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            shell::say(&format!("xtask: {message}"));
            ExitCode::FAILURE
        }
    }
}

fn test(args: &[String]) -> Result<(), String> {
    test_tools::install()?;
    run(cargo(&["test", "--workspace"]).args(args))
}

fn lint() -> Result<(), String> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    run(cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings"))?;
    // A workspace of its own, so the lines above do not see it.
    run(&mut cargo(&["fmt", "--manifest-path", "benches/Cargo.toml", "--check"]))
}

fn compare(areas: &[String]) -> Result<(), String> {
    run(cargo(&["run", "--release", "--quiet", "--manifest-path", "benches/Cargo.toml", "--"])
        .args(areas)
        // Or glibc gives memory back between the rounds of some cases and not of others, by what ran before, and a
        // thousand page faults a round are measured with the work.
        .env("MALLOC_TRIM_THRESHOLD_", KEPT_BYTES)
        .env("MALLOC_MMAP_THRESHOLD_", KEPT_BYTES))
}

/// The models of what needs two threads, under loom: in a target folder of its own, since the flag is for all
/// that is built. From nothing it takes more than a minute, hence not at every push.
fn models() -> Result<(), String> {
    run(cargo(&["test", "--package", "motet", "--lib", "models"])
        .env("RUSTFLAGS", "--cfg motet_loom")
        .env("CARGO_TARGET_DIR", "target/loom"))
}

fn verify() -> Result<(), String> {
    if run(cargo(&["deny", "--version"]).stdout(std::process::Stdio::null())).is_err() {
        run(&mut cargo(&["install", "--locked", "cargo-deny"]))?;
    }
    run(&mut cargo(&["deny", "check", "bans", "licenses", "sources"]))?;
    run(&mut cargo(&["clippy", "--manifest-path", "benches/Cargo.toml", "--", "-D", "warnings"]))?;
    models()?;
    memory::check()?;
    test_tools::install()?;
    run(cargo(&["test", "--workspace", "--exclude", "motet-testkit", "--release"])
        .env("PROPTEST_CASES", "20000")
        .env("MOTET_RUNS", "20000")
        .env("RELAY_TEST_KILL_ROUNDS", "200"))?;
    // Its tests are of seeds themselves, and each says how many it needs.
    run(&mut cargo(&["test", "--package", "motet-testkit", "--release"]))
}
