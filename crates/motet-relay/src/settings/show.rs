//! `motet-relay config`

use std::io;

use serde::Serialize;
use url::Url;

use super::{Origin, Setting, Settings};
use crate::cli::{ConfigAction, ConfigArgs};
use crate::config::Config;
use crate::control::{CommandError, json_text, printable, table};

/// A setting as JSON.
#[derive(Debug, Serialize)]
struct ShownSetting {
    name: String,
    /// `None` if the setting has no value; a list if the setting takes several.
    value: Option<String>,
    origin: String,
}

/// Runs `motet-relay config`, and passes its output to `show`. The settings have been read, and are valid one by one.
///
/// # Errors
/// [`CommandError::Settings`] if settings contradict each other; [`CommandError::Output`].
pub fn run_config_command(
    args: ConfigArgs,
    settings: &Settings,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> Result<(), CommandError> {
    let text = match args.action {
        ConfigAction::Check(serve) => {
            Config::from(*serve).check()?;
            if let Some(unknown) = settings.unknown_variables().first() {
                return Err(CommandError::UnknownVariable(unknown.clone()));
            }
            let set = settings.all.iter().filter(|setting| setting.origin != Origin::Default).count();
            match settings.file() {
                Some(path) => {
                    format!("{} is valid; {set} settings differ from the defaults\n", path.display())
                }
                None => format!("the settings are valid; {set} are set, and no file is in use (--config)\n"),
            }
        }
        ConfigAction::Show(show) => {
            let shown: Vec<_> = settings.all.iter().map(|setting| setting.shown(settings)).collect();
            if show.json {
                json_text(&shown)?
            } else {
                let row =
                    |setting: ShownSetting| [setting.name, setting.value.unwrap_or_default(), setting.origin];
                let rows: Vec<_> = shown.into_iter().map(row).collect();
                table(["SETTING", "VALUE", "FROM"], &rows, "there are no settings")
            }
        }
    };
    show(&text).map_err(CommandError::Output)
}

impl Setting {
    fn shown(&self, settings: &Settings) -> ShownSetting {
        let origin = match (&self.origin, settings.file()) {
            (Origin::File { line }, Some(path)) => format!("{}, line {line}", path.display()),
            (Origin::File { line }, None) => format!("file, line {line}"),
            (Origin::Environment, _) => super::variable_of(&self.name),
            (Origin::CommandLine, _) => "command line".to_owned(),
            (Origin::Default, _) => "default".to_owned(),
        };
        let values: Vec<_> = self.values.iter().map(|value| printable(&masked(value))).collect();
        let value = (!values.is_empty()).then(|| values.join(", "));
        ShownSetting { name: self.name.clone(), value, origin }
    }
}

/// Replaces the user and the password in a URL.
fn masked(value: &str) -> String {
    match Url::parse(value) {
        Ok(mut url) if !url.username().is_empty() || url.password().is_some() => {
            // A URL with a user has a host, so both can be set.
            let _ = url.set_username("***");
            let _ = url.set_password(None);
            url.to_string()
        }
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_of_a_url_are_masked() {
        assert_eq!(masked("http://me:secret@proxy:3128"), "http://***@proxy:3128/");
        assert_eq!(masked("127.0.0.1:8181"), "127.0.0.1:8181");
        assert_eq!(masked("https://app.example"), "https://app.example");
    }
}
