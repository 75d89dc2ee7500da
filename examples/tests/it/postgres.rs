//! A PostgreSQL server of a test, on a socket in its own directory.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

/// The user `nobody`: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;

pub(crate) struct Server {
    directory: TempDir,
    running: Child,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        if fs::metadata(directory.path()).unwrap().uid() == 0 {
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = directory.path().join("data");
        let mut init = command("initdb", directory.path());
        init.args([
            "--auth=trust",
            "--no-sync",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "-D",
        ]);
        let made = init.arg(&data).stdout(Stdio::null()).status().unwrap();
        assert!(made.success(), "initdb: {made}");
        let running = Self::run(directory.path()).await;
        Self { directory, running }
    }

    /// The directory of the socket.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    async fn run(directory: &Path) -> Child {
        let mut serve = tokio::process::Command::from(command("postgres", directory));
        serve.arg("-D").arg(directory.join("data")).arg("-k").arg(directory);
        serve.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "log_min_messages=log"]);
        let mut running = serve.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut log = BufReader::new(running.stderr.take().unwrap()).lines();
        let mut lines = Vec::new();
        loop {
            let Some(line) = log.next_line().await.unwrap() else { panic!("it does not start: {lines:#?}") };
            if line.contains("ready to accept connections") {
                break;
            }
            lines.push(line);
        }
        // Reads on, so that the server never waits for a reader of its log.
        motet::task::detach("server's log", async move { while let Ok(Some(_)) = log.next_line().await {} });
        running
    }

    #[allow(dead_code, reason = "not every program of the tests stops its server")]
    pub(crate) async fn stop(&mut self) {
        self.running.kill().await.unwrap();
        // Its child processes end later; a new server waits for them.
        drop(fs::remove_file(self.directory.path().join("data/postmaster.pid")));
    }

    #[allow(dead_code, reason = "not every program of the tests restarts its server")]
    pub(crate) async fn restart(&mut self) {
        self.running = Self::run(self.directory.path()).await;
    }
}

/// A program of PostgreSQL: from the path, or from Debian's folder.
fn command(program: &str, directory: &Path) -> Command {
    let in_path = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let of_debian = versions.map(|version| version.path().join("bin"));
    let found: Option<PathBuf> =
        in_path.into_iter().chain(of_debian).map(|at| at.join(program)).find(|at| at.is_file());
    let found = found.unwrap_or_else(|| panic!("there is no {program}: apt-get install postgresql"));
    // The target of a link: the programs look for each other beside it.
    let mut command = Command::new(fs::canonicalize(found).unwrap());
    command.current_dir(directory);
    if fs::metadata(directory).unwrap().uid() == NOBODY {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}
