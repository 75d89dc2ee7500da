//! The settings of `serve`, and where each of them comes from.
//!
//! An option of `serve` is a setting, with one name in three places:
//!
//! | Place | For example |
//! |---|---|
//! | the command line | `--max-attempts 5` |
//! | the environment | `RELAY_MAX_ATTEMPTS=5` |
//! | the file that `--config` or `RELAY_CONFIG` names | `max_attempts = 5` |
//!
//! The command line overrides the environment, and the environment overrides the file. The values of the file become
//! the default values of the options, so that all three are parsed and checked by the same code.

mod error;
mod file;
mod reload;
mod show;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

pub use self::error::{Mistake, SettingsError};
use self::file::SettingsFile;
pub use self::reload::reload_on_request;
pub use self::show::run_config_command;
use crate::cli::{Cli, Command};

/// The prefix of the environment variables of settings.
const PREFIX: &str = "RELAY_";

/// The name of the option that names the file.
const CONFIG: &str = "config";

/// The data directory of commands that do not name one: that of the relay with this environment.
const DATA_VARIABLE: &str = "RELAY_DATA";

/// The key file of commands that do not name one.
const KEY_FILE_VARIABLE: &str = "RELAY_KEY_FILE";

/// Environment variables with the prefix that are no settings.
const OTHER_VARIABLES: [&str; 1] = ["RELAY_KEY"];

/// The commands whose options are settings; the program without a command has them too.
const SERVE: &str = "serve";
const CONFIG_COMMANDS: [&str; 2] = ["check", "show"];
const DOCTOR: &str = "doctor";

/// The command line with the settings of the environment and of the file.
#[derive(Debug)]
pub struct CommandLine {
    command: Command,
    settings: Settings,
}

/// The settings of `serve` with their origins.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    all: Vec<Setting>,
    file: Option<PathBuf>,
    unknown_variables: Vec<Mistake>,
}

/// A setting, its value as text, and where the value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    name: String,
    values: Vec<String>,
    origin: Origin,
}

/// Where the value of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Default,
    File { line: usize },
    Environment,
    CommandLine,
}

impl CommandLine {
    /// Parses the arguments of the program, with the environment and the file that they name.
    ///
    /// # Errors
    /// [`SettingsError::Arguments`] for the command line and the environment, also for `--help` and `--version`;
    /// [`SettingsError::File`] with all mistakes of the file.
    pub fn parse() -> Result<Self, SettingsError> {
        Self::parse_from(env::args_os())
    }

    fn parse_from(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, SettingsError> {
        let arguments: Vec<_> = arguments.into_iter().collect();
        let command = with_variables(Cli::command());
        let mut matches = command.clone().try_get_matches_from(&arguments)?;
        let mut file = None;
        if let Some(path) = serve_matches(&matches).and_then(|serve| serve.get_one::<PathBuf>(CONFIG)) {
            let read = SettingsFile::read(path, &command)?;
            matches = read.as_defaults_of(command).try_get_matches_from(&arguments)?;
            file = Some(read);
        }
        let settings = Settings::of(&matches, file.as_ref());
        let cli = Cli::from_arg_matches(&matches)?;
        Ok(Self { command: cli.into_command(), settings })
    }

    /// Returns the command, and the settings if it is `serve` or `config`.
    #[must_use]
    pub fn into_parts(self) -> (Command, Settings) {
        (self.command, self.settings)
    }
}

impl Settings {
    fn of(matches: &ArgMatches, file: Option<&SettingsFile>) -> Self {
        let Some(serve) = serve_matches(matches) else { return Self::default() };
        let names = setting_names();
        let all = names.iter().map(|name| Setting::of(name, serve, file)).collect();
        let variables = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Self {
            all,
            file: file.map(|file| file.path().to_owned()),
            unknown_variables: unknown(variables, &names),
        }
    }

    /// The file, if one is in use.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The environment variables with the prefix of settings that name no setting.
    #[must_use]
    pub fn unknown_variables(&self) -> &[Mistake] {
        &self.unknown_variables
    }

    /// Takes over those settings of `new` that are applied. The others stay, so that each reload names what still needs a
    /// restart.
    fn keep(&mut self, new: Self, applied: &[String]) {
        for (old, new) in self.all.iter_mut().zip(new.all) {
            if applied.contains(&old.name) {
                *old = new;
            }
        }
    }

