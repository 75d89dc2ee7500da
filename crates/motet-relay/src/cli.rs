//! The command line.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

use crate::config::{AutoDisable, Config, EndpointLimits, Feeds, InFlight, RetrySchedule, Timeouts};
use crate::demo::DemoOptions;

/// relay delivers events to webhook endpoints: durable, signed, retried.
///
/// Without a command it serves, with the defaults of `serve`.
#[derive(Debug, Parser)]
#[command(name = "motet-relay", version, about, long_about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Box<ServeArgs>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take events in and deliver them, until Ctrl-C or SIGTERM
    Serve(Box<ServeArgs>),
    /// Show relay at work: deliver events to a receiver that misbehaves, and count what arrives
    Demo(DemoArgs),
    /// Make a new API key for a data directory and revoke the old one; relay must be stopped
    RotateKey(RotateKeyArgs),
}

impl Cli {
    /// The command; `serve` when none was given.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

/// Options of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Directory of the store; made if it is not there
    #[arg(long, value_name = "DIR", default_value = Config::DEFAULT_DATA)]
    data: PathBuf,

    /// Address to listen on; the API is plain HTTP, so put a TLS proxy before any other than loopback
    #[arg(long, value_name = "ADDR", default_value = Config::DEFAULT_LISTEN)]
    listen: SocketAddr,

    /// Allow deliveries into this network, such as 127.0.0.1/32 or 10.0.0.0/8; may be repeated. Without
    /// it only public addresses are connected to
    #[arg(long, value_name = "CIDR", value_parser = parse_net)]
    allow_net: Vec<IpNet>,

    /// Attempts before a delivery becomes a dead letter
    #[arg(long, value_name = "N", default_value_t = RetrySchedule::default().max_attempts,
          value_parser = clap::value_parser!(u32).range(1..))]
    max_attempts: u32,

    /// Longest wait after the first failure; doubles with each further one, and the actual wait is drawn
    /// evenly from zero to this
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    retry_base: Duration,

    /// Longest wait after any failure
    #[arg(long, value_name = "SECONDS", default_value = "43200", value_parser = parse_seconds)]
    retry_cap: Duration,

    /// A delivery that relay itself cannot attempt (no descriptors, no route, no name server) for this long becomes
    /// a dead letter; such attempts are not counted
    #[arg(long, value_name = "SECONDS", default_value = "259200", value_parser = parse_seconds)]
    max_age: Duration,

    /// Deadline of an attempt until the connection stands
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    connect_timeout: Duration,

    /// Deadline of an attempt until the receiver's headers are there
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    headers_timeout: Duration,

    /// Deadline of an attempt in all, the receiver's body included
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = parse_seconds)]
    total_timeout: Duration,

    /// Attempts at once at one endpoint
    #[arg(long, value_name = "N", default_value_t = InFlight::default().per_endpoint)]
    in_flight_per_endpoint: NonZeroUsize,

    /// Attempts at once in all
    #[arg(long, value_name = "N", default_value_t = InFlight::default().total)]
    in_flight: NonZeroUsize,

    /// Failed attempts in a row after which an endpoint is left alone for a while
    #[arg(long, value_name = "N", default_value_t = EndpointLimits::default().breaker_failures)]
    breaker_failures: NonZeroU32,

    /// The longest such while; the first is a second, each further one twice as long
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_seconds)]
    breaker_open: Duration,

    /// Attempts a second at one endpoint. Default: as many as there are
    #[arg(long, value_name = "N")]
    rate_per_endpoint: Option<NonZeroU32>,

    /// An endpoint whose every attempt failed for this long, and 20 times at least, is disabled: what it is owed is
    /// kept until a probe succeeds
    #[arg(long, value_name = "SECONDS", default_value = "86400", value_parser = parse_seconds)]
    disable_after: Duration,

    /// How often a disabled endpoint is probed with one of its deliveries
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = parse_seconds)]
    probe_every: Duration,

    /// Feeds of events open at once; one more is refused with 503
    #[arg(long, value_name = "N", default_value_t = Feeds::default().max_open)]
    max_feeds: NonZeroUsize,

    /// A feed without an event for this long sends an empty message, so that no proxy takes it for dead
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = parse_seconds)]
    feed_keep_alive: Duration,

    /// Connections to the API at once, and of these three quarters from one address; 16 more are kept for /healthz, /readyz
    /// and /metrics
    #[arg(long, value_name = "N", default_value_t = Config::DEFAULT_MAX_CONNECTIONS)]
    max_connections: NonZeroUsize,

    /// Size the database may grow to; beyond it new events get 503. Default: the disk's
    #[arg(long, value_name = "BYTES")]
    max_store_bytes: Option<u64>,

    /// How long a stop waits for deliveries under way; what is not done then is due at the next start
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = parse_seconds)]
    shutdown_grace: Duration,
}

