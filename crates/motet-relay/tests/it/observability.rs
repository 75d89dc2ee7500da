//! Health, metrics, the page and the help.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{FAIL, Feed, Receiver, Relay, program};

#[tokio::test]
async fn metrics_show_totals_to_all_and_endpoints_to_a_key() {
    let receiver = Receiver::accepting().await;
    let broken = Receiver::start(|_| FAIL).await;
    let relay = Relay::start_with(&["--max-attempts", "1"]).await;
    let client = relay.client();
    let good = client.endpoint_at(&receiver.url(), json!({"event_types": ["good"]})).await;
    let bad = client.endpoint_at(&broken.url(), json!({"event_types": ["bad"]})).await;
    let delivered = client.publish("good", json!({})).await;
    let dead = client.publish("bad", json!({})).await;
    client.delivery_in_state(&delivered, "delivered").await;
    client.delivery_in_state(&dead, "dead").await;
    // A scraper needs no key.
    let answer = client.request(Method::GET, "/metrics", &[], "").await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    let text = answer.text();
    for line in [
        "relay_attempts_total{outcome=\"delivered\"} 1",
        "relay_attempts_total{outcome=\"dead\"} 1",
        "relay_pending 0",
        "relay_dead 1",
        "relay_store_writable 1",
        "relay_store_bytes{file=\"log\"} ",
        "relay_disk_free_bytes ",
        "relay_connections 1",
        "relay_delivery_seconds_count 1",
        "relay_http_requests_total{method=\"POST\",path=\"/v1/events\",status=\"202\"} 2",
    ] {
        // A line that ends with a space has a value that depends on the machine.
        let is_there = |l: &str| if line.ends_with(' ') { l.starts_with(line) } else { l == line };
        assert!(text.lines().any(is_there), "{line} is missing:\n{text}");
    }
    assert!(!text.contains("127.0.0.1"), "metrics name a receiver");
    // The number and the backlogs of endpoints are the business of those who may read all tenants.
    for (scope, tenant, is_shown) in [
        ("read", None, true),
        ("admin", None, true),
        ("publish", None, false),
        ("admin", Some("default"), false),
    ] {
        let made = client.post("/v1/keys", json!({"scopes": [scope], "tenant": tenant})).await.json();
        let text = client.with_key(made["key"].as_str().unwrap().to_owned()).get("/metrics").await.text();
        for line in [
            format!("relay_endpoint_pending{{endpoint=\"{good}\"}} 0"),
            format!("relay_endpoint_dead{{endpoint=\"{bad}\"}} 1"),
        ] {
            assert_eq!(text.lines().any(|l| l == line), is_shown, "{scope} {tenant:?}: {line}\n{text}");
        }
    }
    let text = client.with_key("rk_unknown1_secret".to_owned()).get("/metrics").await.text();
    assert!(!text.contains("ep_") && text.contains("relay_dead 1"), "{text}");
}

#[tokio::test]
async fn sigusr1_logs_a_snapshot_of_the_tasks_of_relay() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    client.endpoint(&receiver).await;
    let event = client.publish("a", json!({})).await;
    client.delivery_in_state(&event, "delivered").await;
    let _feed = Feed::open(client, "", None).await;
    relay.signal(Signal::USR1);
    // The snapshot includes the kept connection to the receiver.
    for shown in
        ["http server `api`", "bulkhead `feeds`: limit 100, in_flight 1", "service `http connection`"]
    {
        relay.log_line(shown).await;
    }
}

#[tokio::test]
async fn unknown_methods_share_one_time_series() {
    let relay = Relay::start().await;
    for n in 0..20 {
        let method = Method::from_bytes(format!("INVENTED{n}").as_bytes()).unwrap();
        relay.client().request(method, "/healthz", &[], "").await.unwrap();
    }
    let text = relay.client().request(Method::GET, "/metrics", &[], "").await.unwrap().text();
    assert!(text.contains("method=\"other\"") && !text.contains("INVENTED"), "{text}");
}