    /// The names of the settings with other values in `new`, in the order of the options.
    fn changed(&self, new: &Self) -> Vec<String> {
        let both = self.all.iter().zip(&new.all);
        both.filter(|(old, new)| old.values != new.values).map(|(old, _)| old.name.clone()).collect()
    }
}

impl Setting {
    fn of(name: &str, serve: &ArgMatches, file: Option<&SettingsFile>) -> Self {
        let raw = serve.get_raw(name).into_iter().flatten();
        let values = raw.map(|value| value.to_string_lossy().into_owned()).collect();
        let in_file = file.and_then(|file| file.line_of(name));
        let origin = match (serve.value_source(name), in_file) {
            (Some(ValueSource::CommandLine), _) => Origin::CommandLine,
            (Some(ValueSource::EnvVariable), _) => Origin::Environment,
            (_, Some(line)) => Origin::File { line },
            (_, None) => Origin::Default,
        };
        Self { name: name.to_owned(), values, origin }
    }
}

/// Returns the data directory of a command that names none.
pub(crate) fn default_data() -> PathBuf {
    env::var_os(DATA_VARIABLE).map_or_else(|| crate::Config::DEFAULT_DATA.into(), PathBuf::from)
}

/// Returns the key file of a command that names none, if the environment does.
pub(crate) fn default_key_file() -> Option<PathBuf> {
    env::var_os(KEY_FILE_VARIABLE).map(PathBuf::from)
}

/// The names of all settings, in the order of the options.
fn setting_names() -> Vec<String> {
    let command = Cli::command();
    options_of(&command).map(|option| option.get_id().to_string()).collect()
}

/// The options of the program without a command, which are those of `serve`, apart from `--config`.
fn options_of(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    command.get_arguments().filter(|option| {
        let id = option.get_id();
        option.get_long().is_some() && id != CONFIG && id != "help" && id != "version"
    })
}

/// Returns the matches of the options of `serve`, if the command has them.
fn serve_matches(matches: &ArgMatches) -> Option<&ArgMatches> {
    match matches.subcommand() {
        None => Some(matches),
        Some((SERVE | DOCTOR, serve)) => Some(serve),
        Some((CONFIG, config)) => config.subcommand().map(|(_, serve)| serve),
        Some(_) => None,
    }
}

/// Changes the options of each command that has those of `serve`.
fn on_serve_options(command: clap::Command, change: impl Fn(clap::Arg) -> clap::Arg + Copy) -> clap::Command {
    let config = |mut config: clap::Command| {
        for name in CONFIG_COMMANDS {
            config = config.mut_subcommand(name, |command| command.mut_args(change));
        }
        config
    };
    command
        .mut_args(change)
        .mut_subcommand(SERVE, |serve| serve.mut_args(change))
        .mut_subcommand(DOCTOR, |doctor| doctor.mut_args(change))
        .mut_subcommand(CONFIG, config)
}

/// Sets an environment variable for each setting.
fn with_variables(command: clap::Command) -> clap::Command {
    on_serve_options(command, |option| {
        if option.get_long().is_none() {
            return option;
        }
        let variable = variable_of(option.get_id().as_str());
        // The help names the rule once, and no values of the environment.
        option.env(variable).hide_env(true)
    })
}

fn variable_of(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase())
}

