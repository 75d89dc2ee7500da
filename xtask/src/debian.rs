//! The Debian package of relay: built, installed, and tried as the user of its unit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::shell::{cargo, output, root, run, say};
use crate::test_tools::{install_packages, tools};

const CARGO_DEB: &str = "3.8.0";

/// Maximum size of the installed binary.
const BINARY_BYTES: u64 = 25_000_000;

const BINARY: &str = "/usr/bin/motet-relay";
const SETTINGS: &str = "/etc/motet-relay/relay.toml";
const FOLDER: &str = "/etc/motet-relay";
const DATA: &str = "/var/lib/motet-relay";
const USER: &str = "motet-relay";
const PAGE: &str = "http://127.0.0.1:8181/healthz";

/// Builds the package, checks its unit, installs it, starts relay as the user of the unit, and removes the package.
pub(crate) fn check() -> Result<(), String> {
    if let Some(found) = [BINARY, FOLDER, DATA].into_iter().find(|path| Path::new(path).exists()) {
        return Err(format!(
            "{found} exists; this part installs the package, and removes it again with its key and its data, so it does not \
             run on a machine that has relay; remove {BINARY}, {FOLDER} and {DATA} if they are left over from this part"
        ));
    }
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        install_packages(&["systemd"])?;
    }
    let package = build()?;
    check_units()?;
    // Also when a step fails, so that the next run can begin.
    let _installed = Installed;
    run(as_root(&["dpkg", "--install"]).arg(&package))?;
    let size = fs::metadata(BINARY).map_err(|error| format!("cannot read {BINARY}: {error}"))?.len();
    say(&format!("the binary has {size} bytes"));
    if size > BINARY_BYTES {
        return Err(format!("the binary has {size} bytes; {BINARY_BYTES} is the limit"));
    }
    for page in ["man1/motet-relay.1.gz", "man1/motet-relay-serve.1.gz"] {
        if !Path::new("/usr/share/man").join(page).exists() {
            return Err(format!("the package has no page {page}"));
        }
    }
    run(&mut as_user(&[BINARY, "config", "check", "--config", SETTINGS]))?;
    use_as_operator()
}

fn build() -> Result<PathBuf, String> {
    let installed = tools().join("cargo-deb");
    let version = output(Command::new(installed.join("bin/cargo-deb")).arg("--version"));
    if !version.is_ok_and(|version| version.contains(CARGO_DEB)) {
        let of_version = format!("cargo-deb@{CARGO_DEB}");
        run(cargo(&["install", "--locked", "--quiet", &of_version, "--root"]).arg(&installed))?;
    }
    // The file of line tables is split off by the package.
    let build = ["build", "--profile", "dist", "--package", "motet-relay"];
    run(cargo(&build).env_remove("CARGO_PROFILE_RELEASE_DEBUG"))?;
    run(Command::new(root().join("target/dist/motet-relay"))
        .arg("generate")
        .arg(root().join("target/generated")))?;
    let file = root().join("target/motet-relay.deb");
    let options = ["--no-build", "--profile", "dist", "--package", "motet-relay", "--output"];
    run(Command::new(installed.join("bin/cargo-deb")).args(options).arg(&file).current_dir(root()))?;
    Ok(file)
}

/// The units are valid, and the service is confined.
fn check_units() -> Result<(), String> {
    let folder = root().join("target/units");
    let cannot = |error| format!("cannot fill {}: {error}", folder.display());
    fs::create_dir_all(&folder).map_err(cannot)?;
    for unit in ["motet-relay.service", "motet-relay.socket"] {
        let text = fs::read_to_string(root().join("crates/motet-relay/debian").join(unit)).map_err(cannot)?;
        // The program is not installed yet.
        fs::write(folder.join(unit), text.replace(BINARY, "/bin/true")).map_err(cannot)?;
    }
    let service = folder.join("motet-relay.service");
    let mut verify = Command::new("systemd-analyze");
    run(verify.args(["verify", "--man=no"]).args([&service, &folder.join("motet-relay.socket")]))?;
    let mut security = Command::new("systemd-analyze");
    run(security.args(["security", "--no-pager", "--offline=yes", "--threshold=20"]).arg(&service))
}

/// The first steps of an operator: start, look, create a key, stop.
fn use_as_operator() -> Result<(), String> {
    let mut relay = Running::start()?;
    relay.answers()?;
    let key = output(&mut as_root(&[BINARY, "key", "create", "--data", DATA, "--scope", "publish"]))?;
    let publish = ["--silent", "--show-error", "--fail", "--header", "content-type: application/json"];
    let mut event = Command::new("curl");
    event.args(publish).args(["--header", &format!("authorization: Bearer {}", key.trim())]);
    // Not shown, because of the key.
    output(event.args(["--data", r#"{"type":"installed","data":1}"#, "http://127.0.0.1:8181/v1/events"]))?;
    relay.stop()
}

struct Running(Child);

impl Running {
    fn start() -> Result<Self, String> {
        let mut serve = as_user(&[BINARY, "serve", "--config", SETTINGS]);
        // As in the unit, which shows no key to the journal.
        let started = serve.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Self(started.map_err(|error| format!("cannot start relay: {error}"))?))
    }

    fn answers(&mut self) -> Result<(), String> {
        for _ in 0..300 {
            if let Ok(Some(status)) = self.0.try_wait() {
                return Err(format!("relay ended with {status}"));
            }
            let mut curl = Command::new("curl");
            let asked = curl.args(["--silent", "--fail", PAGE]).stdout(Stdio::null()).status();
            if asked.is_ok_and(|status| status.success()) {
                return Ok(());
            }
            sleep(Duration::from_millis(100));
        }
        Err(format!("{PAGE} did not answer within 30 s"))
    }

    fn stop(mut self) -> Result<(), String> {
        run(&mut as_root(&["pkill", "--signal", "TERM", "--uid", USER, "--exact", "motet-relay"]))?;
        let status = self.0.wait().map_err(|error| format!("cannot wait for relay: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("relay ended with {status}")) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended unless a step failed.
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// Removes the package and its data.
struct Installed;

impl Drop for Installed {
    fn drop(&mut self) {
        for command in [
            &["dpkg", "--purge", "motet-relay"][..],
            &["rm", "-rf", DATA, FOLDER],
            &["deluser", "--quiet", USER],
        ] {
            if let Err(why) = run(&mut as_root(command)) {
                say(&why);
            }
        }
    }
}

fn as_root(command: &[&str]) -> Command {
    let id = Command::new("id").arg("-u").output();
    if id.is_ok_and(|out| out.stdout.trim_ascii() == b"0") {
        let mut program = Command::new(command[0]);
        program.args(&command[1..]);
        return program;
    }
    let mut sudo = Command::new("sudo");
    sudo.arg("-n").args(command);
    sudo
}

fn as_user(command: &[&str]) -> Command {
    as_root(&[&["runuser", "-u", USER, "--"], command].concat())
}
