//! The settings of a relay.
//!
//! This module knows only `error`, so that every part can use its settings without an import circle.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use crate::error::StartError;

/// The settings of a relay; [`Config::new`] returns the defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The directory of the store.
    pub data: PathBuf,
    /// The keys that encrypt the secrets in the store.
    pub secret_keys: KeySource,
    /// The program that opens the store.
    pub(crate) store_use: StoreUse,
    /// The address that the API listens on.
    pub listen: SocketAddr,
    /// A listening socket that the API uses in place of `listen`, such as that of systemd.
    pub listener: Option<Arc<TcpListener>>,
    /// The certificate chain of the API, a PEM file that is read again when it changes. With `tls_key` the API is HTTPS.
    pub tls_cert: Option<PathBuf>,
    /// The private key of the certificate, a PEM file that is read again when it changes.
    pub tls_key: Option<PathBuf>,
    /// Origins whose scripts browsers allow to call the API; empty: none.
    pub cors_origins: Vec<CorsOrigin>,
    /// Networks that relay may deliver to, in addition to public addresses.
    pub allow_net: Vec<IpNet>,
    /// When a failed delivery is attempted again.
    pub retry: RetrySchedule,
    /// How long an attempt may take.
    pub timeouts: Timeouts,
    /// How many attempts may be in flight.
    pub in_flight: InFlight,
    /// Circuit breaker and rate limit of each endpoint.
    pub endpoint_limits: EndpointLimits,
    /// When a failing endpoint is disabled, and how often it is probed afterwards.
    pub auto_disable: AutoDisable,
    /// Limits of each tenant whose own policy does not set them.
    pub tenant_quotas: TenantQuotas,
    /// How many clients may follow the feed of events, and how often an idle feed sends a message.
    pub feeds: Feeds,
    /// Maximum number of connections to the API. One address may open three quarters of them. relay accepts 16 more for
    /// health checks and metrics.
    pub max_connections: NonZeroUsize,
    /// Maximum size of the database file in bytes. relay refuses events with 503 when the file has reached it. `None`:
    /// the free space of the disk is the limit.
    pub max_store_bytes: Option<u64>,
    /// How long finished events are kept. `None`: forever, also if the policy of a tenant sets a time.
    pub retention: Option<Retention>,
    /// Where backups are made, and how often.
    pub backups: Backups,
    /// How long the shutdown waits for deliveries in flight: with zero it waits for none, with [`Duration::MAX`] for
    /// all.
    pub shutdown_grace: Duration,
}

impl Config {
    /// The default of `motet-relay serve`.
    pub const DEFAULT_DATA: &'static str = "./relay-data";
    /// The default: loopback only, because the API speaks plain HTTP.
    pub const DEFAULT_LISTEN: &'static str = "127.0.0.1:8181";
    /// The default: each connection costs an open file and about 10 KiB.
    pub const DEFAULT_MAX_CONNECTIONS: NonZeroUsize = const { NonZeroUsize::new(4_096).unwrap() };
    /// The default: longer than the total timeout of an attempt, so that attempts usually end before the shutdown does.
    pub const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(20);

    /// Creates settings with `data`, `listen` and the defaults.
    #[must_use]
    pub fn new(data: PathBuf, listen: SocketAddr) -> Self {
        Self {
            data,
            secret_keys: KeySource::default(),
            store_use: StoreUse::default(),
            listen,
            listener: None,
            tls_cert: None,
            tls_key: None,
            cors_origins: Vec::new(),
            allow_net: Vec::new(),
            retry: RetrySchedule::default(),
            timeouts: Timeouts::default(),
            in_flight: InFlight::default(),
            endpoint_limits: EndpointLimits::default(),
            auto_disable: AutoDisable::default(),
            tenant_quotas: TenantQuotas::default(),
            feeds: Feeds::default(),
            max_connections: Self::DEFAULT_MAX_CONNECTIONS,
            max_store_bytes: None,
            retention: Some(Retention::default()),
            backups: Backups::default(),
            shutdown_grace: Self::DEFAULT_SHUTDOWN_GRACE,
        }
    }

