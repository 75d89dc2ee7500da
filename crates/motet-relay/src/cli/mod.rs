//! The command line.

mod keys;
mod parse;
mod serve;
mod store;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::keys::KeyArgs;
pub(crate) use self::keys::{CreateKeyArgs, KeyAction, KeyExpiry, ListKeysArgs};
pub use self::serve::{LogFormat, ServeArgs};
pub(crate) use self::store::EraseAction;
pub use self::store::{BackupArgs, CheckArgs, EraseArgs, RekeyArgs, RestoreArgs, RetentionArgs};
use crate::config::KeySource;
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

/// The arguments of a command that does not exist any more.
#[derive(Debug, Clone, Args)]
pub struct RemovedArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _any: Vec<String>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory as _;

    use super::*;
    use crate::access::KeyScope;
    use crate::config::{Config, Retention};

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
