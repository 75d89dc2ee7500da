//! `motet-relay demo`: relay and a misbehaving receiver in one process, counted by the receiver.

mod publisher;
mod receiver;
mod report;

use std::io::{IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use motet::run::stderr;
use motet::task::{CancelToken, Either, Nursery, Reason, ScopeError, race, scope};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use self::publisher::Publisher;
use self::receiver::{Misbehaviour, Receiver};
pub use self::report::DemoReport;
use crate::config::{Config, InFlight, RetrySchedule, Timeouts};
use crate::error::RunError;
use crate::relay::Relay;
use crate::signature::Secret;

/// Without a new arrival for this long, what has not arrived counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the progress bar moves.
const TICK: Duration = Duration::from_millis(100);

/// Each stalled attempt holds a slot until its deadline; the usual 16 would be all the demo shows.
const IN_FLIGHT: NonZeroUsize = const { NonZeroUsize::new(64).unwrap() };

/// What the demo does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoOptions {
    /// How many events are published.
    pub events: u32,
    /// The same seed makes the receiver misbehave in the same way.
    pub seed: u64,
}

/// Why the demo could not be carried out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DemoError {
    /// No temporary directory, or no socket for the receiver.
    #[error("cannot set the demo up")]
    SetUp(#[from] std::io::Error),
    /// No secret could be made.
    #[error("no random bytes from the operating system")]
    Random(#[from] getrandom::Error),
    /// relay answered a request in a way it should not.
    #[error("relay answered {0}")]
    Answer(String),
    /// relay ended while the demo ran.
    #[error("relay ended before the demo did")]
    Ended,
    /// relay did not start, or did not end in order.
    #[error("relay failed")]
    Relay(#[source] RunError),
}

/// Runs relay in a temporary directory against a receiver that misbehaves, and reports what arrived.
///
/// Progress goes to standard error.
///
/// # Cancel safety
/// Dropping the future stops everything and removes the directory.
///
/// # Errors
/// [`DemoError`] when something could not be set up. Lost events are not an error: see
/// [`DemoReport::is_clean`].
pub async fn run_demo(options: &DemoOptions) -> Result<DemoReport, DemoError> {
    let directory = tempfile::tempdir()?;
    let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Config::new(directory.path().to_owned(), loopback);
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
            return Err(DemoError::Answer("a new store with an old key".to_owned()));
        };
        let publisher = Publisher::new(address, &key, n)?;
        publisher.create_endpoint(&hook, &secret).await?;
        play(options, &publisher, &receiver).await
    };
    let whole = scope(async |n: &Nursery<DemoError>| {
        // Up until relay has ended, so that what is still under way can end.
        drop(n.service("receiver", receiver::serve(listener, Arc::clone(&receiver))));
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

/// What ended a scope of the demo.
fn failed(error: ScopeError<DemoError>) -> DemoError {
    match error {
        ScopeError::Failed { first, .. } => first.error,
        other => DemoError::Answer(other.to_string()),
    }
}

async fn play(
    options: &DemoOptions,
    publisher: &Publisher,
    receiver: &Arc<Receiver>,
) -> Result<DemoReport, DemoError> {
    let bar = progress_bar(u64::from(options.events));
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

fn progress_bar(events: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(events), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("delivered {bar:40} {pos}/{len}  {per_sec}  {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn announce(options: &DemoOptions, config: &Config, misbehaviour: &Misbehaviour) {
    let RetrySchedule { base, cap, max_attempts, .. } = &config.retry;
    // Infallible.
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
        let _ = writeln!(stderr(), "working (a terminal would show a progress bar) ..");
    }
}
