//! `motet-relay demo`: relay and a misbehaving receiver in one process. The receiver counts the events.

mod publisher;
mod receiver;
mod report;

use std::io::{IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use motet::run::stderr;
use motet::task::{CancelToken, Either, Nursery, Reason, ScopeError, race, scope};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use self::publisher::Publisher;
use self::receiver::{Misbehaviour, Receiver};
pub use self::report::DemoReport;
use crate::config::{Config, InFlight, KeySource, RetrySchedule, Timeouts};
use crate::error::RunError;
use crate::progress::progress_bar;
use crate::relay::Relay;
use crate::signature::Secret;

/// After this time without a new arrival, the missing events count as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// The interval of the progress bar.
const TICK: Duration = Duration::from_millis(100);

/// A stalled attempt holds its slot until its timeout; with the default of 16 slots the demo would show little else.
const IN_FLIGHT: NonZeroUsize = const { NonZeroUsize::new(64).unwrap() };

/// The settings of the demo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoOptions {
    /// Number of published events.
    pub events: u32,
    /// Seed of the receiver's misbehaviour: the same seed, the same misbehaviour.
    pub seed: u64,
}

/// The reason why the demo could not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The temporary directory or the socket of the receiver could not be created.
    #[error("cannot set up the demo")]
    SetUp(#[from] std::io::Error),
    /// The operating system returned no random bytes for a secret.
    #[error("the operating system returned no random bytes")]
    Random(#[from] getrandom::Error),
    /// relay answered a request in an unexpected way.
    #[error("relay answered {0}")]
    Answer(String),
    /// relay ended during the demo.
    #[error("relay ended during the demo")]
    Ended,
    /// relay did not start, or did not shut down in order.
    #[error("relay failed")]
    Relay(#[source] RunError),
}

/// Runs relay in a temporary directory against a receiver that misbehaves, and reports which events arrived.
///
/// Progress goes to standard error.
///
/// # Cancel safety
/// Dropping the future stops everything and removes the directory.
///
/// # Errors
/// [`DemoError`] if something could not be set up. Lost events are not an error: see [`DemoReport::is_clean`].
pub async fn run_demo(options: &DemoOptions) -> Result<DemoReport, DemoError> {
    let directory = tempfile::tempdir()?;
    let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Config::new(directory.path().to_owned(), loopback);
    // The directory is removed at the end.
    config.secret_keys = KeySource::Plaintext;
    config.allow_net = vec![std::net::IpAddr::from([127, 0, 0, 1]).into()];
    config.retry = RetrySchedule {
        base: Duration::from_millis(50),
        cap: Duration::from_secs(1),
        max_attempts: 20,
        ..RetrySchedule::default()
    };
    config.timeouts = Timeouts {
        connect: Duration::from_millis(400),
        headers: Duration::from_millis(400),
        total: Duration::from_millis(500),
    };
    config.endpoint_limits.breaker_open = Duration::from_secs(1);
    config.in_flight = InFlight { per_endpoint: IN_FLIGHT, ..InFlight::default() };
    let misbehaviour = Misbehaviour::new(options.seed, 2 * config.timeouts.total);
    announce(options, &config, &misbehaviour);

    let secret = Secret::generate()?;
    let listener = TcpListener::bind(loopback).await?;
    let hook = format!("http://{}/hook", listener.local_addr()?);
    let receiver = Arc::new(Receiver::new(options.events, secret.clone(), misbehaviour));
    let (ready, up) = oneshot::channel();
    let stop = CancelToken::new();
    let relay = Relay::run(
        config,
        |relay| drop(ready.send((relay.address(), relay.new_api_key().map(str::to_owned)))),
        async {
            stop.cancelled().await;
        },
    );
    let demo = async |n: &Nursery<DemoError>| {
        let (address, key) = up.await.map_err(|_| DemoError::Ended)?;
        let Some(key) = key else {
            return Err(DemoError::Answer("no new API key for a new store".to_owned()));
        };
        let publisher = Publisher::new(address, &key, n)?;
        publisher.create_endpoint(&hook, &secret).await?;
        drive(options, &publisher, &receiver).await
    };
    let whole = scope(async |n: &Nursery<DemoError>| {
        // The receiver runs until relay has ended, so that the attempts in flight can end.
        n.service("receiver", receiver::serve(listener, Arc::clone(&receiver)));
        let mut relay = pin!(relay);
        let report = match race(relay.as_mut(), demo(n)).await {
            Either::Left(ended) => return Err(ended.err().map_or(DemoError::Ended, DemoError::Relay)),
            Either::Right(report) => report?,
        };
        stop.cancel(Reason::requested("the demo is over"));
        relay.await.map_err(DemoError::Relay)?;
        Ok(report)
    });
    whole.await.map_err(failed)
}

/// Returns the error that ended a scope of the demo.
fn failed(error: ScopeError<DemoError>) -> DemoError {
    match error {
        ScopeError::Failed { first, .. } => first.error,
        other => DemoError::Answer(other.to_string()),
    }
}

async fn drive(
    options: &DemoOptions,
    publisher: &Publisher,
    receiver: &Arc<Receiver>,
) -> Result<DemoReport, DemoError> {
    let bar = progress_bar(Some(u64::from(options.events)), DELIVERED);
    let started = Instant::now();
    let mut publishing = pin!(publisher.publish_all(options.events, receiver));
    let mut accepted = None;
    let mut last_change = (0, Instant::now());
    loop {
        let news = race(receiver.all_arrived(), sleep(TICK));
        if accepted.is_some() {
            news.await;
        } else if let Either::Left(published) = race(publishing.as_mut(), news).await {
            published?;
            accepted = Some(options.events);
            last_change.1 = Instant::now();
        }
        let arrived = receiver.arrived();
        bar.set_position(u64::from(arrived));
        if arrived != last_change.0 {
            last_change = (arrived, Instant::now());
        }
        let Some(accepted) = accepted else { continue };
        if arrived >= accepted || last_change.1.elapsed() > PATIENCE {
            let took = receiver.last_arrival().unwrap_or(started) - started;
            bar.finish_and_clear();
            let dead = publisher.count_dead().await?;
            return Ok(DemoReport::new(accepted, dead, took, &receiver.tally()));
        }
    }
}

/// The template of the progress bar.
const DELIVERED: &str = "delivered {bar:40} {pos}/{len}  {per_sec}  {elapsed}";

fn announce(options: &DemoOptions, config: &Config, misbehaviour: &Misbehaviour) {
    let RetrySchedule { base, cap, max_attempts, .. } = &config.retry;
    // Writing to this writer never fails.
    let _ = writeln!(
        stderr(),
        "relay demo: {} events to a receiver on loopback, in a temporary directory\n\
         receiver:   {misbehaviour}\n\
         retries:    full jitter, up to {} ms after the first failure, doubling to {} ms; {max_attempts} attempts\n\
         timeouts:  {} ms to the headers, {} ms in all; {} attempts in flight",
        options.events,
        base.as_millis(),
        cap.as_millis(),
        config.timeouts.headers.as_millis(),
        config.timeouts.total.as_millis(),
        config.in_flight.per_endpoint,
    );
    if !std::io::stderr().is_terminal() {
        let _ = writeln!(stderr(), "running (a terminal would show a progress bar) ..");
    }
}
