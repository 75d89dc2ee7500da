//! The log of the program: lines on standard error.

use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Starts the log with this filter; without one with that of the environment variable `RUST_LOG`, or else with `default`.
///
/// Each line belongs to one event: control characters of a value, which may come from a client, are escaped.
///
/// # Panics
/// If a log was started before.
pub fn start_log(filter: Option<&str>, default: &str, format: LogFormat) {
    let filter = match filter {
        Some(filter) => EnvFilter::new(filter),
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default)),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    if format == LogFormat::Json {
        // JSON has no control characters: they are escaped in its strings.
        log.json().flatten_event(true).with_writer(motet::run::stderr).init();
    } else if io::stderr().is_terminal() {
        // The colors are control characters too; those of values are escaped by the formatter.
        log.with_ansi(true).with_writer(motet::run::stderr).init();
    } else {
        log.with_ansi(false).with_writer(|| Escaping(motet::run::stderr())).init();
    }
}

/// Escapes the control characters of a line, apart from the end of the line.
#[derive(Debug)]
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    /// The formatter writes each event at once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = event.strip_suffix(b"\n").unwrap_or(event);
        if !line.iter().any(u8::is_ascii_control) {
            return self.0.write_all(event).map(|()| event.len());
        }
        let mut escaped = Vec::with_capacity(event.len() + 16);
        for &byte in line {
            if byte.is_ascii_control() {
                escaped.extend(byte.escape_ascii());
            } else {
                escaped.push(byte);
            }
        }
        escaped.extend_from_slice(&event[line.len()..]);
        self.0.write_all(&escaped).map(|()| event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_with_control_characters_stays_one_line() {
        let mut written = Vec::new();
        let mut writer = Escaping(&mut written);
        writer.write_all(b"INFO type=a\nERROR forged \x1b[2J \xc3\xbc\n").unwrap();
        writer.write_all(b"INFO plain\n").unwrap();
        let expected = "INFO type=a\\nERROR forged \\x1b[2J \u{fc}\nINFO plain\n";
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
}
