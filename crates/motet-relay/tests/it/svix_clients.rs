//! The published clients of Svix, unchanged, against relay: each lives a whole life.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::harness::{Relay, within};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns a path in the folder of a client that `cargo xtask test` installs.
fn tool(path: &str) -> PathBuf {
    let tool = root().join("../../target/test-tools").join(path);
    assert!(tool.exists(), "{} is missing; `cargo xtask test` installs it", tool.display());
    tool
}

/// Runs a client's script against a new relay. The script prints `done` at its end.
async fn live(mut command: Command) {
    // A message that the scripts' receivers refuse twice is a dead letter.
    let relay = Relay::start_with(&["--max-attempts", "2"]).await;
    let client = relay.client();
    let script = command
        .arg(format!("http://{}", client.address))
        .arg(&client.key)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within("the client's script", script).await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.ends_with("done\n"), "{printed}\n{errors}\n{}", relay.log());
}

async fn python(environment: &str) {
    let mut command = Command::new(tool(environment).join("bin/python"));
    command.arg(root().join("tests/clients/svix_life.py"));
    live(command).await;
}

#[tokio::test]
async fn first_generation_python_client_works_unchanged() {
    python("svix-python-1").await;
}

#[tokio::test]
async fn second_generation_python_client_works_unchanged() {
    python("svix-python-2").await;
}

async fn javascript(folder: &str) {
    let mut command = Command::new("node");
    command.arg(root().join("tests/clients/svix_life.mjs")).arg(tool(folder));
    live(command).await;
}

#[tokio::test]
async fn first_generation_javascript_client_works_unchanged() {
    javascript("svix-javascript-1").await;
}

#[tokio::test]
async fn second_generation_javascript_client_works_unchanged() {
    javascript("svix-javascript-2").await;
}

/// Its source is `tests/clients/rust`.
#[tokio::test]
async fn rust_client_works_unchanged() {
    live(Command::new(tool("svix-rust/debug/svix-life"))).await;
}