/// Returns the variables with the prefix that name no setting.
fn unknown(variables: impl Iterator<Item = String>, names: &[String]) -> Vec<Mistake> {
    let known: Vec<_> = names.iter().map(|name| variable_of(name)).chain([variable_of(CONFIG)]).collect();
    let mut unknown: Vec<_> = variables
        .filter(|name| name.starts_with(PREFIX))
        .filter(|name| !known.contains(name) && !OTHER_VARIABLES.contains(&name.as_str()))
        .map(|name| Mistake::unknown_variable(&name, &known))
        .collect();
    unknown.sort_by_key(ToString::to_string);
    unknown
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<CommandLine, SettingsError> {
        let all = [&["motet-relay"], arguments].concat();
        CommandLine::parse_from(all.into_iter().map(OsString::from))
    }

    fn with_file(text: &str, check: impl FnOnce(&str)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        fs::write(&path, text).unwrap();
        check(path.to_str().unwrap());
    }

    fn config(line: CommandLine) -> crate::Config {
        match line.into_parts().0 {
            Command::Serve(serve) => (*serve).into(),
            other => panic!("{other:?}"),
        }
    }

    fn origin(line: &CommandLine, name: &str) -> Origin {
        line.settings.all.iter().find(|setting| setting.name == name).unwrap().origin.clone()
    }

    #[test]
    fn command_line_overrides_the_file_and_the_file_the_default() {
        let text = "max_attempts = 5\nlisten = \"127.0.0.1:9\"\nallow_net = [\"10.0.0.0/8\", \"::1\"]\n\
                    retry_base = 2.5\nin_flight = 1_000\n";
        with_file(text, |path| {
            for command in [&["--config", path][..], &["serve", "--config", path]] {
                let line = parse(&[command, &["--max-attempts", "7"]].concat()).unwrap();
                assert_eq!(origin(&line, "max_attempts"), Origin::CommandLine);
                assert_eq!(origin(&line, "listen"), Origin::File { line: 2 });
                assert_eq!(origin(&line, "retry_cap"), Origin::Default);
                let config = config(line);
                assert_eq!((config.retry.max_attempts, config.listen.port()), (7, 9));
                assert_eq!(config.retry.base.as_millis(), 2_500);
                assert_eq!((config.allow_net.len(), config.in_flight.total.get()), (2, 1_000));
            }
        });
    }

    #[test]
    fn each_option_of_serve_is_a_setting_of_every_place() {
        let command = with_variables(Cli::command());
        let serve = command.find_subcommand(SERVE).unwrap();
        let names = setting_names();
        assert!(names.len() > 25, "{names:?}");
        let ids: Vec<_> = options_of(serve).map(|option| option.get_id().to_string()).collect();
        assert_eq!(ids, names);
        for option in options_of(serve) {
            let id = option.get_id().to_string();
            assert_eq!(option.get_long().unwrap().replace('-', "_"), id);
            assert_eq!(option.get_env().unwrap().to_str().unwrap(), variable_of(&id));
        }
    }

    #[test]
    fn every_mistake_of_a_file_is_reported_with_its_line() {
        let text = "max_atempts = 5\nretry_base = \"soon\"\nin_flight = [1, 2]\nlisten = { port = 1 }\n\
                    [tenant]\nconfig = \"x\"\n";
        with_file(text, |path| {
            let Err(SettingsError::File { mistakes, .. }) = parse(&["--config", path]) else { panic!() };
            let shown: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            let beginnings = [
                "line 1: there is no setting `max_atempts`; did you mean `max_attempts`?",
                "line 2: `retry_base` is \"soon\": not a number",
                "line 3: `in_flight` is a list; write one value",
                "line 4: `listen` is a table",
                "line 5: there is no setting `tenant`",
            ];
            assert_eq!(shown.len(), beginnings.len(), "{shown:#?}");
            for (shown, beginning) in shown.iter().zip(beginnings) {
                assert!(shown.starts_with(beginning), "{shown:?} is not {beginning:?}");
            }
        });
    }

    #[test]
    fn file_that_is_not_toml_is_refused_with_its_line() {
        with_file("max_attempts = 5\nlisten = \n", |path| {
            let error = parse(&["--config", path]).unwrap_err().to_string();
            assert!(error.contains("relay.toml") && error.contains("line 2"), "{error}");
        });
        let error = parse(&["--config", "/nonexistent/relay.toml"]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/relay.toml"), "{error}");
    }

    #[test]
    fn variables_that_name_no_setting_are_found() {
        let names = setting_names();
        let variables = ["RELAY_LISTEN", "RELAY_KEY", "RELAY_CONFIG", "RELAY_LISTNE", "PATH", "RELAY"];
        let found = unknown(variables.into_iter().map(str::to_owned), &names);
        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["there is no setting `RELAY_LISTNE`; did you mean `RELAY_LISTEN`?"]);
    }

    #[test]
    fn settings_that_change_without_a_restart_exist() {
        let names = setting_names();
        for name in crate::Reloader::SETTINGS {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
    }

    #[test]
    fn changed_settings_are_those_with_other_values() {
        let settings = |text: &str| {
            let mut parsed = None;
            with_file(text, |path| parsed = Some(parse(&["--config", path]).unwrap().settings));
            parsed.unwrap()
        };
        let old = settings("max_attempts = 5\nretry_cap = 9\n");
        let new = settings("retry_cap = 9\nmax_attempts = 6\nmax_feeds = 100\n");
        assert_eq!(old.changed(&new), ["max_attempts"]);
    }
}