    /// Checks the settings that are valid only together, or only above zero.
    ///
    /// # Errors
    /// [`StartError`] names the setting and what to do.
    pub fn check(&self) -> Result<(), StartError> {
        if let Some(setting) = self.zero_duration() {
            return Err(StartError::ZeroDuration { setting });
        }
        if let Some((max_bytes, max_store_bytes)) = self.conflicting_sizes() {
            return Err(StartError::Sizes { max_bytes, max_store_bytes });
        }
        let (cert, key) = ("tls_cert", "tls_key");
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => Err(StartError::Incomplete { given: cert, missing: key }),
            (None, Some(_)) => Err(StartError::Incomplete { given: key, missing: cert }),
            (Some(_), Some(_)) | (None, None) => Ok(()),
        }
    }

    /// Returns the files of the certificate of the API, if it has one.
    pub(crate) fn certificate(&self) -> Option<CertificateFiles> {
        let (certificate, key) = (self.tls_cert.clone()?, self.tls_key.clone()?);
        Some(CertificateFiles { certificate, key })
    }

    /// The first setting that is zero although no delivery could succeed with zero, or a task would never pause.
    fn zero_duration(&self) -> Option<&'static str> {
        let Timeouts { connect, headers, total } = self.timeouts;
        let above_zero = [
            ("timeouts.connect", connect),
            ("timeouts.headers", headers),
            ("timeouts.total", total),
            ("auto_disable.probe_every", self.auto_disable.probe_every),
            ("feeds.keep_alive", self.feeds.keep_alive),
            ("backups.every", self.backups.every.unwrap_or(Duration::MAX)),
        ];
        above_zero.into_iter().find(|(_, duration)| duration.is_zero()).map(|(setting, _)| setting)
    }

    /// Returns both sizes if relay would refuse new events before it deletes old ones.
    fn conflicting_sizes(&self) -> Option<(u64, u64)> {
        let (max_bytes, limit) = self.retention.as_ref()?.max_bytes.zip(self.max_store_bytes)?;
        (max_bytes > limit / 10 * 9 + limit % 10 * 9 / 10).then_some((max_bytes, limit))
    }
}

/// How long the data and the rows of finished events are kept. Each of the two times applies to tenants whose own policy
/// does not set it.
///
/// An event is finished when none of its deliveries is pending. Retention deletes no other event, however old it is.
///
/// # Defaults
/// The data of events for 30 days, and their rows for 90 days; no limit of the size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// How long the data of an event, and the responses to its attempts, are kept. `None`: as long as its rows.
    pub payload_keep: Option<Duration>,
    /// How long an event is kept with its deliveries and attempts. `None`: forever.
    pub rows_keep: Option<Duration>,
    /// The oldest finished events are deleted while the database has more bytes than this. Must be at most nine tenths of
    /// [`Config::max_store_bytes`], at which relay refuses new events. `None`: no limit.
    pub max_bytes: Option<u64>,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Retention {
    fn default() -> Self {
        let days = |days| Some(DAY.saturating_mul(days));
        Self { payload_keep: days(30), rows_keep: days(90), max_bytes: None }
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { payload_keep, rows_keep, max_bytes } = self;
        let shown = |keep: &Option<Duration>| keep.map_or_else(|| "forever".to_owned(), short_span);
        let (payload, rows) = (shown(payload_keep), shown(rows_keep));
        write!(f, "payload_keep {payload}, rows_keep {rows}, max_bytes ")?;
        match max_bytes {
            Some(bytes) => write!(f, "{bytes}"),
            None => f.write_str("no limit"),
        }
    }
}

/// Writes a duration in the largest unit that divides it, as the options take it.
pub(crate) fn short_span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 {
        return format!("{} ms", duration.as_millis());
    }
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let fits = units.into_iter().find(|(_, length)| seconds.is_multiple_of(*length));
    let (unit, length) = fits.unwrap_or(("s", 1));
    format!("{}{unit}", seconds / length)
}

/// The files of a certificate chain and its private key, as PEM.
#[derive(Debug, Clone)]
pub(crate) struct CertificateFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Where relay finds the keys that encrypt the secrets in the store: signing secrets, and the headers of endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySource {
    /// The file `relay-keys` in the directory that the environment variable `CREDENTIALS_DIRECTORY` names, or else the file
    /// beside the data directory that has its name with `.keys`. If there is neither, the first start creates the latter.
    #[default]
    Auto,
    /// This file.
    File(PathBuf),
    /// Secrets are stored in clear text.
    Plaintext,
}

/// The program that opens a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum StoreUse {
    /// A relay. It creates a missing key file, and encrypts the secrets that are in clear text.
    #[default]
    Serve,
    /// A command, for a stopped relay. It takes the store as it is: encrypted or in clear text.
    Command {
        /// A key that is lost, with the secrets that it encrypts.
        lost_key: Option<String>,
    },
}

/// An origin of scripts in browsers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigin {
    /// Every origin.
    Any,
    /// An origin as browsers write it, such as `https://app.example`.
    Only(String),
}

impl FromStr for CorsOrigin {
    type Err = String;

