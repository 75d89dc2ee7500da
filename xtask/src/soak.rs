//! A long run of relay with a short retention: the database, its log and the memory must stop growing.
//!
//! relay is the release build. Events are published by HTTP in batches at a fixed rate, a receiver in this process accepts
//! each delivery, and the sizes are measured once a second.

#![allow(clippy::disallowed_methods, reason = "a soak takes real time")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::shell::{cargo, root, run, say};

const MINUTES: usize = 10;
const EVENTS_PER_SECOND: u64 = 2_000;
const BATCHES_PER_SECOND: u64 = 10;

/// The maxima of the last minutes may be this part of those of the minutes from the third to the sixth.
const ALLOWED: f64 = 1.1;
const EARLY: std::ops::Range<usize> = 2..6;
const LATE: std::ops::Range<usize> = 6..10;

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Sizes {
    database: u64,
    log: u64,
    memory: u64,
}

impl Sizes {
    const NAMES: [&str; 3] = ["database", "log", "memory"];

    const fn all(self) -> [u64; 3] {
        [self.database, self.log, self.memory]
    }

    fn max(self, other: Self) -> Self {
        Self {
            database: self.database.max(other.database),
            log: self.log.max(other.log),
            memory: self.memory.max(other.memory),
        }
    }
}

/// Runs the soak, and fails if something still grows.
pub(crate) fn check() -> Result<(), String> {
    run(&mut cargo(&["build", "--release", "--package", "motet-relay"]))?;
    let data = tempfile::tempdir().map_err(|error| format!("cannot create a folder: {error}"))?;
    let received = Arc::new(AtomicU64::new(0));
    let receiver = receive(&received).map_err(|error| format!("the receiver cannot listen: {error}"))?;
    let relay = Relay::start(data.path())?;
    relay.request(
        "POST",
        "/v1/endpoints",
        "application/json",
        &format!(r#"{{"url":"http://{receiver}/"}}"#),
    )?;
    let (mut published, started) = (0, Instant::now());
    let mut minutes = Vec::with_capacity(MINUTES);
    for minute in 1..=MINUTES {
        let mut worst = Sizes::default();
        for second in 0..60 {
            for batch in 0..BATCHES_PER_SECOND {
                let due = Duration::from_millis(
                    ((minute as u64 - 1) * 60 + second) * 1_000 + batch * 1_000 / BATCHES_PER_SECOND,
                );
                sleep(due.saturating_sub(started.elapsed()));
                published += relay.publish(EVENTS_PER_SECOND / BATCHES_PER_SECOND)?;
            }
            worst = worst.max(relay.sizes()?);
        }
        let behind = started.elapsed().saturating_sub(Duration::from_secs(minute as u64 * 60));
        say(&format!(
            "minute {minute:>2}: database {}, log {}, memory {}; {published} published, {} received; {} ms behind",
            mebibytes(worst.database),
            mebibytes(worst.log),
            mebibytes(worst.memory),
            received.load(Ordering::Relaxed),
            behind.as_millis(),
        ));
        minutes.push(worst);
    }
    let took = started.elapsed();
    let expected = MINUTES as u64 * 60 * EVENTS_PER_SECOND;
    if took > Duration::from_secs(MINUTES as u64 * 66) {
        return Err(format!(
            "{expected} events took {} s: relay did not keep up with the rate",
            took.as_secs()
        ));
    }
    compare(&minutes)
}

fn compare(minutes: &[Sizes]) -> Result<(), String> {
    let worst = |of: std::ops::Range<usize>| minutes[of].iter().copied().fold(Sizes::default(), Sizes::max);
    let (early, late) = (worst(EARLY), worst(LATE));
    let mut failed = Vec::new();
    for ((name, early), late) in Sizes::NAMES.into_iter().zip(early.all()).zip(late.all()) {
        let ratio = late as f64 / early.max(1) as f64;
        say(&format!(
            "{name}: {} in minutes 3 to 6, {} in the last four: {ratio:.2}",
            mebibytes(early),
            mebibytes(late)
        ));
        if ratio > ALLOWED {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("still growing after six minutes: {}", failed.join(", ")))
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A running relay. Dropping it ends the process.
struct Relay {
    child: Child,
    address: SocketAddr,
    key: String,
    database: PathBuf,
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Relay {
    fn start(data: &Path) -> Result<Self, String> {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = address.map_err(|error| format!("there is no free port: {error}"))?;
        let mut child = Command::new(root().join("target/release/motet-relay"))
            .args(["serve", "--allow-net", "127.0.0.1", "--payload-keep", "1m", "--rows-keep", "1m"])
            .args(["--listen", &address.to_string(), "--data"])
            .arg(data)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("relay cannot be run: {error}"))?;
        let shown = child.stdout.take().ok_or("a program without standard output")?;
        let mut lines = BufReader::new(shown).lines().map_while(Result::ok);
        let key = lines.find(|line| line.trim().starts_with("rk_")).map(|line| line.trim().to_owned());
        let relay = Self { child, address, key: key.unwrap_or_default(), database: data.join("relay.db") };
        for _ in 0..100 {
            if relay.request("GET", "/readyz", "text/plain", "").is_ok() {
                return Ok(relay);
            }
            sleep(Duration::from_millis(100));
        }
        Err("relay was not ready after ten seconds".to_owned())
    }

    /// Publishes events in one request. Returns their number.
    fn publish(&self, count: u64) -> Result<u64, String> {
        let line = format!("{{\"type\":\"soak.test\",\"data\":{{\"filler\":\"{}\"}}}}\n", "x".repeat(200));
        self.request("POST", "/v1/events", "application/x-ndjson", &line.repeat(count as usize))?;
        Ok(count)
    }

    fn request(&self, method: &str, path: &str, media_type: &str, body: &str) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{method} {path}: {error}");
        let mut stream = TcpStream::connect(self.address).map_err(failed)?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {}\r\ncontent-type: {media_type}\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            self.key,
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(failed)?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        if status.starts_with('2') && status != "207" {
            Ok(())
        } else {
            Err(format!("{method} {path}: {answer}"))
        }
    }

    fn sizes(&self) -> Result<Sizes, String> {
        let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .map_err(|error| format!("relay has ended: {error}"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kibibytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        Ok(Sizes {
            database: size(&self.database),
            log: size(&self.database.with_extension("db-wal")),
            memory: kibibytes << 10,
        })
    }
}

/// Starts a receiver that accepts each request. Its threads end with the process.
fn receive(received: &Arc<AtomicU64>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let received = Arc::clone(received);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let received = Arc::clone(&received);
            // An error is the end of the connection.
            thread::spawn(move || serve(&stream, &received));
        }
    });
    Ok(address)
}

fn serve(stream: &TcpStream, received: &AtomicU64) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
        received.fetch_add(1, Ordering::Relaxed);
        (&*stream).write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
}
