//! Erasure while relay runs: by its routes and by its command.

use std::path::Path;

use http::StatusCode;
use serde_json::json;

use crate::harness::{FAIL, Home, Receiver, Relay, eventually, program, within};

/// Returns the texts that the files of a store contain.
pub(crate) fn found_in<'t>(home: &Home, texts: &[&'t str]) -> Vec<&'t str> {
    let database = home.database();
    let files = [database.clone(), database.with_extension("db-wal")];
    let bytes = files.map(|file| std::fs::read(file).unwrap_or_default());
    let has = |text: &&&str| {
        bytes.iter().any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    };
    texts.iter().filter(has).copied().collect()
}

/// Runs `motet-relay erase` on a data directory. Returns its output.
async fn erase(data: &Path, args: &[&str]) -> String {
    let command = program().arg("erase").args(args).args(["--yes", "--data"]).arg(data).output();
    let output = within("the command to end", command).await.unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn erased_bytes_are_in_no_file_while_relay_runs() {
    let receiver = Receiver::start(|_| FAIL).await;
    let relay = Relay::start_with(&["--max-attempts", "1"]).await;
    let client = relay.client();
    client.put("/v1/tenants/acme", json!({})).await;
    client.endpoint(&receiver).await;
    let publish = async |path: &str, data: &str| {
        let event = json!({"type": "a.b", "data": data, "uid": format!("uid-{data}")});
        let answer = client.post(path, event).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let single = publish("/v1/events", "single-secret").await;
    client.delivery_in_state(&single, "dead").await;
    for n in 0..250 {
        publish("/v1/tenants/acme/events", &format!("acme-secret-{n}")).await;
    }
    let kept = publish("/v1/events", "kept-text").await;
    client.delivery_in_state(&kept, "dead").await;
    let home = client.home();
    let texts = ["single-secret", "acme-secret-0", "acme-secret-249", "kept-text"];
    assert_eq!(found_in(home, &texts), texts);

    let erased = client.delete(&format!("/v1/events/{single}/data")).await;
    assert_eq!(erased.status, StatusCode::NO_CONTENT);
    assert_eq!(found_in(home, &texts), texts[1..]);
    let shown = client.get(&format!("/v1/events/{single}")).await.json();
    assert_eq!((&shown["erased"], shown.get("uid")), (&json!(true), None), "{shown}");

    let begun = client.post("/v1/tenants/acme/events/erase", json!(null)).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text());
    let path = format!("/v1/erasures/{}", begun.json()["id"].as_str().unwrap());
    let finished = eventually("the erasure to finish", || async {
        let now = client.get(&path).await.json();
        (now["state"] == "finished").then_some(now)
    })
    .await;
    assert_eq!((&finished["events"], &finished["tenant"]), (&json!(250), &json!("acme")), "{finished}");
    assert_eq!(found_in(home, &texts), ["kept-text"]);
}

#[tokio::test]
async fn command_erases_in_a_running_and_in_a_stopped_relay() {
    let relay = Relay::start().await;
    let client = relay.client();
    let home = std::sync::Arc::clone(client.home());
    let data = home.data();
    for tenant in ["one", "two"] {
        client.put(&format!("/v1/tenants/{tenant}"), json!({"name": format!("name-of-{tenant}")})).await;
        let event = json!({"type": "a.b", "data": format!("secret-{tenant}")});
        client.post(&format!("/v1/tenants/{tenant}/events"), event).await;
    }
    let event = client.publish("a.b", json!("secret-single")).await;
    let texts = ["secret-one", "secret-two", "name-of-two", "secret-single"];
    assert_eq!(found_in(&home, &texts), texts);

    let refused = program().args(["erase", "event", &event, "--data"]).arg(&data).output();
    let refused = within("the command to end", refused).await.unwrap();
    assert_eq!(refused.status.code(), Some(1), "it was not confirmed");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes"));
    assert_eq!(found_in(&home, &texts), texts);

    assert!(erase(&data, &["event", &event]).await.contains(&event));
    assert_eq!(found_in(&home, &texts), texts[..3]);
    assert!(erase(&data, &["payloads", "--tenant", "one"]).await.contains("1 events are erased"));
    assert_eq!(found_in(&home, &texts), texts[1..3]);
    relay.stop().await;
    assert!(erase(&data, &["tenant", "two"]).await.contains("1 events are erased"));
    assert_eq!(found_in(&home, &texts), [""; 0]);
}
