//! The settings from a file and the environment, in the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use http::StatusCode;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Home, Relay, eventually};

fn write(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("relay.toml");
    fs::write(&path, text).unwrap();
    path
}

fn config(action: &str, file: &Path, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_motet-relay"));
    command.args(["config", action, "--config"]).arg(file);
    command.envs(environment.iter().copied()).output().unwrap()
}

#[test]
fn config_show_names_the_origin_of_each_setting() {
    let folder = TempDir::new().unwrap();
    let file = write(&folder, "# relay\nmax_attempts = 5\nlisten = \"127.0.0.1:9000\"\n");
    let environment = [("RELAY_LISTEN", "127.0.0.1:9001")];
    let shown = config("show", &file, &environment);
    assert!(shown.status.success(), "{shown:?}");
    let shown = String::from_utf8(shown.stdout).unwrap();
    let words: Vec<Vec<_>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    let line = |name: &str| words.iter().find(|words| words[0] == name).unwrap();
    assert_eq!(line("max_attempts")[1..], ["5", &format!("{},", file.display()), "line", "2"]);
    assert_eq!(line("listen")[1..], ["127.0.0.1:9001", "RELAY_LISTEN"]);
    assert_eq!(line("max_feeds")[1..], ["100", "default"]);
}

#[test]
fn config_check_exits_with_2_and_names_the_mistakes() {
    let folder = TempDir::new().unwrap();
    let file = write(&folder, "max_atempts = 5\nretry_base = 0\n");
    let checked = config("check", &file, &[]);
    assert_eq!(checked.status.code(), Some(2));
    let error = String::from_utf8(checked.stderr).unwrap();
    assert!(
        error.contains("line 1: there is no setting `max_atempts`; did you mean `max_attempts`"),
        "{error}"
    );
    assert!(error.contains("line 2: `retry_base` is \"0\""), "{error}");
    let file = write(&folder, "max_attempts = 5\n");
    let checked = config("check", &file, &[]);
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
    let checked = config("check", &file, &[("RELAY_MAX_ATEMPTS", "5")]);
    assert!(String::from_utf8(checked.stderr).unwrap().contains("`RELAY_MAX_ATTEMPTS`"));
    assert!(!checked.status.success());
}

/// Waits until the creation of an endpoint at a loopback address has this status.
async fn creation_becomes(relay: &Relay, status: StatusCode) {
    let body = json!({"url": "http://127.0.0.1:9/", "event_types": [">"]});
    eventually("the settings to change", || async {
        let created = relay.client().post("/v1/endpoints", body.clone()).await;
        (created.status == status).then_some(())
    })
    .await;
}

#[tokio::test]
async fn hangup_applies_the_file_and_names_what_needs_a_restart() {
    let (home, folder) = (Home::new(), TempDir::new().unwrap());
    let file = write(&folder, "max_attempts = 5\nallow_net = []\n");
    let relay = Relay::start_unshared(&home, &["--config", file.to_str().unwrap()]).await;
    creation_becomes(&relay, StatusCode::BAD_REQUEST).await;

    write(&folder, "max_attempts = 6\nallow_net = [\"127.0.0.0/8\"]\n");
    relay.signal(Signal::HUP);
    creation_becomes(&relay, StatusCode::CREATED).await;
    relay.log_line("changed: allow_net").await;
    relay.log_line("need a restart: max_attempts").await;

    write(&folder, "allow_nets = []\ntenant_endpoints_max = 1\n");
    relay.signal(Signal::HUP);
    relay.log_line("did you mean `allow_net`").await;
    creation_becomes(&relay, StatusCode::CREATED).await;

    write(&folder, "allow_net = [\"127.0.0.0/8\"]\ntenant_endpoints_max = 1\n");
    relay.signal(Signal::HUP);
    creation_becomes(&relay, StatusCode::CONFLICT).await;
    relay.log_line("changed: tenant_endpoints_max").await;
    relay.stop().await;
}
