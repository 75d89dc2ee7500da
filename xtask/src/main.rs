//! The project's own commands.
//!
//! - `cargo xtask test`: every test, doc tests included; installs what they need first.
//! - `cargo xtask api [--write]`: the list of motet's public types.
//! - `cargo xtask tidy [PATH ..]`: the language of docs, comments and messages, and the names of tests.
//! - `cargo xtask lint`: language, public types, formatting, clippy and docs, with warnings as errors.
//! - `cargo xtask ci`: everything that every push must pass: tests, lints, and two parts of `verify`.
//! - `cargo xtask compare [AREA ..]`: motet beside its rivals, one JSON line per case.
//! - `cargo xtask verify [PART ..]`: checks that are too slow for every push: dependency policy and long runs.

mod api;
mod benchmarks;
mod debian;
mod memory;
mod operations;
mod parts;
mod shell;
mod soak;
mod test_tools;
mod tidy;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use parts::{Part, run_missing, run_named, timed};
use shell::{cargo, output, root, run, run_and_read};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [ARG ..]       all tests, doc tests included; installs what they need first.
                      Arguments go to `cargo test`: `cargo xtask test crash` runs tests with that name
  api [--write]       compares the public types of motet with their list in the repository, or writes the list
  tidy [PATH ..]      words that docs, comments and messages do not use, and test names that are too long
  lint                tidy, api, cargo fmt, clippy and doc, with warnings as errors
  ci                  everything that every push must pass: test, the parts `drivers`, `template`, `debian`
                      and `operations` of verify, lint
  compare [--markdown] [AREA ..]
                      motet beside its rivals: a JSON line per case on stdout, a table on stderr. With --markdown it
                      also writes the sections of these areas in BENCHMARKS.md
  verify [PART ..]    slow checks, in parts of less than 40 minutes on two cores. Without a part: all that have not
                      passed on this state of the files, so that it goes on where it stopped
";

/// The parts of `verify`, quick ones first.
const PARTS: &[Part] = &[
    Part {
        name: "policy",
        what: "dependencies: licences, sources, bans; clippy of the benches",
        run: policy,
    },
    Part { name: "features", what: "each feature of the library alone", run: features },
    Part { name: "sqlx", what: "the example of a pool over sqlx, with a PostgreSQL server", run: sqlx },
    Part { name: "template", what: "the template of a service, copied out of the repository", run: template },
    Part { name: "package", what: "each package builds from its archive", run: package },
    Part { name: "drivers", what: "the drivers of the library, optimised", run: drivers },
    Part { name: "optimised", what: "all tests of the library, optimised", run: optimised },
    Part { name: "models", what: "loom: what needs two threads", run: models },
    Part { name: "memory", what: "valgrind: the unsafe code", run: memory::check },
    Part {
        name: "stderr",
        what: "all tests of relay with each kind of standard error",
        run: standard_errors,
    },
    Part {
        name: "relay",
        what: "relay, optimised: 200 rounds of kill -9, 20 000 proptest cases",
        run: relay,
    },
    Part {
        name: "kill",
        what: "relay: 200 rounds of kill -9 during retention, and 200 during erasures",
        run: kills,
    },
    Part {
        name: "soak",
        what: "relay: 10 minutes at 2 000 events/s with a retention of a minute",
        run: soak::check,
    },
    Part {
        name: "requests",
        what: "relay with requests that schemathesis generates from its documents",
        run: generated_requests,
    },
    Part {
        name: "debian",
        what: "the Debian package of relay: built, installed, started, removed",
        run: debian::check,
    },
    Part {
        name: "operations",
        what: "alerts and the container file of relay, by promtool and hadolint",
        run: operations::check,
    },
    Part { name: "seeds", what: "the library with 20 000 seeds and proptest cases", run: seeds },
    Part {
        name: "seeds-http",
        what: "motet-http and the examples with 20 000 seeds and proptest cases; the testkit",
        run: seeds_of_http,
    },
    Part { name: "compare", what: "every area of the benches to its end", run: every_area },
];

/// The features of motet, except `full` and `default`.
const FEATURES: [&str; 16] = [
    "batch",
    "container",
    "cron",
    "event",
    "json",
    "metrics",
    "middleware",
    "periodic",
    "pool",
    "queue",
    "resilience",
    "run",
    "stream",
    "sim",
    "systemd",
    "tokio-util",
];

/// The features of motet-http that are enabled by default.
const HTTP_FEATURES: [&str; 7] = ["brotli", "dns", "gzip", "http2", "proxy", "tls", "zstd"];

/// Seeds of a test, and cases of a property, in long runs.
const MANY: &str = "20000";

