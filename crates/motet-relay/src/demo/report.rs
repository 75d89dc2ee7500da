//! The result of the demo.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::receiver::SeenEvent;

/// The result of a demo. The receiver counts; `accepted` and `dead` come from relay's responses.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DemoReport {
    /// Number of events that were answered with 202.
    pub accepted: u32,
    /// Number of events that the receiver accepted at least once.
    pub delivered: u32,
    /// Number of events that needed more than one attempt.
    pub retried: u32,
    /// Number of events that became dead letters.
    pub dead: u32,
    /// Number of times that the receiver accepted an event that it had accepted before.
    pub duplicates: u32,
    /// Number of acknowledged events that neither arrived nor are dead letters.
    pub lost: u32,
    /// Delivered events per second, from the first publish to the last arrival.
    pub events_per_s: f64,
    /// Median time from publishing to arrival in milliseconds, retries included.
    pub p50_ms: f64,
    /// 99th percentile of the time from publishing to arrival in milliseconds, retries included.
    pub p99_ms: f64,
}

impl DemoReport {
    pub(super) fn new(accepted: u32, dead: u32, took: Duration, tally: &[SeenEvent]) -> Self {
        let count = |of: &dyn Fn(&SeenEvent) -> bool| {
            u32::try_from(tally.iter().filter(|s| of(s)).count()).unwrap_or(u32::MAX)
        };
        let delivered = count(&|seen| seen.accepted > 0);
        let mut latencies: Vec<_> = tally
            .iter()
            .filter_map(|seen| Some((seen.arrived? - seen.sent?).as_secs_f64() * 1_000.0))
            .collect();
        latencies.sort_unstable_by(f64::total_cmp);
        Self {
            accepted,
            delivered,
            retried: count(&|seen| seen.attempts > 1),
            dead,
            duplicates: tally.iter().map(|seen| seen.accepted.saturating_sub(1)).sum(),
            lost: accepted.saturating_sub(delivered).saturating_sub(dead),
            events_per_s: round(f64::from(delivered) / took.as_secs_f64().max(0.001)),
            p50_ms: round(quantile(&latencies, 0.50)),
            p99_ms: round(quantile(&latencies, 0.99)),
        }
    }

    /// Returns `true` if every acknowledged event arrived.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.lost == 0 && self.dead == 0
    }

    /// Returns the result as one JSON object without a line break.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// Returns the result as a table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = String::new();
        let must_be_zero = |n: u32| if n == 0 { "" } else { "  <- must be 0" };
        let rows = [
            ("accepted", self.accepted.to_string(), ""),
            ("delivered", self.delivered.to_string(), ""),
            ("retried", self.retried.to_string(), ""),
            ("dead", self.dead.to_string(), must_be_zero(self.dead)),
            ("duplicates", self.duplicates.to_string(), ""),
            ("lost", self.lost.to_string(), must_be_zero(self.lost)),
            ("events/s", self.events_per_s.to_string(), ""),
            ("p50", format!("{} ms", self.p50_ms), ""),
            ("p99", format!("{} ms", self.p99_ms), ""),
        ];
        for (name, value, remark) in rows {
            // Writing to a String never fails.
            let _infallible = writeln!(table, "{name:<12}{value:>12}{remark}");
        }
        table
    }
}

/// Returns the smallest value that at least `share` of the values do not exceed (nearest rank).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn demo_report_computes_figures_and_writes_them_as_json() {
        let sent = Instant::now();
        let arrived = |ms, attempts, accepted| SeenEvent {
            sent: Some(sent),
            attempts,
            accepted,
            arrived: Some(sent + Duration::from_millis(ms)),
        };
        let missing = SeenEvent { sent: Some(sent), attempts: 3, ..SeenEvent::default() };
        let tally = [arrived(10, 1, 1), arrived(30, 2, 2), arrived(20, 1, 1), missing.clone(), missing];
        let report = DemoReport::new(5, 1, Duration::from_secs(2), &tally);
        assert_eq!(
            report,
            DemoReport {
                accepted: 5,
                delivered: 3,
                retried: 3,
                dead: 1,
                duplicates: 1,
                lost: 1,
                events_per_s: 1.5,
                p50_ms: 20.0,
                p99_ms: 30.0,
            }
        );
        assert!(!report.is_clean());
        assert_eq!(
            report.json(),
            r#"{"accepted":5,"dead":1,"delivered":3,"duplicates":1,"events_per_s":1.5,"lost":1,"p50_ms":20.0,"p99_ms":30.0,"retried":3}"#
        );
    }
}