    /// Parses `*`, or a URL of a scheme, a host and perhaps a port.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let hint = "write a scheme, a host and perhaps a port, such as https://app.example, or *";
        let url = Url::parse(text).map_err(|error| format!("not an origin: {error}; {hint}"))?;
        let has_more = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
        let has_user = !url.username().is_empty() || url.password().is_some();
        let origin = url.origin();
        if has_more || has_user || !origin.is_tuple() || text.ends_with('/') {
            return Err(format!("not an origin; {hint}"));
        }
        Ok(Self::Only(origin.ascii_serialization()))
    }
}

/// Exponential back-off with full jitter, up to a number of attempts.
///
/// The delay after the n-th failed attempt is drawn evenly from zero to `base * 2^(n-1)`, or to `cap` once `cap` is
/// smaller. Full jitter spreads the retries of many deliveries that failed together over the whole interval (Marc
/// Brooker, "Exponential Backoff and Jitter", 2015).
///
/// # Defaults
/// 5 s doubling up to 12 h, 18 attempts: about 1.2 days from the first to the last attempt on average, at most 2.4
/// days, so that a receiver that is down for a weekend day is still reached. 3 days of failures that are charged to
/// relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedule {
    /// The longest delay after the first failure, and at most `cap`. Zero retries at once.
    pub base: Duration,
    /// The longest delay after any failure. Zero retries at once; [`Duration::MAX`] is no limit.
    pub cap: Duration,
    /// Maximum number of attempts. A delivery that has failed this many times becomes a dead letter. At least one
    /// attempt is made.
    pub max_attempts: u32,
    /// How long attempts may fail because of relay itself (no file descriptors, no route, no name server). Such
    /// attempts are not counted; a delivery whose attempts have all failed in this way for `max_age` becomes a dead
    /// letter: with zero after the first attempt, with [`Duration::MAX`] never.
    pub max_age: Duration,
}

impl Default for RetrySchedule {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(5),
            cap: Duration::from_secs(12 * 60 * 60),
            max_attempts: 18,
            max_age: Duration::from_secs(3 * 24 * 60 * 60),
        }
    }
}

/// How long the parts of an attempt may take. All timeouts are counted from the start of the attempt.
/// A timeout must be above zero; [`Duration::MAX`] is no limit.
///
/// # Defaults
/// 5 s to connect, 10 s to the end of the headers, 15 s in total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection is established: name resolution, TCP and TLS.
    pub connect: Duration,
    /// Until the status and the headers of the response have arrived.
    pub headers: Duration,
    /// Until the body of the response has been read. The attempt ends at this time at the latest.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            headers: Duration::from_secs(10),
            total: Duration::from_secs(15),
        }
    }
}

/// How many attempts may be in flight.
///
/// # Defaults
/// 16 per endpoint: at a response time of 50 ms that is 320 deliveries a second, and a receiver that hangs holds at
/// most 16 slots. 1 024 in total: with payloads of the largest size that is 256 MiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlight {
    /// Maximum number of attempts in flight for one endpoint.
    pub per_endpoint: NonZeroUsize,
    /// Maximum number of attempts in flight for all endpoints together.
    pub total: NonZeroUsize,
}

impl Default for InFlight {
    fn default() -> Self {
        const { Self { per_endpoint: NonZeroUsize::new(16).unwrap(), total: NonZeroUsize::new(1_024).unwrap() } }
    }
}

/// Circuit breaker and rate limit of an endpoint.
///
/// # Defaults
/// The breaker opens after 10 failures in a row, at first for one second and for at most one minute. No rate limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointLimits {
    /// Number of failed attempts in a row, over all deliveries of the endpoint, after which its breaker opens. An open
    /// breaker lets no attempt pass; when it is half-open it lets one attempt at a time pass as a probe. Deliveries
    /// that wait for the breaker are not attempted.
    pub breaker_failures: NonZeroU32,
    /// The longest time that the breaker stays open. The first time is one second, or `breaker_open` if that is
    /// shorter; each further time is twice as long as the one before. With zero the breaker is half-open at once;
    /// [`Duration::MAX`] is no limit.
    pub breaker_open: Duration,
    /// Maximum number of attempts per second. `None`: no limit.
    pub rate: Option<NonZeroU32>,
}

impl Default for EndpointLimits {
    fn default() -> Self {
        Self {
            breaker_failures: const { NonZeroU32::new(10).unwrap() },
            breaker_open: Duration::from_secs(60),
            rate: None,
        }
    }
}

