//! relay delivers events to webhook endpoints: durable, signed, retried, in one binary.
//!
//! **202 means that the event and all of its deliveries are on disk, in one commit. relay makes each delivery at least
//! once under a stable id, or keeps it visible as a dead letter.**
//!
//! ```no_run
//! use motet_relay::{Config, Relay};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::new("./relay-data".into(), "127.0.0.1:8181".parse()?);
//! let stop = async { tokio::signal::ctrl_c().await.expect("cannot listen for Ctrl-C") };
//! Relay::run(config, |relay| println!("listening on {}", relay.address()), stop).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//! - `api`: the HTTP API; translates requests into calls of the store.
//! - `store`: events, deliveries and attempts in one SQLite file, the single source of truth.
//! - `dispatch`: which deliveries are due, and in which order endpoints get their turns.
//! - `outbound`: HTTP requests to receivers, behind the [`AddressGuard`].
//! - [`lifecycle`]: events for programs that embed relay, and for the log and the metrics.
//! - `parts`: the container that builds, checks and stops the parts.
//! - `access`: the scopes of API keys.
//! - `encryption`: the key file, and the encryption of the secrets in the store.
//! - `control`: the client of the commands, which reaches a running relay or opens the store.
//! - `import`: copies the applications of another system into a relay, as a client of `control`.
//! - `config`, `error`: the settings as types, and the errors of the start, which know no other module.
//! - `settings`: the command line, the environment and the file of settings.
//! - `doctor`: checks of the machine.
//! - `tls`: the certificate of the API.
//! - `generate`: the manual and the completions of shells.
//! - `progress`: the progress bars of commands.
//! - `demo`: relay against a receiver that misbehaves.
//!
//! An event passes `api`, `store`, `dispatch` and `outbound`, and the outcome of an attempt goes back to the store.
//! `api` and `dispatch` know the store, and do not know each other.

mod access;
mod api;
mod cli;
mod clock;
mod config;
mod control;
mod demo;
mod dispatch;
mod doctor;
mod encryption;
mod error;
mod generate;
mod guard;
mod ids;
mod import;
mod json;
pub mod lifecycle;
mod log;
mod masked;
mod outbound;
mod parts;
mod pattern;
mod progress;
mod relay;
mod settings;
mod signature;
mod store;
mod tls;

pub use self::access::KeyScope;
pub use self::cli::{
    BackupArgs, CheckArgs, Cli, Command, ConfigArgs, DemoArgs, DoctorArgs, EraseArgs, GenerateArgs,
    ImportArgs, KeyArgs, LogFormat, RekeyArgs, RemovedArgs, RestoreArgs, RetentionArgs, ServeArgs,
};
pub use self::config::{
    AutoDisable, Backups, Config, CorsOrigin, EndpointLimits, Feeds, InFlight, KeySource, Retention,
    RetrySchedule, TenantQuotas, Timeouts,
};
pub use self::control::{
    CommandError, run_backup_command, run_check_command, run_erase_command, run_key_command,
    run_rekey_command, run_restore_command, run_retention_command,
};
pub use self::demo::{DemoError, DemoOptions, DemoReport, run_demo};
pub use self::doctor::run_doctor_command;
pub use self::error::{KeyFileError, OpenError, RunError, StartError};
pub use self::generate::run_generate_command;
pub use self::guard::{AddressGuard, BlockedAddressError};
pub use self::import::{ImportReport, run_import_command};
pub use self::log::start_log;
pub use self::pattern::{EventType, EventTypeError, MAX_TYPE_LENGTH, Pattern};
pub use self::relay::{Relay, Reloader};
pub use self::settings::{
    CommandLine, Mistake, Settings, SettingsError, reload_on_request, run_config_command,
};
pub use self::signature::{Secret, SecretError};
pub use self::store::RestoreError;
