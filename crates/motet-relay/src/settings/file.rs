//! The settings file: TOML with one key per setting.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ArgAction;
use toml::de::{DeTable, DeValue};

use super::{Mistake, SERVE, SettingsError, on_serve_options, options_of};

/// A file whose settings are valid.
#[derive(Debug)]
pub(super) struct SettingsFile {
    path: PathBuf,
    settings: Vec<FileSetting>,
}

#[derive(Debug)]
struct FileSetting {
    name: String,
    line: usize,
    values: Vec<String>,
}

impl SettingsFile {
    /// Reads the file, and checks each of its settings as an option of `command`.
    pub(super) fn read(path: &Path, command: &clap::Command) -> Result<Self, SettingsError> {
        let text = fs::read_to_string(path)
            .map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
        let invalid = |mistakes| SettingsError::File { path: path.to_owned(), mistakes };
        let table = DeTable::parse(&text).map_err(|error| {
            let line = line_at(&text, error.span().map_or(0, |span| span.start));
            invalid(vec![Mistake::in_line(line, error.message())])
        })?;
        let names: Vec<_> = options_of(command).map(|option| option.get_id().to_string()).collect();
        let (mut settings, mut mistakes) = (Vec::new(), Vec::new());
        for (key, value) in table.get_ref() {
            let line = line_at(&text, key.span().start);
            let name = key.get_ref().to_string();
            let Some(option) = options_of(command).find(|option| option.get_id() == name.as_str()) else {
                mistakes.push((line, Mistake::unknown_setting(line, &name, &names)));
                continue;
            };
            let read = values_of(value.get_ref(), option).map_err(|is| format!("`{name}` is {is}"));
            match read.and_then(|values| parse_alone(command, option, &values).map(|()| values)) {
                Ok(values) => settings.push(FileSetting { name, line, values }),
                Err(what) => mistakes.push((line, Mistake::in_line(line, what))),
            }
        }
        if mistakes.is_empty() {
            return Ok(Self { path: path.to_owned(), settings });
        }
        mistakes.sort_by_key(|(line, _)| *line);
        Err(invalid(mistakes.into_iter().map(|(_, mistake)| mistake).collect()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The line of a setting, counted from 1.
    pub(super) fn line_of(&self, name: &str) -> Option<usize> {
        self.find(name).map(|setting| setting.line)
    }

    /// Makes the settings the default values of their options.
    pub(super) fn as_defaults_of(&self, command: clap::Command) -> clap::Command {
        on_serve_options(command, |option| match self.find(option.get_id().as_str()) {
            Some(setting) => option.default_values(setting.values.clone()),
            None => option,
        })
    }

    fn find(&self, name: &str) -> Option<&FileSetting> {
        self.settings.iter().find(|setting| setting.name == name)
    }
}

/// Returns a value of the file as the values of an option, or what the value is instead.
fn values_of(value: &DeValue<'_>, option: &clap::Arg) -> Result<Vec<String>, String> {
    let is_list = matches!(option.get_action(), ArgAction::Append);
    match value {
        DeValue::Array(items) if is_list => items.iter().map(|item| one(item.get_ref())).collect(),
        DeValue::Array(_) => Err("a list; write one value".to_owned()),
        other => one(other).map(|value| vec![value]),
    }
}

fn one(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|error| format!("not a number: {error}")),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(is) => Ok(is.to_string()),
        DeValue::Datetime(_) => Err("a date; write it in quotes".to_owned()),
        DeValue::Array(_) => Err("a list in a list; write one list of values".to_owned()),
        DeValue::Table(_) => Err("a table; write one value, as on the command line".to_owned()),
    }
}

/// Parses the values as an option of `serve`, so that an error belongs to this setting.
fn parse_alone(command: &clap::Command, option: &clap::Arg, values: &[String]) -> Result<(), String> {
    let name = option.get_id().as_str();
    let shown = || values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ");
    if matches!(option.get_action(), ArgAction::SetTrue) {
        return match values {
            [value] if value == "true" || value == "false" => Ok(()),
            _ => Err(format!("`{name}` is {}; write true or false", shown())),
        };
    }
    let long = option.get_long().unwrap_or(name);
    let options = values.iter().map(|value| format!("--{long}={value}"));
    let arguments = [command.get_name().to_owned(), SERVE.to_owned()].into_iter().chain(options);
    match command.clone().try_get_matches_from(arguments) {
        Ok(_) => Ok(()),
        Err(error) => {
            let why = std::error::Error::source(&error).map_or_else(
                || error.to_string().lines().next().unwrap_or_default().to_owned(),
                ToString::to_string,
            );
            Err(format!("`{name}` is {}: {why}", shown()))
        }
    }
}

/// The line of a position, counted from 1.
fn line_at(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}
