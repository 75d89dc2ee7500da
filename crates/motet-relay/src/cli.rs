//! The command line.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use jiff::SpanRelativeTo;
use tracing_subscriber::EnvFilter;

use crate::access::KeyScope;
use crate::config::{
    AutoDisable, Backups, Config, CorsOrigin, EndpointLimits, Feeds, InFlight, KeySource, Retention,
    RetrySchedule, TenantQuotas, Timeouts,
};
use crate::control::{CommandError, ControlTarget};
use crate::demo::DemoOptions;
use crate::masked::Masked;
use crate::settings::{default_data, default_key_file};

/// relay delivers events to webhook endpoints: durable, signed, retried.
///
/// Without a command relay serves with the defaults of `serve`. Each option of `serve`, such as --max-attempts 5, is also read
/// from the environment (RELAY_MAX_ATTEMPTS=5) and from a file (max_attempts = 5, see --config).
#[derive(Debug, Parser)]
#[command(name = "motet-relay", version, about, long_about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Box<ServeArgs>,
}

/// The command of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Accept events and deliver them until Ctrl-C or SIGTERM
    Serve(Box<ServeArgs>),
    /// Demonstrate relay: deliver events to a receiver that misbehaves, and count the events that arrive
    Demo(DemoArgs),
    /// Create, list and revoke API keys, of a running or a stopped relay
    Key(KeyArgs),
    /// Encrypt the secrets in the store with the first key of the key file, of a running or a stopped relay
    Rekey(RekeyArgs),
    /// Copy the applications, event types and endpoints of another system into a running or a stopped relay
    Import(ImportArgs),
    /// Check and show the settings of `serve`, with the same options, environment and file
    Config(ConfigArgs),
    /// Show what retention would delete now, of a running or a stopped relay
    Retention(RetentionArgs),
    /// Erase an event, the data of all events of a tenant, or a tenant, of a running or a stopped relay
    Erase(EraseArgs),
    /// Copy the store of a running or a stopped relay into a file
    Backup(BackupArgs),
    /// Check whether this machine is fit for relay, with the settings of `serve`, and name a cure for each finding
    Doctor(DoctorArgs),
    /// Write the pages of the manual and the completions of shells into a directory
    #[command(hide = true)]
    Generate(GenerateArgs),
    /// Look for damage in the store of a running or a stopped relay, or in a backup; nothing is changed
    Check(CheckArgs),
    /// Make a store of a backup, in a data directory without a store
    Restore(RestoreArgs),
    /// Replaced by `key`
    #[command(hide = true)]
    RotateKey(RemovedArgs),
}

impl Cli {
    /// Returns the command; `serve` if none was given.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

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
struct SecretKeyArgs {
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

/// Options of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Number of events
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
    /// Returns `true` if the result is printed as JSON.
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

/// Options of `key`.
#[derive(Debug, Clone, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    action: KeyAction,
}

impl KeyArgs {
    pub(crate) const fn action(&self) -> &KeyAction {
        &self.action
    }
}

/// The commands of `key`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KeyAction {
    /// Create a key, and print it; it cannot be shown again
    Create(CreateKeyArgs),
    /// List all keys, newest first
    List(ListKeysArgs),
    /// Revoke a key
    Revoke(RevokeKeyArgs),
}

impl KeyAction {
    pub(crate) fn target(&self) -> Result<ControlTarget, CommandError> {
        match self {
            Self::Create(args) => args.control.target(),
            Self::List(args) => args.control.target(),
            Self::Revoke(args) => args.control.target(),
        }
    }
}

/// The relay that a command is for.
#[derive(Debug, Clone, Args)]
pub(crate) struct ControlArgs {
    /// Data directory. A running relay is reached by the socket in the directory; the store of a stopped relay is opened.
    /// Default: the environment variable RELAY_DATA, or ./relay-data
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// URL of a running relay, in place of a data directory
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    server: Option<String>,

    /// The key file of a stopped relay, if it is not the default of `serve`
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    key_file: Option<PathBuf>,

    /// API key for --server. Default: the environment variable RELAY_KEY, which other users cannot see
    #[arg(long, value_name = "KEY", requires = "server")]
    key: Option<String>,
}