impl From<ServeArgs> for Config {
    fn from(args: ServeArgs) -> Self {
        Self {
            allow_net: args.allow_net,
            retry: RetrySchedule {
                base: args.retry_base,
                cap: args.retry_cap,
                max_attempts: args.max_attempts,
                max_age: args.max_age,
            },
            timeouts: Timeouts {
                connect: args.connect_timeout,
                headers: args.headers_timeout,
                total: args.total_timeout,
            },
            in_flight: InFlight { per_endpoint: args.in_flight_per_endpoint, total: args.in_flight },
            endpoint_limits: EndpointLimits {
                breaker_failures: args.breaker_failures,
                breaker_open: args.breaker_open,
                rate: args.rate_per_endpoint,
            },
            auto_disable: AutoDisable {
                after: args.disable_after,
                probe_every: args.probe_every,
                ..AutoDisable::default()
            },
            feeds: Feeds { max_open: args.max_feeds, keep_alive: args.feed_keep_alive },
            max_connections: args.max_connections,
            max_store_bytes: args.max_store_bytes,
            shutdown_grace: args.shutdown_grace,
            ..Self::new(args.data, args.listen)
        }
    }
}

/// Options of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How many events
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    events: u32,

    /// The receiver misbehaves in the same way for the same seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Print the result as one JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl DemoArgs {
    /// Whether the result is to be JSON.
    #[must_use]
    pub const fn json(&self) -> bool {
        self.json
    }
}

impl From<&DemoArgs> for DemoOptions {
    fn from(args: &DemoArgs) -> Self {
        Self { events: args.events, seed: args.seed }
    }
}

/// Options of `rotate-key`.
#[derive(Debug, Clone, Args)]
pub struct RotateKeyArgs {
    /// Directory of the store
    #[arg(long, value_name = "DIR", default_value = Config::DEFAULT_DATA)]
    data: PathBuf,
}

impl RotateKeyArgs {
    /// Directory of the store.
    #[must_use]
    pub fn data(&self) -> &std::path::Path {
        &self.data
    }
}

/// A network, or a single address.
fn parse_net(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| "not a network; write an address and a prefix length, such as 10.0.0.0/8".to_owned())
}

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Seconds, with a fraction if wanted.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if (SHORTEST..=LONGEST).contains(&duration) => Ok(duration),
        _ => Err("must be from 0.001 seconds to a year of 31536000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn config(args: &[&str]) -> Config {
        let cli = Cli::try_parse_from([&["motet-relay"], args].concat()).unwrap();
        let Command::Serve(serve) = cli.into_command() else { panic!("not serve: {args:?}") };
        (*serve).into()
    }

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_arguments_serve_with_the_defaults_of_the_library() {
        let plain = config(&[]);
        let library = Config::new(Config::DEFAULT_DATA.into(), Config::DEFAULT_LISTEN.parse().unwrap());
        assert_eq!(format!("{plain:?}"), format!("{library:?}"));
        assert_eq!(format!("{:?}", config(&["serve"])), format!("{library:?}"));
    }

    #[test]
    fn options_work_with_and_without_the_serve_command() {
        for args in [&["serve", "--listen", "[::1]:80"][..], &["--listen", "[::1]:80"]] {
            assert_eq!(config(args).listen.to_string(), "[::1]:80");
        }
        let nets = config(&["--allow-net", "10.0.0.0/8", "--allow-net", "::1"]).allow_net;
        assert_eq!(nets.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/8", "::1/128"]);
    }

    #[test]
    fn invalid_arguments_are_refused() {
        for args in [
            &["--allow-net", "everything"][..],
            &["--max-attempts", "0"],
            &["--total-timeout", "0"],
            &["--total-timeout", "-1"],
            &["--retry-base", "NaN"],
            &["--retry-cap", "1e12"],
            &["--in-flight", "0"],
            &["demo", "--events", "0"],
            &["serve", "--no-such-option"],
        ] {
            assert!(Cli::try_parse_from([&["motet-relay"], args].concat()).is_err(), "{args:?}");
        }
    }
}
