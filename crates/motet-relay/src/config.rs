//! How a relay is set up.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::dispatch::{InFlight, RetrySchedule, Sparing};
use crate::edge::Feeds;
use crate::outbound::Deadlines;
use crate::store::AutoDisable;

/// How a relay is set up; [`Config::new`] gives the defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The directory of the store.
    pub data: PathBuf,
    /// The address the API listens on.
    pub listen: SocketAddr,
    /// Networks that may be delivered to beyond the public addresses.
    pub allow_net: Vec<IpNet>,
    /// When failed deliveries are attempted again.
    pub retry: RetrySchedule,
    /// How long an attempt may take.
    pub deadlines: Deadlines,
    /// How much is attempted at once.
    pub in_flight: InFlight,
    /// When an endpoint that fails is left alone for a while, and how often any is called.
    pub sparing: Sparing,
    /// When an endpoint that only fails is disabled, and how often it is probed then.
    pub auto_disable: AutoDisable,
    /// How many may follow the events, and how.
    pub feeds: Feeds,
    /// Connections to the API, and of these three quarters from one address; a few more are kept for health and metrics.
    pub max_connections: NonZeroUsize,
    /// The size the database file may grow to; beyond it events are refused with 503. None: the disk's.
    pub max_store_bytes: Option<u64>,
    /// How long shutdown waits for deliveries under way.
    pub shutdown_grace: Duration,
}

impl Config {
    /// The default: what `motet-relay serve` uses.
    pub const DEFAULT_DATA: &'static str = "./relay-data";
    /// The default: loopback only, since the API speaks plain HTTP.
    pub const DEFAULT_LISTEN: &'static str = "127.0.0.1:8181";
    /// The default: each costs an open file and some 10 KiB.
    pub const DEFAULT_MAX_CONNECTIONS: NonZeroUsize = const { NonZeroUsize::new(4_096).unwrap() };
    /// The default: longer than an attempt's total deadline, so that ordinarily nothing is handed back.
    pub const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(20);

    /// A set-up with these two and the defaults.
    #[must_use]
    pub fn new(data: PathBuf, listen: SocketAddr) -> Self {
        Self {
            data,
            listen,
            allow_net: Vec::new(),
            retry: RetrySchedule::default(),
            deadlines: Deadlines::default(),
            in_flight: InFlight::default(),
            sparing: Sparing::default(),
            auto_disable: AutoDisable::default(),
            feeds: Feeds::default(),
            max_connections: Self::DEFAULT_MAX_CONNECTIONS,
            max_store_bytes: None,
            shutdown_grace: Self::DEFAULT_SHUTDOWN_GRACE,
        }
    }
}