impl ControlArgs {
    pub(crate) fn target(&self) -> Result<ControlTarget, CommandError> {
        let Some(url) = &self.server else {
            let directory = self.data.clone().unwrap_or_else(default_data);
            let key_file = self.key_file.clone().or_else(default_key_file);
            let secret_keys = key_file.map_or(KeySource::Auto, KeySource::File);
            return Ok(ControlTarget::Data { directory, secret_keys, lost_key: None });
        };
        let key = self.key.clone().or_else(|| std::env::var("RELAY_KEY").ok()).filter(|key| !key.is_empty());
        Ok(ControlTarget::Server { url: url.clone(), key: Masked(key.ok_or(CommandError::NoKey)?) })
    }
}

/// Options of `key create`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CreateKeyArgs {
    #[command(flatten)]
    control: ControlArgs,

    /// Name, for people
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) name: String,

    /// Scopes, separated by commas: publish, read, read_payload (with read), manage, secrets, replay, or admin for
    /// everything. May be repeated
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_delimiter = ',')]
    pub(crate) scopes: Vec<KeyScope>,

    /// The only tenant that the key is for. Default: all tenants
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,

    /// When the key expires: after a time, such as 90d or 12h, or at a time, such as 2030-01-31T00:00:00Z. Default: never
    #[arg(long, value_name = "WHEN", value_parser = parse_expiry)]
    pub(crate) expires: Option<KeyExpiry>,

    /// Print the key with its properties as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// When a new key expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyExpiry {
    /// After a number of seconds.
    In(u64),
    /// At a time, as in RFC 3339.
    At(String),
}

/// Options of `key list`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListKeysArgs {
    #[command(flatten)]
    control: ControlArgs,

    /// List only the keys of this tenant
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,

    /// Print the keys as a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `key revoke`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RevokeKeyArgs {
    #[command(flatten)]
    control: ControlArgs,

    /// Id of the key: the part between `rk_` and the next `_`
    #[arg(value_name = "ID", value_parser = parse_key_id)]
    id: String,
}

impl RevokeKeyArgs {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

/// Options of `retention`.
#[derive(Debug, Clone, Args)]
pub struct RetentionArgs {
    #[command(flatten)]
    pub(crate) control: ControlArgs,

    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Show what would be deleted with this time in place of relay's --payload-keep
    #[arg(long, value_name = "TIME", value_parser = parse_keep)]
    payload_keep: Option<Keep>,

    /// Show what would be deleted with this time in place of relay's --rows-keep
    #[arg(long, value_name = "TIME", value_parser = parse_keep)]
    rows_keep: Option<Keep>,

    /// Show what would be deleted with this size in place of relay's --max-bytes
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,

    /// Print the plan as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl RetentionArgs {
    /// Returns the parameters of the request.
    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let seconds = |keep: Option<Keep>| keep.map(|Keep(keep)| keep.map_or(0, |keep| keep.as_secs()));
        let given = [
            ("payload_keep_s", seconds(self.payload_keep)),
            ("rows_keep_s", seconds(self.rows_keep)),
            ("max_bytes", self.max_bytes),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))).collect()
    }
}

/// Options of `erase`.
#[derive(Debug, Clone, Args)]
pub struct EraseArgs {
    #[command(subcommand)]
    action: EraseAction,
}

/// The objects that can be erased.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum EraseAction {
    /// Erase the data of an event, its uid and the responses to its attempts
    Event(EraseEventArgs),
    /// Erase a tenant with all that it owns
    Tenant(EraseTenantArgs),
    /// Erase the data of all events of a tenant, their uids and the responses to their attempts
    Payloads(ErasePayloadsArgs),
}

/// Options of `erase event`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EraseEventArgs {
    /// Id of the event
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    /// Tenant of the event
    #[arg(long, value_name = "TENANT", default_value = "default")]
    pub(crate) tenant: String,

    #[command(flatten)]
    confirmed: ConfirmArgs,
}

/// Options of `erase tenant`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EraseTenantArgs {
    /// Id of the tenant
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    #[command(flatten)]
    confirmed: ConfirmArgs,
}

/// Options of `erase payloads`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ErasePayloadsArgs {
    /// Tenant of the events
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: String,

    #[command(flatten)]
    confirmed: ConfirmArgs,
}