/// The most that glibc takes as the threshold from which memory is mapped by itself.
const KEPT_BYTES: &str = "33554432";

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let done = match command.as_str() {
        "test" => test(&rest),
        "lint" if rest.is_empty() => lint(),
        "api" => api::check(&rest),
        "tidy" => tidy::check(&rest),
        "ci" if rest.is_empty() => ci(),
        "compare" => compare(&rest),
        "verify" => verify(&rest),
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

fn ci() -> Result<(), String> {
    test(&[])?;
    run_named(
        PARTS,
        &["drivers".to_owned(), "template".to_owned(), "debian".to_owned(), "operations".to_owned()],
    )?;
    lint()
}

fn verify(parts: &[String]) -> Result<(), String> {
    timed("tools of the tests", test_tools::install)?;
    match parts {
        [] => run_missing(PARTS),
        parts => run_named(PARTS, parts),
    }
}

fn test(args: &[String]) -> Result<(), String> {
    timed("tools of the tests", test_tools::install)?;
    if !args.is_empty() {
        return run(cargo(&["test", "--workspace"]).args(args));
    }
    timed("build of the tests", || run(&mut cargo(&["test", "--workspace", "--no-run"])))?;
    timed("tests", || run(&mut cargo(&["test", "--workspace"])))?;
    // What a crash or a stop does must not depend on who reads the log.
    for stderr in ["full", "closed"] {
        timed(&format!("crash and shutdown, standard error {stderr}"), || {
            let tests = ["crash::", "shutdown::", "lifecycle::", "full_disk::"];
            run(relay_tests(stderr).args(tests))
        })?;
    }
    Ok(())
}

/// relay's tests of the program, which has this kind of standard error.
fn relay_tests(stderr: &str) -> Command {
    let mut tests = cargo(&["test", "--package", "motet-relay", "--test", "it", "--"]);
    tests.env("MOTET_TEST_STDERR", stderr);
    tests
}

fn lint() -> Result<(), String> {
    timed("tidy", || tidy::check(&[]))?;
    timed("public types", || api::check(&[]))?;
    timed("fmt", || {
        run(&mut cargo(&["fmt", "--all", "--check"]))?;
        // Workspaces of their own, so the line above does not see them.
        run(&mut cargo(&["fmt", "--manifest-path", "benches/Cargo.toml", "--check"]))?;
        run(&mut cargo(&["fmt", "--manifest-path", "examples/sqlx/Cargo.toml", "--check"]))?;
        run(&mut cargo(&["fmt", "--manifest-path", "examples/template/Cargo.toml", "--check"]))
    })?;
    timed("clippy", || run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])))?;
    timed("docs", || {
        let args = ["doc", "--workspace", "--no-deps", "--document-private-items"];
        run(cargo(&args).env("RUSTDOCFLAGS", "-D warnings"))
    })
}

fn compare(args: &[String]) -> Result<(), String> {
    let (flags, areas): (Vec<_>, Vec<_>) = args.iter().partition(|arg| arg.starts_with('-'));
    let mut benches =
        cargo(&["run", "--release", "--quiet", "--locked", "--manifest-path", "benches/Cargo.toml", "--"]);
    benches
        .args(areas)
        // Or glibc gives memory back between the rounds of some cases and not of others, by what ran before, and a
        // thousand page faults a round are measured with the work.
        .env("MALLOC_TRIM_THRESHOLD_", KEPT_BYTES)
        .env("MALLOC_MMAP_THRESHOLD_", KEPT_BYTES);
    match flags.as_slice() {
        [] => run(&mut benches),
        [flag] if *flag == "--markdown" => benchmarks::write(&run_and_read(&mut benches)?),
        _ => Err(format!("usage: cargo xtask compare [--markdown] [AREA ..], not {}", args.join(" "))),
    }
}

/// The models of what needs two threads, under loom: in a target folder of its own, since the flag is for all
/// that is built. From nothing it takes more than a minute, hence not at every push.
fn models() -> Result<(), String> {
    run(cargo(&["test", "--package", "motet", "--lib", "models"])
        .env("RUSTFLAGS", "--cfg motet_loom")
        .env("CARGO_TARGET_DIR", "target/loom"))
}

fn policy() -> Result<(), String> {
    if run(cargo(&["deny", "--version"]).stdout(Stdio::null())).is_err() {
        run(&mut cargo(&["install", "--locked", "cargo-deny"]))?;
    }
    run(&mut cargo(&["deny", "check", "bans", "licenses", "sources"]))?;
    run(&mut cargo(&["clippy", "--locked", "--manifest-path", "benches/Cargo.toml", "--", "-D", "warnings"]))
}

/// The example with sqlx: a workspace of its own, whose lockfile the build must not change.
fn sqlx() -> Result<(), String> {
    test_tools::install()?;
    check_workspace(&root().join("examples/sqlx"), "target/sqlx")
}

/// Lints and tests a workspace of its own, and builds it in a folder of this repository.
fn check_workspace(folder: &Path, target: &str) -> Result<(), String> {
    for args in [&["clippy", "--locked", "--all-targets", "--", "-D", "warnings"][..], &["test", "--locked"]]
    {
        run(cargo(args).current_dir(folder).env("CARGO_TARGET_DIR", root().join(target)))?;
    }
    Ok(())
}