/// When relay disables a failing endpoint, and how often it probes the endpoint afterwards.
///
/// Both conditions must hold, `failures` and `after`: a busy endpoint fails often within a minute, a quiet one seldom.
///
/// # Defaults
/// 20 failed attempts in a row over one day; afterwards one attempt an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoDisable {
    /// Minimum number of failed attempts in a row.
    pub failures: u32,
    /// Minimum time since the first of them. With [`Duration::MAX`] no endpoint is disabled.
    pub after: Duration,
    /// How often relay attempts one delivery of the disabled endpoint as a probe. Must be above zero; with
    /// [`Duration::MAX`] there are no probes.
    pub probe_every: Duration,
}

impl Default for AutoDisable {
    fn default() -> Self {
        Self {
            failures: 20,
            after: Duration::from_secs(24 * 60 * 60),
            probe_every: Duration::from_secs(60 * 60),
        }
    }
}

/// Limits of a tenant. `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantQuotas {
    /// Maximum number of events per second, on average.
    pub events_per_second: Option<NonZeroU32>,
    /// Maximum number of events at once. `None`: the events of a second.
    pub events_burst: Option<NonZeroU32>,
    /// Maximum number of events per UTC day.
    pub events_per_day: Option<NonZeroU64>,
    /// Maximum number of pending deliveries; events are refused while there are as many.
    pub backlog_max: Option<NonZeroU64>,
    /// Maximum number of endpoints.
    pub endpoints_max: Option<NonZeroU32>,
    /// Maximum size of the data of an event, in bytes.
    pub event_bytes_max: Option<NonZeroU32>,
}

/// How many clients may follow the feed of events, and how often an idle feed sends a message.
///
/// # Defaults
/// 100 feeds, each of which sends something every 15 s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feeds {
    /// Maximum number of open feeds. A slow reader costs about 1 MiB.
    pub max_open: NonZeroUsize,
    /// A feed that had no event for this time sends an empty message. Most proxies close a connection that was silent
    /// for a minute. Must be above zero; with [`Duration::MAX`] no such message is sent.
    pub keep_alive: Duration,
}

impl Default for Feeds {
    fn default() -> Self {
        Self { max_open: const { NonZeroUsize::new(100).unwrap() }, keep_alive: Duration::from_secs(15) }
    }
}

/// Where backups are made, and how often relay makes one by itself.
///
/// # Defaults
/// The directory `backups` in the data directory; no schedule. A schedule keeps 7 backups: a week of daily ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backups {
    /// The directory; created if it does not exist. `None`: `backups` in the data directory.
    pub directory: Option<PathBuf>,
    /// relay makes a backup when the latest one in the directory is this old. Must be above zero. `None`: only on request.
    pub every: Option<Duration>,
    /// After a backup of the schedule, this number of backups is kept, and older ones are deleted.
    pub keep: NonZeroUsize,
}

impl Default for Backups {
    fn default() -> Self {
        Self { directory: None, every: None, keep: const { NonZeroUsize::new(7).unwrap() } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_of_retention_is_at_most_nine_tenths_of_the_limit() {
        let sizes = |max_bytes, max_store_bytes| {
            let mut config = Config::new("unused".into(), "127.0.0.1:0".parse().unwrap());
            config.retention = Some(Retention { max_bytes, ..Retention::default() });
            config.max_store_bytes = max_store_bytes;
            config.conflicting_sizes()
        };
        assert_eq!(sizes(Some(901), Some(1_000)), Some((901, 1_000)));
        assert_eq!(sizes(Some(u64::MAX), Some(u64::MAX)), Some((u64::MAX, u64::MAX)));
        for (max_bytes, limit) in [(Some(900), Some(1_000)), (Some(900), None), (None, Some(1)), (None, None)]
        {
            assert_eq!(sizes(max_bytes, limit), None);
        }
    }

    #[test]
    fn retention_is_shown_as_the_options_take_it() {
        assert_eq!(Retention::default().to_string(), "payload_keep 30d, rows_keep 90d, max_bytes no limit");
        let odd =
            Retention { payload_keep: Some(Duration::from_secs(90)), rows_keep: None, max_bytes: Some(7) };
        assert_eq!(odd.to_string(), "payload_keep 90s, rows_keep forever, max_bytes 7");
        assert_eq!(short_span(Duration::from_secs(7_200)), "2h");
    }

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        let parse = |text: &str| text.parse::<CorsOrigin>();
        assert_eq!(parse("*"), Ok(CorsOrigin::Any));
        for (given, origin) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
        ] {
            assert_eq!(parse(given), Ok(CorsOrigin::Only(origin.to_owned())));
        }
        for refused in [
            "",
            "null",
            "app.example",
            "https://app.example/",
            "https://app.example/page",
            "https://user@app.example",
            "https://app.example?a",
            "https://*.app.example/",
            "file:///tmp",
            "data:text/plain,a",
        ] {
            assert!(parse(refused).is_err(), "{refused:?}");
        }
    }
}
