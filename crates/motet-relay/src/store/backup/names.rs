//! The names of the backups that relay makes by itself. Only files with such a name are ever deleted.

use crate::clock::Millis;

const BACKUP: &str = "relay-";
const BEFORE_UPGRADE: &str = "before-upgrade-";
const EXTENSION: &str = ".db";

/// Digits for `20261201T014611.123Z`.
const TIME_FORMAT: &str = "%Y%m%dT%H%M%S%.3fZ";

/// Returns the name of a backup that is made at `at`.
pub(super) fn of_backup(at: Millis) -> String {
    format!("{BACKUP}{}{EXTENSION}", time(at))
}

/// Returns the name of the backup that is made before an upgrade.
pub(in crate::store) fn before_upgrade(from: i64, to: i64, at: Millis) -> String {
    format!("{BEFORE_UPGRADE}{from}-to-{to}-{}{EXTENSION}", time(at))
}

/// Returns when the backup of this name was made; `None` if relay has not made it on request or by its schedule.
pub(super) fn time_of_backup(name: &str) -> Option<Millis> {
    let text = name.strip_prefix(BACKUP)?.strip_suffix(EXTENSION)?;
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S%.f", text.strip_suffix('Z')?).ok()?;
    let at = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond();
    (of_backup(at) == name).then_some(at)
}

/// Returns `true` if relay gives its backups such names.
pub(super) fn is_of_relay(name: &str) -> bool {
    time_of_backup(name).is_some() || (name.starts_with(BEFORE_UPGRADE) && name.ends_with(EXTENSION))
}

fn time(at: Millis) -> String {
    // Every time of the system's clock is within the range of a timestamp.
    let at = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
    at.strftime(TIME_FORMAT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_backup_has_its_time() {
        let at = 1_796_089_469_043;
        assert_eq!(of_backup(at), "relay-20261201T014429.043Z.db");
        assert_eq!(time_of_backup(&of_backup(at)), Some(at));
        assert_eq!(time_of_backup(&of_backup(0)), Some(0));
        let before = before_upgrade(10, 11, at);
        assert_eq!(before, "before-upgrade-10-to-11-20261201T014429.043Z.db");
        assert!(is_of_relay(&before) && is_of_relay(&of_backup(at)));
        assert_eq!(time_of_backup(&before), None);
    }

    #[test]
    fn other_files_are_not_taken_for_backups() {
        for name in [
            "relay.db",
            "relay-.db",
            "relay-20261201T014429Z.db",
            "relay-20261301T014429.043Z.db",
            "relay-20261201T014429.043Z.db.partial",
            "relay-20261201T014429.0430Z.db",
            "my-relay-20261201T014429.043Z.db",
            "relay-20261201T014429.043Z.sqlite",
        ] {
            assert!(!is_of_relay(name), "{name}");
        }
    }
}
