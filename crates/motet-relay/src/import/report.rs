//! The report of an import: its counts, and the objects and fields that it could not take.

use std::fmt::Write as _;

use serde::Serialize;

use crate::control::{printable, table};

/// The counts of an import, and the objects and fields that it could not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// Nothing was written.
    dry_run: bool,
    /// The source was read to its end.
    complete: bool,
    #[serde(flatten)]
    pub(super) totals: Totals,
    not_taken: Vec<NotTaken>,
    /// Number of further objects that were not taken; the list is limited.
    not_taken_more: u64,
}

/// Maximum number of objects that a report names.
const MAX_NOTES: usize = 10_000;

/// The objects of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    pub(super) event_types: Counts,
    pub(super) applications: Counts,
    pub(super) endpoints: Counts,
}

/// The objects of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Created; in a dry run, missing in relay.
    pub(super) created: u64,
    /// Found in relay, and left as they are.
    pub(super) present: u64,
    /// Not created.
    pub(super) refused: u64,
}

/// Something of the source that relay does not have after the import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct NotTaken {
    /// The object, such as `endpoint "ep_1" of application "acme"`.
    pub(super) object: String,
    pub(super) reason: String,
}

impl ImportReport {
    pub(super) fn new(dry_run: bool) -> Self {
        Self { dry_run, complete: false, totals: Totals::default(), not_taken: Vec::new(), not_taken_more: 0 }
    }

    pub(super) fn note(&mut self, object: String, reason: String) {
        if self.not_taken.len() < MAX_NOTES {
            self.not_taken.push(NotTaken { object, reason });
        } else {
            self.not_taken_more += 1;
        }
    }

    /// The source was read to its end.
    pub(super) const fn completed(mut self) -> Self {
        self.complete = true;
        self
    }

    /// Returns `true` if the source was read to its end.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) const fn applications_seen(&self) -> u64 {
        let Counts { created, present, refused } = self.totals.applications;
        created + present + refused
    }

    /// The progress in one line.
    pub(super) fn line(&self) -> String {
        let Totals { event_types, applications, endpoints } = self.totals;
        let of = |counts: Counts| counts.created + counts.present + counts.refused;
        format!(
            "{} event types, {} applications, {} endpoints ({} new, {} not taken)",
            of(event_types),
            of(applications),
            of(endpoints),
            endpoints.created,
            self.not_taken.len() as u64 + self.not_taken_more,
        )
    }

    /// The report, for people.
    pub(super) fn text(&self) -> String {
        let row = |kind: &str, counts: Counts| {
            let Counts { created, present, refused } = counts;
            [kind.to_owned(), created.to_string(), present.to_string(), refused.to_string()]
        };
        let rows = [
            row("event types", self.totals.event_types),
            row("applications", self.totals.applications),
            row("endpoints", self.totals.endpoints),
        ];
        let created = if self.dry_run { "TO CREATE" } else { "CREATED" };
        let mut text = table(["", created, "PRESENT", "REFUSED"], &rows, "");
        if !self.not_taken.is_empty() {
            text.push_str("\nNot taken:\n");
        }
        for NotTaken { object, reason } in &self.not_taken {
            // Writing to a string succeeds.
            let _ = writeln!(text, "  {}: {}", printable(object), printable(reason));
        }
        if self.not_taken_more > 0 {
            let _ = writeln!(text, "  and {} more", self.not_taken_more);
        }
        text.push_str(match (self.complete, self.dry_run) {
            (false, _) => "\nThe import is not complete. Run the command again to continue.\n",
            (true, true) => {
                "\nNothing was written. Objects that relay refuses, such as a URL in a private network, show when the \
                 command runs without --dry-run.\n"
            }
            (true, false) => "",
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_shows_counts_reasons_and_what_is_next() {
        let totals = Totals {
            event_types: Counts { created: 1, present: 2, refused: 0 },
            endpoints: Counts { created: 10, present: 0, refused: 1 },
            ..Totals::default()
        };
        let mut report = ImportReport { totals, ..ImportReport::new(false) };
        report.note("endpoint \"e\"".to_owned(), "a\u{1b}[2Jb".to_owned());
        let text = "              CREATED  PRESENT  REFUSED\nevent types   1        2        0\n\
                    applications  0        0        0\nendpoints     10       0        1\n\n\
                    Not taken:\n  endpoint \"e\": a\u{fffd}[2Jb\n\n\
                    The import is not complete. Run the command again to continue.\n";
        assert_eq!(report.text(), text);
        assert_eq!(report.line(), "3 event types, 0 applications, 11 endpoints (10 new, 1 not taken)");
    }
}