/// The template of a service, as a user begins with it: copied to another folder, with a link to this repository.
fn template() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| format!("cannot create a folder: {error}"))?;
    let cannot = |error: std::io::Error| format!("cannot copy the template: {error}");
    let of_template = ["ls-files", "--cached", "--others", "--exclude-standard", "examples/template"];
    let files = output(Command::new("git").args(of_template).current_dir(root()))?;
    for file in files.lines().map(|line| root().join(line)) {
        let to = folder
            .path()
            .join(file.strip_prefix(root().join("examples/template")).expect("git lists this folder"));
        fs::create_dir_all(to.parent().expect("it is in the folder")).map_err(cannot)?;
        if !file.is_symlink() {
            fs::copy(&file, to).map_err(cannot)?;
        }
    }
    std::os::unix::fs::symlink(root(), folder.path().join("motet")).map_err(cannot)?;
    check_workspace(folder.path(), "target/template")
}

/// Builds each package from the files of its archive, as it would be published.
fn package() -> Result<(), String> {
    run(cargo(&["package", "--workspace", "--allow-dirty"]).env("CARGO_TARGET_DIR", "target/package"))
}

/// Each feature of the library compiles without the others.
fn features() -> Result<(), String> {
    each_feature("motet", &FEATURES)?;
    each_feature("motet-http", &HTTP_FEATURES)
}

fn each_feature(package: &str, features: &[&str]) -> Result<(), String> {
    let none = std::iter::once(&"");
    none.chain(features).try_for_each(|feature| {
        let args = ["clippy", "--package", package, "--lib", "--no-default-features", "--features", feature];
        run(cargo(&args).args(["--", "-D", "warnings"]))
    })
}

/// With optimizations some faults show that a debug build hides, and the other way round.
fn drivers() -> Result<(), String> {
    run(&mut optimised_tests(&["--package", "motet", "--test", "it", "drivers::"]))
}

fn optimised() -> Result<(), String> {
    run(&mut optimised_tests(&["--package", "motet"]))
}

/// `cargo test --release`, without the optimization across the units of a crate: it takes half of the build, and the
/// tests find nothing more by it.
fn optimised_tests(args: &[&str]) -> Command {
    let mut tests = cargo(&["test", "--release"]);
    tests.args(args).env("CARGO_PROFILE_RELEASE_LTO", "off");
    tests
}

fn standard_errors() -> Result<(), String> {
    ["full", "closed", "unread"].into_iter().try_for_each(|stderr| run(&mut relay_tests(stderr)))
}

fn relay() -> Result<(), String> {
    test_tools::install()?;
    run(optimised_tests(&["--package", "motet-relay"])
        .env("PROPTEST_CASES", MANY)
        .env("MOTET_TEST_KILL_ROUNDS", "200"))
}

/// `kill -9` while rows are deleted.
fn kills() -> Result<(), String> {
    let tests = ["--package", "motet-relay", "--test", "it", "kills::"];
    run(optimised_tests(&tests).env("MOTET_TEST_DELETION_KILLS", "200"))
}

/// Generated test cases per operation of the API.
const GENERATED: &str = "60";

fn generated_requests() -> Result<(), String> {
    let environment = test_tools::install_schemathesis()?;
    run(&mut cargo(&["build", "--package", "motet-relay"]))?;
    let script = root().join("crates/motet-relay/tests/clients/fuzz_api.py");
    let mut python = Command::new(environment.join("bin/python"));
    python.arg(script).arg(root().join("target/debug/motet-relay")).arg(environment.join("bin/st"));
    run(python.args([GENERATED, "1"]))
}

fn seeds() -> Result<(), String> {
    run(&mut many_seeds(&["--package", "motet"]))
}

fn seeds_of_http() -> Result<(), String> {
    test_tools::install()?;
    run(&mut many_seeds(&["--package", "motet-http", "--package", "motet-examples"]))?;
    // The tests of the simulator set their own numbers of seeds.
    run(&mut optimised_tests(&["--package", "motet-testkit"]))
}

fn many_seeds(args: &[&str]) -> Command {
    let mut tests = optimised_tests(args);
    tests.env("PROPTEST_CASES", MANY).env("MOTET_RUNS", MANY);
    tests
}

fn every_area() -> Result<(), String> {
    compare(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_documented_and_compiled_alone() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
        for (package, checked) in [("motet", &FEATURES[..]), ("motet-http", &HTTP_FEATURES)] {
            let read = |file: &str| fs::read_to_string(root.join(package).join(file)).unwrap();
            let (manifest, page) = (read("Cargo.toml"), read("src/lib.rs"));
            let features = manifest.split_once("[features]\n").unwrap().1.split_once("\n[").unwrap().0;
            let names = features.lines().filter_map(|line| line.split_once(" = [")).map(|(name, _)| name);
            let table = page.split_once("# Features").unwrap().1;
            for name in names.filter(|name| *name != "default") {
                assert!(
                    table.contains(&format!("`{name}`")),
                    "the page of {package} lacks the feature {name}"
                );
                assert!(
                    name == "full" || checked.contains(&name),
                    "no check compiles {package}/{name} alone"
                );
            }
        }
    }
}