#[tokio::test]
async fn health_and_readiness_need_no_api_key() {
    let relay = Relay::start().await;
    for path in ["/healthz", "/readyz"] {
        let answer = relay.client().request(Method::GET, path, &[], "").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn page_shows_endpoints_and_deliveries_only_with_the_key() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    let endpoint = client.endpoint_at(&format!("{}?q=<b>'\"&", receiver.url()), json!({})).await;
    let event = client.publish("page.shown", json!({})).await;
    client.delivery_in_state(&event, "delivered").await;
    let page = async |authorization: Option<String>| {
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        client.request(Method::GET, "/", &headers, "").await.unwrap()
    };
    let basic = |password: &str| Some(format!("Basic {}", STANDARD.encode(format!("anyone:{password}"))));

    for refused in [None, basic("wrong"), Some("Basic !".to_owned()), Some(format!("Bearer {}", client.key))]
    {
        let answer = page(refused).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Basic realm="));
        assert!(!answer.text().contains(&endpoint));
    }
    let answer = page(basic(&client.key)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
    let text = answer.text();
    for shown in [endpoint.as_str(), "page.shown", "delivered", "enabled"] {
        assert!(text.contains(shown), "{shown} is missing:\n{text}");
    }
    assert!(!text.contains("<b>"), "a URL became markup");
}

#[tokio::test]
async fn help_names_the_commands_and_shows_defaults_of_serve() {
    let help = async |args: &[&str]| {
        let output = program().args(args).output().await.unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let top = help(&["--help"]).await;
    for word in ["serve", "demo", "key", "--data", "--allow-net"] {
        assert!(top.contains(word), "{word} is missing:\n{top}");
    }
    let serve = help(&["serve", "--help"]).await;
    for word in ["./relay-data", "127.0.0.1:8181", "--max-attempts", "[default: 18]", "--shutdown-grace"] {
        assert!(serve.contains(word), "{word} is missing:\n{serve}");
    }
}

#[tokio::test]
async fn invalid_network_is_refused_with_an_example() {
    let wrong = program().args(["serve", "--allow-net", "everything"]).output().await.unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("10.0.0.0/8"));
}

/// The names of relay's metrics in a text. A histogram has series with further endings.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("relay_"));
    names.map(|name| name.strip_suffix("_bucket").unwrap_or(name).to_owned()).collect()
}

fn document(name: &str) -> String {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/relay/");
    fs::read_to_string(format!("{docs}{name}")).unwrap()
}

/// The metrics in the table of the documents.
fn documented() -> BTreeSet<String> {
    let table = document("metrics.md");
    table
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .flat_map(|row| metrics_in(row.split('`').next().unwrap()))
        .collect()
}

/// The metrics that the sources of relay name in quotes.
fn in_sources(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            names.extend(in_sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&entry).unwrap();
            names.extend(
                text.split('"').filter(|quoted| metrics_in(quoted).contains(*quoted)).map(str::to_owned),
            );
        }
    }
    names
}

#[test]
fn documents_list_every_metric_and_no_other() {
    let sources = in_sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")));
    assert!(sources.len() > 20, "{sources:?}");
    assert_eq!(sources, documented());
}

#[test]
fn alerts_and_dashboard_use_only_documented_metrics() {
    for name in ["alerts.yml", "grafana.json"] {
        let used = metrics_in(&document(name));
        assert!(used.len() > 7, "{name}: {used:?}");
        let documented = documented();
        let unknown: Vec<_> = used.difference(&documented).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
    }
    let board: serde_json::Value = serde_json::from_str(&document("grafana.json")).unwrap();
    assert!(board["panels"].as_array().unwrap().len() > 15);
}

#[test]
fn each_alert_has_its_cure_in_the_documents() {
    let (alerts, cures) = (document("alerts.yml"), document("operations.md"));
    let names: Vec<_> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(cures.contains(&format!("| `{name}` |")), "{name} has no cure");
    }
}
