//! The `motet-relay` program.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use motet_relay::{Cli, Command, Config, DemoArgs, Ended, Relay, ServeArgs, rotate_api_key, run_demo};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Tasks that are still there when the program has done its work get this long to be dropped.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let command = Cli::parse().into_command();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(if matches!(command, Command::Demo(_)) { "error" } else { "info" })
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let code = runtime.block_on(run(command));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    code
}

async fn run(command: Command) -> ExitCode {
    let mut signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("cannot listen for signals: {error}")),
    };
    match command {
        Command::Serve(args) => serve(args, signals).await,
        Command::Demo(args) => tokio::select! {
            code = demo(&args) => code,
            number = signals.next() => ExitCode::from(128 + number),
        },
        Command::RotateKey(args) => match rotate_api_key(args.data()).await {
            Ok(key) => print(&format!("{key}\n")),
            Err(error) => fail(&chain(&error)),
        },
    }
}

async fn serve(args: ServeArgs, mut signals: Signals) -> ExitCode {
    let config = Config::from(args);
    let data = config.data.display().to_string();
    let relay = tokio::select! {
        biased;
        // Nothing is under way yet.
        number = signals.next() => return ExitCode::from(128 + number),
        started = Relay::start(config) => match started {
            Ok(relay) => relay,
            Err(error) => return fail(&chain(&error)),
        },
    };
    let address = relay.address();
    if let Some(key) = relay.new_api_key() {
        let shown = format!(
            "\nThis is the API key. It is shown once and stored hashed; `motet-relay rotate-key` makes another.\n\n    {key}\n\n"
        );
        let printed = print(&shown);
        if printed != ExitCode::SUCCESS {
            return printed;
        }
    }
    tracing::info!(%address, data, "relay is ready; the page is at http://{address}/");
    let (first, asked_to_stop) = tokio::sync::oneshot::channel();
    let relay = relay.run(async {
        // The sender lives as long as the signals do.
        if asked_to_stop.await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    let forced = async {
        signals.next().await;
        tracing::info!("a signal came; stopping. A second one stops at once");
        if first.send(()).is_err() {
            tracing::debug!("already stopped");
        }
        signals.next().await
    };
    tokio::select! {
        biased;
        ended = relay => match ended {
            Ended { failed: true, .. } => ExitCode::FAILURE,
            Ended { .. } => ExitCode::SUCCESS,
        },
        number = forced => {
            tracing::warn!("a second signal came; stopping at once. What was under way is due at the next start");
            ExitCode::from(128 + number)
        }
    }
}

async fn demo(args: &DemoArgs) -> ExitCode {
    match run_demo(&args.into()).await {
        Ok(report) => {
            let shown = if args.json() { format!("{}\n", report.json()) } else { report.table() };
            let printed = print(&shown);
            if report.is_clean() { printed } else { ExitCode::FAILURE }
        }
        Err(error) => fail(&chain(&error)),
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The number of the next signal that asks to stop.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => 15,
            _ = self.interrupt.recv() => 2,
        }
    }
}

/// Writes to standard output; a closed pipe is a failure, not a panic.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot write to standard output: {error}")),
    }
}

#[allow(
    clippy::print_stderr,
    reason = "the last words of the program, readable whatever the log filter says"
)]
fn fail(message: &str) -> ExitCode {
    eprintln!("motet-relay: {message}");
    ExitCode::FAILURE
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
