//! The tools of the tests beyond Rust: the Standard Webhooks reference library, in a Python environment of
//! the project's own under `target/`, the programs of a PostgreSQL server, and nginx.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::shell::{root, run, say};

const REFERENCE_LIBRARY: &str = "standardwebhooks==1.1.0";
const DEBIAN_PACKAGES: [&str; 2] = ["python3", "python3-venv"];

/// Installs the missing tools.
pub(crate) fn install() -> Result<(), String> {
    if !has_postgres() {
        install_packages(&["postgresql"])?;
    }
    if !has_nginx() {
        unpack_nginx()?;
    }
    install_reference_library()
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
    root().join("target/test-tools/nginx")
}

/// Unpacks Debian's package of nginx, which is not installed: that would start it, now and at each start of the machine.
fn unpack_nginx() -> Result<(), String> {
    let folder = nginx();
    let cannot = |error| format!("cannot fill {}: {error}", folder.display());
    let _old = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(cannot)?;
    let download =
        || run(Command::new("apt-get").args(["download", "--quiet", "nginx"]).current_dir(&folder));
    if download().is_err() {
        Apt::find(&["nginx"])?.run(&["update", "--quiet"])?;
        download()?;
    }
    let files = fs::read_dir(&folder).map_err(cannot)?.flatten().map(|entry| entry.path());
    for package in files.filter(|path| path.extension().is_some_and(|extension| extension == "deb")) {
        run(Command::new("dpkg-deb").arg("--extract").args([&package, &folder]))?;
    }
    run(Command::new(folder.join("usr/sbin/nginx")).arg("-v"))
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
