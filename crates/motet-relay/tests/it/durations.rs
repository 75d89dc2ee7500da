//! Every time of the configuration, with odd ones: zero, one nanosecond, centuries, and the longest, which is never.

#[path = "../../../motet/tests/it/durations/scan.rs"]
mod scan;

use std::future::pending;
use std::num::NonZeroU32;
use std::time::Duration;

use motet_relay::{Config, Relay, Retention, RunError, StartError};
use scan::{ODD, check_complete};
use serde_json::json;

use crate::harness::{Embedded, FAIL, Feed, Home, Receiver, eventually, within};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// These only report a duration, or have the test below: the events of the other test would be deleted.
const NOT_HERE: [&str; 4] = [
    "lifecycle/events.rs BreakerOpened.open_for",
    "lifecycle/events.rs Delivered.took",
    "config.rs Retention.payload_keep",
    "config.rs Retention.rows_keep",
];

/// A setting, whether zero is refused, and how it is set.
type Row = (&'static str, Zero, fn(&mut Config) -> &mut Duration);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Zero {
    Refused,
    Works,
}

const TABLE: [Row; 12] = [
    ("config.rs Config.shutdown_grace", Zero::Works, |config| &mut config.shutdown_grace),
    ("config.rs RetrySchedule.base", Zero::Works, |config| &mut config.retry.base),
    ("config.rs RetrySchedule.cap", Zero::Works, |config| &mut config.retry.cap),
    ("config.rs RetrySchedule.max_age", Zero::Works, |config| &mut config.retry.max_age),
    ("config.rs EndpointLimits.breaker_open", Zero::Works, |config| &mut config.endpoint_limits.breaker_open),
    ("config.rs Feeds.keep_alive", Zero::Refused, |config| &mut config.feeds.keep_alive),
    ("config.rs Timeouts.connect", Zero::Refused, |config| &mut config.timeouts.connect),
    ("config.rs Timeouts.headers", Zero::Refused, |config| &mut config.timeouts.headers),
    ("config.rs Timeouts.total", Zero::Refused, |config| &mut config.timeouts.total),
    ("config.rs Backups.every", Zero::Refused, |config| config.backups.every.insert(Duration::MAX)),
    ("config.rs AutoDisable.after", Zero::Works, |config| &mut config.auto_disable.after),
    ("config.rs AutoDisable.probe_every", Zero::Refused, |config| &mut config.auto_disable.probe_every),
];

#[test]
fn every_duration_setting_has_a_row_in_the_test_table() {
    check_complete(SOURCES, TABLE.map(|(setting, ..)| setting), &NOT_HERE);
}

#[tokio::test]
async fn zero_timeout_keep_alive_or_probe_interval_is_refused() {
    for (setting, _, set) in TABLE.into_iter().filter(|(_, zero, _)| *zero == Zero::Refused) {
        let home = Home::new();
        let mut config = Embedded::config(&home);
        *set(&mut config) = Duration::ZERO;
        let run = Relay::run(config, |_| panic!("{setting} of zero is taken"), pending());
        let refused = within("relay to refuse it", run).await.unwrap_err();
        let RunError::Start(StartError::ZeroDuration { setting: named }) = refused else {
            panic!("{setting}: {refused:?}")
        };
        assert!(
            setting.to_lowercase().ends_with(&named.split_once('.').unwrap().1.to_lowercase()),
            "{setting}: {named}"
        );
    }
}

/// An endpoint that fails is held up by its breaker, its retries and its being disabled, and those of another are
/// delivered; relay ends in order.
#[tokio::test]
async fn deliveries_continue_with_zero_tiny_and_huge_durations() {
    for (setting, zero, set) in TABLE {
        let odd = ODD.into_iter().filter(|odd| zero == Zero::Works || !odd.is_zero());
        let side_by_side = odd.map(|odd| tokio::spawn(one_works_beside_one_that_fails(setting, odd, set)));
        for run in side_by_side.collect::<Vec<_>>() {
            run.await.unwrap();
        }
    }
}

async fn one_works_beside_one_that_fails(
    setting: &'static str,
    odd: Duration,
    set: fn(&mut Config) -> &mut Duration,
) {
    let relay = Embedded::start(|config| {
        config.retry.base = Duration::from_millis(1);
        config.retry.max_attempts = 2;
        config.endpoint_limits.breaker_failures = NonZeroU32::MIN;
        config.endpoint_limits.breaker_open = Duration::from_millis(1);
        config.auto_disable.failures = 2;
        *set(config) = odd;
    })
    .await;
    let client = &relay.client;
    let (fails, works) = (Receiver::start(|_| FAIL).await, Receiver::accepting().await);
    client.endpoint_at(&fails.url(), json!({"event_types": ["bad"]})).await;
    client.endpoint_at(&works.url(), json!({"event_types": ["good"]})).await;
    // Two, so that the second finds the breaker open.
    let bad = [client.publish("bad", json!({})).await, client.publish("bad", json!({})).await];
    // A timer is exact to a millisecond, which may be enough for an attempt over loopback, or not.
    let may_be_cut_off = setting.contains("Timeouts") && odd < Duration::from_millis(1);
    let attempted = || async {
        let first = client.delivery_of(&bad[0]).await;
        (first["attempts"].as_u64() > Some(0)).then_some(())
    };
    eventually(&format!("an attempt with {setting} = {odd:?}"), attempted).await;
    let mut feed = Feed::open(client, "", None).await;
    let good = client.publish("good", json!({})).await;
    let ended = || async {
        let delivery = client.delivery_of(&good).await;
        let is_over = delivery["state"] == "delivered" || may_be_cut_off && delivery["state"] == "dead";
        is_over.then_some(())
    };
    eventually(&format!("the end of a delivery with {setting} = {odd:?}"), ended).await;
    let event = within("the event in the feed", feed.event()).await.unwrap();
    assert_eq!(event["id"], good.as_str(), "{setting} = {odd:?}");
    drop(feed);
    drop(relay.stop().await);
}

#[tokio::test]
async fn events_are_delivered_with_odd_times_of_retention() {
    let keeps: [fn(&mut Retention) -> &mut Option<Duration>; 2] =
        [|retention| &mut retention.payload_keep, |retention| &mut retention.rows_keep];
    for (keep, odd) in keeps.into_iter().flat_map(|keep| ODD.map(|odd| (keep, odd))) {
        let relay = Embedded::start(|config| *keep(config.retention.as_mut().unwrap()) = Some(odd)).await;
        let receiver = Receiver::accepting().await;
        relay.client.endpoint_at(&receiver.url(), json!({"event_types": [">"]})).await;
        relay.client.publish("kept", json!({})).await;
        receiver.hits_at_least(1).await;
        drop(relay.stop().await);
    }
}