/// The relay of an erasure, and its confirmation.
#[derive(Debug, Clone, Args)]
struct ConfirmArgs {
    #[command(flatten)]
    control: ControlArgs,

    /// Erase without a question
    #[arg(long)]
    yes: bool,
}

impl EraseArgs {
    pub(crate) const fn action(&self) -> &EraseAction {
        &self.action
    }

    const fn confirmed(&self) -> &ConfirmArgs {
        match &self.action {
            EraseAction::Event(EraseEventArgs { confirmed, .. })
            | EraseAction::Tenant(EraseTenantArgs { confirmed, .. })
            | EraseAction::Payloads(ErasePayloadsArgs { confirmed, .. }) => confirmed,
        }
    }

    pub(crate) const fn control(&self) -> &ControlArgs {
        &self.confirmed().control
    }

    /// Returns `true` if the command must not ask.
    #[must_use]
    pub const fn is_confirmed(&self) -> bool {
        self.confirmed().yes
    }

    /// Returns the question to ask before the erasure.
    #[must_use]
    pub fn question(&self) -> String {
        let what = match &self.action {
            EraseAction::Event(args) => {
                format!("the data of the event {} of the tenant {}", args.id, args.tenant)
            }
            EraseAction::Tenant(args) => {
                format!("the tenant {} with its endpoints, events and keys", args.id)
            }
            EraseAction::Payloads(args) => format!("the data of all events of the tenant {}", args.tenant),
        };
        format!("This erases {what}. It cannot be undone. Write yes to continue: ")
    }
}

/// Options of `rekey`.
#[derive(Debug, Clone, Args)]
pub struct RekeyArgs {
    #[command(flatten)]
    control: ControlArgs,

    /// Id of a key that is lost: relay starts again without it, and the secrets that it encrypts have to be replaced. Only
    /// for a stopped relay
    #[arg(long, value_name = "ID", conflicts_with = "server")]
    lost_key: Option<String>,

    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

impl RekeyArgs {
    pub(crate) fn target(&self) -> Result<ControlTarget, CommandError> {
        Ok(match self.control.target()? {
            ControlTarget::Data { directory, secret_keys, .. } => {
                ControlTarget::Data { directory, secret_keys, lost_key: self.lost_key.clone() }
            }
            server @ ControlTarget::Server { .. } => server,
        })
    }

    pub(crate) fn lost_key(&self) -> Option<&str> {
        self.lost_key.as_deref()
    }

    pub(crate) const fn json(&self) -> bool {
        self.json
    }
}

/// Options of `import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    #[command(subcommand)]
    pub(crate) source: ImportSource,
}

/// The systems that relay imports from.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ImportSource {
    /// Copy from Svix, or from another relay: applications, event types, endpoints, their secrets and headers
    ///
    /// Ids of the source stay usable: an object without a uid gets its id as its uid. Objects that exist in relay stay as they
    /// are, so a stopped import is continued by the same command. Messages are not copied.
    Svix(ImportSvixArgs),
}

/// Options of `import svix`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportSvixArgs {
    #[command(flatten)]
    pub(crate) control: ControlArgs,

    /// URL of the source, as given to a client of Svix
    #[arg(long, value_name = "URL")]
    pub(crate) source: String,

    /// Token of the source. Default: the environment variable SVIX_TOKEN, which other users cannot see
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,

    /// Read everything and write nothing: the report shows what would be created, and what cannot be taken
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Number of applications that are copied at once
    #[arg(long, value_name = "N", default_value = "4")]
    pub(crate) parallel: NonZeroUsize,

    /// Print the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl ImportSvixArgs {
    pub(crate) fn token(&self) -> Result<String, CommandError> {
        let token = self.token.clone().or_else(|| std::env::var("SVIX_TOKEN").ok());
        token.filter(|token| !token.is_empty()).ok_or(CommandError::NoToken)
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

/// Options of `config`.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) action: ConfigAction,
}

/// The actions of `config`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ConfigAction {
    /// Check the settings, and name every mistake of the file
    Check(Box<ServeArgs>),
    /// Show each setting, its value, and where the value comes from
    Show(ShowConfigArgs),
}

