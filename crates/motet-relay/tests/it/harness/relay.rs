//! The program under test.

use std::fs::File;
use std::io::{PipeReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{RwLockReadGuard, watch};
use tokio::task::JoinSet;

use super::{Client, eventually, share_the_machine, within};

/// The standard error of the program under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stderr {
    /// A pipe that the test reads.
    Read,
    /// A device on which every write fails for lack of space.
    Full,
    /// A pipe without a reader.
    Closed,
    /// A full pipe that is not read.
    Unread,
}

impl Stderr {
    /// Reads `MOTET_TEST_STDERR`, with which any test can run this way: `full`, `closed` or `unread`.
    fn from_environment() -> Self {
        match std::env::var("MOTET_TEST_STDERR").as_deref() {
            Err(_) => Self::Read,
            Ok("full") => Self::Full,
            Ok("closed") => Self::Closed,
            Ok("unread") => Self::Unread,
            Ok(other) => panic!("MOTET_TEST_STDERR is {other:?}; it must be full, closed or unread"),
        }
    }

    /// The program's end of the pipe, and for [`Stderr::Unread`] the reader, which must stay open.
    fn open(self) -> (Stdio, Option<PipeReader>) {
        match self {
            Self::Read => (Stdio::piped(), None),
            Self::Full => (File::options().write(true).open("/dev/full").unwrap().into(), None),
            Self::Closed => (std::io::pipe().unwrap().1.into(), None),
            Self::Unread => {
                let (reader, mut writer) = std::io::pipe().unwrap();
                let capacity = rustix::pipe::fcntl_setpipe_size(&writer, 4_096).unwrap();
                writer.write_all(&vec![b'.'; capacity]).unwrap();
                (writer.into(), Some(reader))
            }
        }
    }
}

/// A data directory, and the API key of the relay that created it.
#[derive(Debug)]
pub(crate) struct Home {
    directory: TempDir,
    below: PathBuf,
    key: Mutex<Option<String>>,
}

impl Home {
    pub(crate) fn new() -> Arc<Self> {
        Self::at("data".as_ref())
    }

    /// With this path below a temporary directory.
    pub(crate) fn at(below: &Path) -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        Arc::new(Self { directory, below: below.to_owned(), key: Mutex::default() })
    }

    /// The path of the store: at least one level down, so that relay has to create the directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join(&self.below)
    }

    /// The key file of the store, which relay creates.
    pub(crate) fn key_file(&self) -> PathBuf {
        let mut path = self.data().into_os_string();
        path.push(".keys");
        path.into()
    }

    /// Writes a key file, for a data directory beside which relay creates none.
    pub(crate) fn write_key_file(&self) {
        let mut file =
            File::options().write(true).create_new(true).mode(0o600).open(self.key_file()).unwrap();
        writeln!(file, "test:{}", STANDARD.encode([1; 32])).unwrap();
    }

    pub(crate) fn key(&self) -> Option<String> {
        self.key.lock().unwrap().clone()
    }

    pub(crate) fn set_key(&self, key: Option<String>) {
        *self.key.lock().unwrap() = key;
    }

    /// Changes the store of a stopped relay. Returns the number of changed rows.
    pub(crate) fn sql(&self, statement: &str) -> usize {
        rusqlite::Connection::open(self.database()).unwrap().execute(statement, []).unwrap()
    }

    /// Returns the number that a query returns; relay may be running.
    pub(crate) fn count(&self, query: &str) -> usize {
        let database = rusqlite::Connection::open(self.database()).unwrap();
        database.busy_timeout(super::PATIENCE).unwrap();
        database.query_row(query, [], |row| row.get(0)).unwrap()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.data().join("relay.db")
    }
}

/// A running relay. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Relay {
    child: Child,
    client: Client,
    log: watch::Receiver<String>,
    stderr: Stderr,
    _unread: Option<PipeReader>,
    _readers: JoinSet<()>,
    _machine: Option<RwLockReadGuard<'static, ()>>,
}

pub(crate) const LOOPBACK: [&str; 2] = ["--allow-net", "127.0.0.0/8"];

