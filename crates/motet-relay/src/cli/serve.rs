//! The options of `serve`, which are the settings of relay.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::parse::{Keep, parse_filter, parse_interval, parse_keep, parse_net, parse_seconds};
use crate::config::{
    AutoDisable, Backups, Config, CorsOrigin, EndpointLimits, Feeds, InFlight, KeySource, Retention,
    RetrySchedule, TenantQuotas, Timeouts,
};

/// Options of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// File of settings (TOML), one per option: `max_attempts = 5` is --max-attempts 5. The environment (RELAY_MAX_ATTEMPTS)
    /// overrides the file, and the command line overrides both. With a file, SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Directory of the store; created if it does not exist
    #[arg(long, value_name = "DIR", default_value = Config::DEFAULT_DATA)]
    data: PathBuf,

    #[command(flatten)]
    secret_keys: SecretKeyArgs,

    /// Address to listen on. Without --tls-cert the API is plain HTTP, so put a TLS proxy before any address other than
    /// loopback
    #[arg(long, value_name = "ADDR", default_value = Config::DEFAULT_LISTEN)]
    listen: SocketAddr,

    /// Certificate chain of the API, a PEM file; the API is then HTTPS. The file is read again when it changes
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate, a PEM file
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// Allow scripts of this origin (scheme, host and port) to call the API from a browser, or * for every origin;
    /// may be repeated. Without this option browsers refuse them
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<CorsOrigin>,

    /// Allow deliveries into this network, such as 127.0.0.1/32 or 10.0.0.0/8; may be repeated. Without this option
    /// relay connects to public addresses only
    #[arg(long, value_name = "CIDR", value_parser = parse_net)]
    allow_net: Vec<IpNet>,

    /// Maximum number of attempts before a delivery becomes a dead letter
    #[arg(long, value_name = "N", default_value_t = RetrySchedule::default().max_attempts,
          value_parser = clap::value_parser!(u32).range(1..))]
    max_attempts: u32,

    /// Longest delay after the first failure; it doubles with each further failure, and the actual delay is drawn
    /// evenly from zero to it
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    retry_base: Duration,

    /// Longest delay after any failure
    #[arg(long, value_name = "SECONDS", default_value = "43200", value_parser = parse_seconds)]
    retry_cap: Duration,

    /// A delivery that relay itself cannot attempt (no file descriptors, no route, no name server) for this long
    /// becomes a dead letter; such attempts are not counted
    #[arg(long, value_name = "SECONDS", default_value = "259200", value_parser = parse_seconds)]
    max_age: Duration,

    /// Time limit of an attempt until the connection is established
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    connect_timeout: Duration,

    /// Time limit of an attempt until the headers of the response have arrived
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    headers_timeout: Duration,

    /// Time limit of a whole attempt, including the body of the response
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = parse_seconds)]
    total_timeout: Duration,

    /// Maximum number of attempts in flight for one endpoint
    #[arg(long, value_name = "N", default_value_t = InFlight::default().per_endpoint)]
    in_flight_per_endpoint: NonZeroUsize,

    /// Maximum number of attempts in flight for all endpoints
    #[arg(long, value_name = "N", default_value_t = InFlight::default().total)]
    in_flight: NonZeroUsize,

    /// Number of failed attempts in a row after which the circuit breaker of an endpoint opens
    #[arg(long, value_name = "N", default_value_t = EndpointLimits::default().breaker_failures)]
    breaker_failures: NonZeroU32,

    /// Longest time that a breaker stays open; the first time is one second, and each further time is twice as long
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_seconds)]
    breaker_open: Duration,

    /// Maximum number of attempts per second for one endpoint. Default: no limit
    #[arg(long, value_name = "N")]
    rate_per_endpoint: Option<NonZeroU32>,

    /// Maximum number of events per second for each tenant, on average. Like the options below: the policy of a tenant
    /// overrides it, and by default there is no limit
    #[arg(long, value_name = "N")]
    tenant_events_per_second: Option<NonZeroU32>,

    /// Maximum number of events at once for each tenant. Default: the events of a second
    #[arg(long, value_name = "N")]
    tenant_events_burst: Option<NonZeroU32>,

    /// Maximum number of events per UTC day for each tenant
    #[arg(long, value_name = "N")]
    tenant_events_per_day: Option<NonZeroU64>,

    /// Maximum number of pending deliveries of each tenant
    #[arg(long, value_name = "N")]
    tenant_backlog_max: Option<NonZeroU64>,

    /// Maximum number of endpoints of each tenant
    #[arg(long, value_name = "N")]
    tenant_endpoints_max: Option<NonZeroU32>,

    /// Maximum size of the data of an event of each tenant
    #[arg(long, value_name = "BYTES")]
    tenant_event_bytes_max: Option<NonZeroU32>,

    /// relay disables an endpoint whose attempts have all failed for this long, at least 20 of them; its pending
    /// deliveries are kept until a probe succeeds
    #[arg(long, value_name = "SECONDS", default_value = "86400", value_parser = parse_seconds)]
    disable_after: Duration,

    /// How often a disabled endpoint is probed with one of its deliveries
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = parse_seconds)]
    probe_every: Duration,

    /// Maximum number of open feeds of events; further feeds are refused with 503
    #[arg(long, value_name = "N", default_value_t = Feeds::default().max_open)]
    max_feeds: NonZeroUsize,

    /// A feed that had no event for this long sends an empty message, so that no proxy closes the connection
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = parse_seconds)]
    feed_keep_alive: Duration,

    /// Maximum number of connections to the API; one address may open three quarters of them. 16 more are reserved for
    /// /healthz, /readyz and /metrics
    #[arg(long, value_name = "N", default_value_t = Config::DEFAULT_MAX_CONNECTIONS)]
    max_connections: NonZeroUsize,

    /// Maximum size of the database; when it is reached, new events are refused with 503. Default: the size of the
    /// disk
    #[arg(long, value_name = "BYTES")]
    max_store_bytes: Option<u64>,

    /// Filter of the log, as for RUST_LOG: a level, or levels by module, such as info,motet_relay::dispatch=debug. Default: RUST_LOG,
    /// or info
    #[arg(long, value_name = "FILTER", value_parser = parse_filter)]
    log: Option<String>,

    /// Form of the log: text, or one JSON object per line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    /// How long the data of finished events is kept, such as 30d or 12h; 0: as long as their rows. The policy of a tenant
    /// overrides it
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_keep)]
    payload_keep: Keep,

    /// How long finished events are kept with their deliveries and attempts, such as 90d; 0: forever. The policy of a
    /// tenant overrides it
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = parse_keep)]
    rows_keep: Keep,

    /// Delete the oldest finished events while the database is larger than this; at most nine tenths of
    /// --max-store-bytes. Default: no limit
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,

    /// Directory of backups; created if it does not exist. Default: `backups` in the data directory
    #[arg(long, value_name = "DIR")]
    backup_dir: Option<PathBuf>,

    /// Make a backup when the latest one is this old, such as 24h or 7d. Default: backups are made on request only
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    backup_every: Option<Duration>,

    /// Number of backups that are kept after a backup of --backup-every; older ones are deleted
    #[arg(long, value_name = "N", default_value_t = Backups::default().keep)]
    backup_keep: NonZeroUsize,

    /// How long a shutdown waits for deliveries in flight; unfinished deliveries are due at the next start
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = parse_seconds)]
    shutdown_grace: Duration,
}