/// Options of `config show`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ShowConfigArgs {
    #[command(flatten)]
    _serve: Box<ServeArgs>,

    /// Print the settings as a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `backup`.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    #[command(flatten)]
    pub(crate) control: ControlArgs,

    /// File of the backup, which must not exist. Default: a new file in the directory of backups
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    pub(crate) to: Option<PathBuf>,

    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub(crate) serve: Box<ServeArgs>,

    /// Print the findings as a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `generate`.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// The directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

/// Options of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Data directory, or the file of a backup
    #[arg(long, value_name = "PATH", default_value = Config::DEFAULT_DATA)]
    pub(crate) data: PathBuf,

    /// Check the pages and the schema only, and not each row
    #[arg(long)]
    pub(crate) quick: bool,
}

/// Options of `restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The backup; it stays as it is
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Data directory without a store; created if it does not exist
    #[arg(long, value_name = "DIR", default_value = Config::DEFAULT_DATA)]
    pub(crate) data: PathBuf,

    /// Start with all deliveries paused, so that no event is sent again before you have looked at them; POST /v1/resume
    /// ends the pause
    #[arg(long)]
    pub(crate) hold: bool,

    /// Skip the pending deliveries of events that were published before this time, such as 2030-01-31T00:00:00Z; a replay
    /// sends them
    #[arg(long, value_name = "TIME")]
    pub(crate) skip_before: Option<jiff::Timestamp>,
}

/// The arguments of a command that does not exist any more.
#[derive(Debug, Clone, Args)]
pub struct RemovedArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _any: Vec<String>,
}

/// Parses when a key expires.
fn parse_expiry(text: &str) -> Result<KeyExpiry, String> {
    if text.parse::<jiff::Timestamp>().is_ok() {
        return Ok(KeyExpiry::At(text.to_owned()));
    }
    match parse_span(text) {
        Some(seconds) if seconds > 0 => Ok(KeyExpiry::In(seconds)),
        _ => {
            Err("write a time from now, such as 90d or 12h, or a time such as 2030-01-31T00:00:00Z"
                .to_owned())
        }
    }
}

/// Parses a time such as `90d` or `12h 30m` to seconds.
fn parse_span(text: &str) -> Option<u64> {
    parse_milliseconds(text).map(|milliseconds| milliseconds / 1_000)
}

fn parse_milliseconds(text: &str) -> Option<u64> {
    let span = text.parse::<jiff::Span>().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    u64::try_from(duration.as_millis()).ok()
}

/// How long something is kept; `None` is forever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Keep(Option<Duration>);

/// Longer times are not needed, and their sums with calendar times stay small.
const LONGEST_KEEP: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Parses how long something is kept.
fn parse_keep(text: &str) -> Result<Keep, String> {
    if text == "0" {
        return Ok(Keep(None));
    }
    match parse_span(text).map(Duration::from_secs) {
        Some(Duration::ZERO) | None => Err("write a time such as 30d or 12h, or 0 forever".to_owned()),
        Some(keep) if keep > LONGEST_KEEP => {
            Err("must be at most 100 years (36500d); 0 is forever".to_owned())
        }
        Some(keep) => Ok(Keep(Some(keep))),
    }
}

/// Parses a time span with its unit.
fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_milliseconds(text).map(Duration::from_millis) {
        Some(interval) if (SHORTEST..=LONGEST).contains(&interval) => Ok(interval),
        _ => Err("write a time with its unit, such as 24h or 7d, and at most one year".to_owned()),
    }
}

fn parse_key_id(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        Ok(text.to_owned())
    } else {
        Err("an id has letters and digits only; `motet-relay key list` shows the ids".to_owned())
    }
}

