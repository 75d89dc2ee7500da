//! The program under test.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{RwLockReadGuard, watch};
use tokio::task::JoinSet;

use super::{Client, share_the_machine, within};

/// A data directory, and the API key of the relay that made it.
#[derive(Debug)]
pub(crate) struct Home {
    directory: TempDir,
    key: Mutex<Option<String>>,
}

impl Home {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { directory: tempfile::tempdir().unwrap(), key: Mutex::default() })
    }

    /// Where the store is: one level down, so that relay has to make it.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn key(&self) -> Option<String> {
        self.key.lock().unwrap().clone()
    }

    pub(crate) fn set_key(&self, key: Option<String>) {
        *self.key.lock().unwrap() = key;
    }

    /// Changes the store of a relay that is not running; gives the number of rows changed.
    pub(crate) fn sql(&self, statement: &str) -> usize {
        rusqlite::Connection::open(self.database()).unwrap().execute(statement, []).unwrap()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.data().join("relay.db")
    }
}

/// A running relay. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Relay {
    child: Child,
    client: Client,
    log: watch::Receiver<String>,
    _readers: JoinSet<()>,
    _machine: Option<RwLockReadGuard<'static, ()>>,
}

pub(crate) const LOOPBACK: [&str; 2] = ["--allow-net", "127.0.0.0/8"];

impl Relay {
    /// On a fresh data directory, allowed to deliver to loopback, with short retries.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(options: &[&str]) -> Self {
        Self::start_in(&Home::new(), options).await
    }

    pub(crate) async fn start_in(home: &Arc<Home>, options: &[&str]) -> Self {
        Self::start_in_environment(home, options, &[]).await
    }

    /// With these environment variables as well.
    pub(crate) async fn start_in_environment(
        home: &Arc<Home>,
        options: &[&str],
        environment: &[(&str, &Path)],
    ) -> Self {
        let machine = share_the_machine().await;
        let mut relay = Self::ready(home, &[&LOOPBACK, options].concat(), environment).await;
        relay._machine = Some(machine);
        relay
    }

    /// Without waiting for a test that has the machine alone, and with no option but these.
    pub(crate) async fn start_unshared(home: &Arc<Home>, options: &[&str]) -> Self {
        Self::ready(home, options, &[]).await
    }

    async fn ready(home: &Arc<Home>, options: &[&str], environment: &[(&str, &Path)]) -> Self {
        let mut relay = Self::spawn(&home.data(), options, environment);
        if home.key().is_none() {
            // On standard output, and so in no order to the log.
            relay.log_line("    rk_").await;
        }
        let log = relay.log_line("relay is ready").await;
        let address = log.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        if let Some(key) = log.lines().find_map(|line| line.trim().strip_prefix("rk_")) {
            home.set_key(Some(format!("rk_{key}")));
        }
        let key = home.key().unwrap_or_default();
        relay.client = Client::new(address.parse().unwrap(), key, Arc::clone(home));
        relay
    }

    fn spawn(data: &Path, options: &[&str], environment: &[(&str, &Path)]) -> Self {
        let mut child = program()
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(with_short_waits(options))
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = watch::channel(String::new());
        let mut readers = JoinSet::new();
        let lines = Arc::new(lines);
        readers.spawn(follow(child.stdout.take().unwrap(), Arc::clone(&lines)));
        readers.spawn(follow(child.stderr.take().unwrap(), lines));
        Self { child, client: Client::nowhere(), log, _readers: readers, _machine: None }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until the log holds this text; gives the whole log up to then.
    pub(crate) async fn log_line(&self, text: &str) -> String {
        let mut log = self.log.clone();
        let said = within(text, log.wait_for(|log| log.contains(text))).await.map(|log| log.clone());
        said.unwrap_or_else(|_| panic!("relay ended without saying {text:?}:\n{}", self.log()))
    }

    pub(crate) fn log(&self) -> String {
        self.log.borrow().clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        within("relay to end", self.child.wait()).await.unwrap()
    }

    /// `kill -9`.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and waits; fails unless it ends in order.
    pub(crate) async fn stop(self) {
        self.signal(Signal::TERM);
        let log = self.log.clone();
        let status = self.ended().await;
        assert!(status.success(), "{status}:\n{}", *log.borrow());
    }
}

/// Each of these holds unless the options say otherwise.
fn with_short_waits<'a>(options: &[&'a str]) -> Vec<&'a str> {
    let short = [["--retry-base", "0.05"], ["--retry-cap", "1"], ["--breaker-open", "0.05"]];
    let unsaid = short.into_iter().filter(|pair| !options.contains(&pair[0])).flatten();
    unsaid.chain(options.iter().copied()).collect()
}

/// The program, killed when the test lets go of it.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_motet-relay"));
    command.kill_on_drop(true).stdin(Stdio::null()).env("RUST_LOG", "info");
    command
}

async fn follow(stream: impl AsyncRead + Unpin, log: Arc<watch::Sender<String>>) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.send_modify(|log| {
            log.push_str(&line);
            log.push('\n');
        });
    }
}
