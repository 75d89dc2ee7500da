//! What the tests need beyond Rust: the Standard Webhooks reference library, in a Python environment of
//! the project's own under `target/`, and the programs of a PostgreSQL server.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::shell::{root, run, say};

const REFERENCE_LIBRARY: &str = "standardwebhooks==1.1.0";
const DEBIAN_PACKAGES: [&str; 2] = ["python3", "python3-venv"];

/// Installs what is missing; does nothing when all is there.
pub(crate) fn install() -> Result<(), String> {
    if !has_postgres() {
        install_packages(&["postgresql"])?;
    }
    install_reference_library()
}

/// Where the tests look for it too: in the path, and where Debian has it.
fn has_postgres() -> bool {
    let of_debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let in_path = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
    let mut folders = in_path.into_iter().chain(of_debian.map(|version| version.path().join("bin")));
    folders.any(|folder| folder.join("initdb").is_file())
}

fn install_reference_library() -> Result<(), String> {
    let environment = environment();
    let stamp = environment.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == REFERENCE_LIBRARY) {
        return Ok(());
    }
    let make = || run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
    if let Err(first) = make() {
        install_packages(&DEBIAN_PACKAGES).map_err(|why| format!("{first}\n{why}"))?;
        make()?;
    }
    run(Command::new(environment.join("bin/pip")).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        REFERENCE_LIBRARY,
    ]))?;
    fs::write(&stamp, REFERENCE_LIBRARY).map_err(|error| format!("cannot write {}: {error}", stamp.display()))
}

/// Where the tests look for it too.
fn environment() -> PathBuf {
    root().join("target/test-tools/python")
}

/// Installs packages where that can be done without asking anybody; else the error says what to install.
pub(crate) fn install_packages(needed: &[&str]) -> Result<(), String> {
    let advice = format!("the tests need more packages; on Debian: apt-get install {}", needed.join(" "));
    let can_run = |program: &str, args: &[&str]| {
        let quiet = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    };
    if !can_run("apt-get", &["--version"]) {
        return Err(advice);
    }
    let may_ask_root = can_run("sudo", &["-n", "true"]);
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0");
    let apt = |args: &[&str]| {
        let mut command = if is_root { Command::new("apt-get") } else { Command::new("sudo") };
        if !is_root {
            command.args(["-n", "apt-get"]);
        }
        run(command.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    if !is_root && !may_ask_root {
        return Err(advice);
    }
    say("installing what the tests need, once");
    apt(&["update", "--quiet"])?;
    apt(&[&["install", "--yes", "--quiet", "--no-install-recommends"], needed].concat())
}