/// Checks a filter of the log.
fn parse_filter(text: &str) -> Result<String, String> {
    text.parse::<EnvFilter>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Parses a network, or a single address.
fn parse_net(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| "not a network; write an address and a prefix length, such as 10.0.0.0/8".to_owned())
}

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Parses a number of seconds, which may have a fraction.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number; write seconds, such as 2.5".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if (SHORTEST..=LONGEST).contains(&duration) => Ok(duration),
        _ => Err("must be between 0.001 seconds and one year (31536000 seconds)".to_owned()),
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
    fn clap_accepts_the_definition_of_the_command_line() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_without_options_uses_the_default_config() {
        let plain = config(&[]);
        let library = Config::new(Config::DEFAULT_DATA.into(), Config::DEFAULT_LISTEN.parse().unwrap());
        assert_eq!(format!("{plain:?}"), format!("{library:?}"));
        assert_eq!(format!("{:?}", config(&["serve"])), format!("{library:?}"));
    }

    #[test]
    fn options_are_parsed_with_and_without_the_serve_command() {
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
            &["--rows-keep", "90"],
            &["--rows-keep", "-1d"],
            &["--payload-keep", "0s"],
            &["--payload-keep", "36501d"],
            &["demo", "--events", "0"],
            &["serve", "--no-such-option"],
            &["serve", "--key-file", "k", "--plaintext-secrets"],
            &["rekey", "--server", "http://relay", "--lost-key", "k1"],
            &["key"],
            &["key", "create"],
            &["key", "create", "--scope", "everything"],
            &["key", "create", "--scope", "read", "--expires", "soon"],
            &["key", "create", "--scope", "read", "--expires", "-1d"],
            &["key", "list", "--key", "rk_1_2"],
            &["key", "list", "--server", "http://relay", "--data", "."],
            &["key", "revoke", "../endpoints"],
        ] {
            assert!(Cli::try_parse_from([&["motet-relay"], args].concat()).is_err(), "{args:?}");
        }
    }

    #[test]
    fn retention_takes_times_and_zero_for_ever() {
        let retention = |args: &[&str]| config(args).retention.unwrap();
        let day = Duration::from_secs(86_400);
        let given = retention(&["--payload-keep", "12h 30m", "--rows-keep", "0", "--max-bytes", "9"]);
        let expected = Retention {
            payload_keep: Some(Duration::from_secs(45_000)),
            rows_keep: None,
            max_bytes: Some(9),
        };
        assert_eq!(given, expected);
        assert_eq!(retention(&["--rows-keep", "400d"]).rows_keep, Some(400 * day));
    }

    #[test]
    fn options_of_key_create_are_parsed() {
        let create = |args: &[&str]| {
            let args = [&["motet-relay", "key", "create"], args].concat();
            let Command::Key(key) = Cli::try_parse_from(args).unwrap().into_command() else {
                panic!("not key")
            };
            let KeyAction::Create(create) = key.action else { panic!("not create") };
            create
        };
        let scopes = [KeyScope::Publish, KeyScope::Read, KeyScope::Admin];
        assert_eq!(create(&["--scope", "publish,read", "--scope", "admin"]).scopes, scopes);
        let expires = |when| create(&["--scope", "read", "--expires", when]).expires;
        assert_eq!(expires("90d"), Some(KeyExpiry::In(90 * 86_400)));
        assert_eq!(expires("12h 30m"), Some(KeyExpiry::In(45_000)));
        assert_eq!(expires("2030-01-31T00:00:00Z"), Some(KeyExpiry::At("2030-01-31T00:00:00Z".to_owned())));
    }

    #[test]
    fn command_is_for_a_data_directory_or_for_a_server_with_a_key() {
        let target = |args: &[&str]| {
            let args = [&["motet-relay", "key", "list"], args].concat();
            let Command::Key(key) = Cli::try_parse_from(args).unwrap().into_command() else {
                panic!("not key")
            };
            key.action.target().unwrap()
        };
        let data = |directory: &str, secret_keys| ControlTarget::Data {
            directory: directory.into(),
            secret_keys,
            lost_key: None,
        };
        assert_eq!(target(&[]), data(Config::DEFAULT_DATA, KeySource::Auto));
        assert_eq!(target(&["--data", "d"]), data("d", KeySource::Auto));
        assert_eq!(target(&["--data", "d", "--key-file", "k"]), data("d", KeySource::File("k".into())));
        let (url, key) = ("https://relay".to_owned(), "rk_1_2".to_owned());
        assert_eq!(
            target(&["--server", &url, "--key", &key]),
            ControlTarget::Server { url: url.clone(), key: Masked(key) }
        );
    }
}
