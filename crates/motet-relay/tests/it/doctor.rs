//! `motet-relay doctor`

use serde_json::Value;

use crate::harness::{Home, Relay, program};

/// Runs doctor with these options. Returns its findings, and whether it succeeded.
async fn doctor(home: &Home, options: &[&str]) -> (Vec<Value>, bool) {
    let mut command = program();
    command.args(["doctor", "--json", "--data"]).arg(home.data()).args(options);
    let output = command.output().await.unwrap();
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    (findings, output.status.success())
}

fn of<'a>(findings: &'a [Value], check: &str) -> &'a Value {
    findings.iter().find(|finding| finding["check"] == check).unwrap()
}

#[tokio::test]
async fn doctor_looks_at_a_running_relay_and_makes_a_delivery() {
    let relay = Relay::start().await;
    let (findings, _) = doctor(relay.client().home(), &[]).await;
    assert!(of(&findings, "relay")["detail"].as_str().unwrap().ends_with("and is ready"), "{findings:?}");
    assert_eq!(of(&findings, "delivery")["level"], "good");
    assert_eq!(of(&findings, "clock")["level"], "good");
    for check in
        ["data directory", "disk", "open files", "certificate", "trusted certificates", "name server"]
    {
        let finding = of(&findings, check);
        let is_good = finding["level"] == "good";
        assert_eq!(finding["action"].is_string(), !is_good, "{finding}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn doctor_fails_if_relay_could_not_listen() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new();
    let (findings, succeeded) = doctor(&home, &["--listen", &address]).await;
    assert!(!succeeded);
    assert_eq!(of(&findings, "listen")["level"], "error");
    assert!(!home.data().exists(), "doctor creates nothing");
}