impl Relay {
    /// Starts relay on a new data directory, with deliveries to loopback allowed and short retries.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(options: &[&str]) -> Self {
        Self::start_in(&Home::new(), options).await
    }

    pub(crate) async fn start_in(home: &Arc<Home>, options: &[&str]) -> Self {
        Self::start_in_environment(home, options, &[]).await
    }

    /// Starts relay with these environment variables as well.
    pub(crate) async fn start_in_environment(
        home: &Arc<Home>,
        options: &[&str],
        environment: &[(&str, &Path)],
    ) -> Self {
        let stderr = Stderr::from_environment();
        let machine = share_the_machine().await;
        let mut relay = Self::ready(home, &[&LOOPBACK, options].concat(), environment, stderr).await;
        relay._machine = Some(machine);
        relay
    }

    /// Starts relay with another standard error than a pipe that the test reads.
    pub(crate) async fn start_with_stderr(stderr: Stderr, home: &Arc<Home>, options: &[&str]) -> Self {
        Self::ready(home, &[&LOOPBACK, options].concat(), &[], stderr).await
    }

    /// Starts relay with these options only, and without waiting for a test that has the machine alone.
    pub(crate) async fn start_unshared(home: &Arc<Home>, options: &[&str]) -> Self {
        Self::ready(home, options, &[], Stderr::from_environment()).await
    }

    async fn ready(
        home: &Arc<Home>,
        options: &[&str],
        environment: &[(&str, &Path)],
        stderr: Stderr,
    ) -> Self {
        // The log shows the port that the system has chosen; if the log is not read, the test has to choose the port.
        let port = if stderr == Stderr::Read { 0 } else { free_port() };
        let mut relay = Self::spawn(&home.data(), options, environment, port, stderr);
        if home.key().is_none() {
            // The key is on standard output, so its order relative to the log is not defined.
            let shown = relay.printed("    rk_").await;
            let key = shown.lines().find_map(|line| line.trim().strip_prefix("rk_")).unwrap();
            home.set_key(Some(format!("rk_{key}")));
        }
        let address = if stderr == Stderr::Read {
            let log = relay.printed("relay is ready").await;
            log.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
        } else {
            SocketAddr::from(([127, 0, 0, 1], port))
        };
        relay.client = Client::new(address, home.key().unwrap_or_default(), Arc::clone(home));
        if stderr != Stderr::Read {
            eventually("relay to answer", || async {
                relay.client.request(Method::GET, "/healthz", &[], "").await.ok()
            })
            .await;
        }
        relay
    }

    fn spawn(
        data: &Path,
        options: &[&str],
        environment: &[(&str, &Path)],
        port: u16,
        stderr: Stderr,
    ) -> Self {
        let (end, unread) = stderr.open();
        let mut child = program()
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"])
            .arg(data)
            .args(with_short_waits(options))
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(end)
            .spawn()
            .unwrap();
        let (lines, log) = watch::channel(String::new());
        let mut readers = JoinSet::new();
        let lines = Arc::new(lines);
        readers.spawn(follow(child.stdout.take().unwrap(), Arc::clone(&lines)));
        if let Some(pipe) = child.stderr.take() {
            readers.spawn(follow(pipe, lines));
        }
        let client = Client::nowhere();
        Self { child, client, log, stderr, _unread: unread, _readers: readers, _machine: None }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns `true` if the test reads relay's log.
    pub(crate) fn log_is_read(&self) -> bool {
        self.stderr == Stderr::Read
    }

    /// Waits until the log contains this text. Returns the log up to then. If the log is not read, it returns an empty
    /// text at once.
    pub(crate) async fn log_line(&self, text: &str) -> String {
        if self.log_is_read() { self.printed(text).await } else { String::new() }
    }

    /// Waits until this text is on standard output, or in the log if that is read.
    async fn printed(&self, text: &str) -> String {
        let mut log = self.log.clone();
        let output = within(text, log.wait_for(|log| log.contains(text))).await.map(|log| log.clone());
        output.unwrap_or_else(|_| panic!("relay ended without printing {text:?}:\n{}", self.log()))
    }

    /// Waits until relay refuses new events.
    pub(crate) async fn is_stopping(&self) {
        eventually("relay to begin its shutdown", || async {
            let ready = self.client.request(Method::GET, "/readyz", &[], "").await.unwrap();
            (ready.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
        })
        .await;
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

    /// Kills the process like `kill -9`.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends SIGTERM and waits. Fails unless relay shuts down in order.
    pub(crate) async fn stop(self) {
        self.signal(Signal::TERM);
        let log = self.log.clone();
        let status = self.ended().await;
        assert!(status.success(), "{status}:\n{}", *log.borrow());
    }
}

/// Returns a port on which no program listens. If another program takes it before relay does, the test fails.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The default of each of these options, unless the test sets it.
fn with_short_waits<'a>(options: &[&'a str]) -> Vec<&'a str> {
    let short = [["--retry-base", "0.05"], ["--retry-cap", "1"], ["--breaker-open", "0.05"]];
    let unsaid = short.into_iter().filter(|pair| !options.contains(&pair[0])).flatten();
    unsaid.chain(options.iter().copied()).collect()
}

/// The program, which is killed when the value is dropped.
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