/// The keys of the secrets in the store.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct SecretKeyArgs {
    /// File with the keys that encrypt the secrets in the store, one per line: `id:base64 of 32 bytes`. Default: relay-keys
    /// in $CREDENTIALS_DIRECTORY, or the file beside the data directory that has its name with `.keys`, which relay creates
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// Store signing secrets and the headers of endpoints in clear text
    #[arg(long, conflicts_with = "key_file")]
    plaintext_secrets: bool,
}

impl From<SecretKeyArgs> for KeySource {
    fn from(args: SecretKeyArgs) -> Self {
        match args.key_file {
            Some(path) => Self::File(path),
            None if args.plaintext_secrets => Self::Plaintext,
            None => Self::Auto,
        }
    }
}

impl From<ServeArgs> for Config {
    fn from(args: ServeArgs) -> Self {
        Self {
            tls_cert: args.tls_cert,
            tls_key: args.tls_key,
            secret_keys: args.secret_keys.into(),
            cors_origins: args.cors_origin,
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
            tenant_quotas: TenantQuotas {
                events_per_second: args.tenant_events_per_second,
                events_burst: args.tenant_events_burst,
                events_per_day: args.tenant_events_per_day,
                backlog_max: args.tenant_backlog_max,
                endpoints_max: args.tenant_endpoints_max,
                event_bytes_max: args.tenant_event_bytes_max,
            },
            feeds: Feeds { max_open: args.max_feeds, keep_alive: args.feed_keep_alive },
            max_connections: args.max_connections,
            max_store_bytes: args.max_store_bytes,
            retention: Some(Retention {
                payload_keep: args.payload_keep.0,
                rows_keep: args.rows_keep.0,
                max_bytes: args.max_bytes,
            }),
            backups: Backups { directory: args.backup_dir, every: args.backup_every, keep: args.backup_keep },
            shutdown_grace: args.shutdown_grace,
            ..Self::new(args.data, args.listen)
        }
    }
}

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines of text for people.
    #[default]
    Text,
    /// A JSON object per line.
    Json,
}

impl ServeArgs {
    /// The filter and the form of the log.
    #[must_use]
    pub fn log(&self) -> (Option<&str>, LogFormat) {
        (self.log.as_deref(), self.log_format)
    }
}
