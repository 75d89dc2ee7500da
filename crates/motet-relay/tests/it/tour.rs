//! The blocks of the documents run as they are written, against a relay and a receiver of the test.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::harness::{Receiver, Relay, within};

/// The address of relay in the documents.
const ADDRESSES: [&str; 2] = ["localhost:8181", "127.0.0.1:8181"];
const KEY: &str = "rk_...";
const HOOK: &str = "https://example.com/hook";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the blocks of a language in a document, with the address, the key and the receiver of the test.
fn blocks(document: &str, language: &str, relay: &Relay, hook: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let begin = format!("```{language}\n");
    let found = text.split(begin.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    let address = relay.client().address.to_string();
    let placed = |block: String| {
        let block = ADDRESSES.iter().fold(block, |block, known| block.replace(known, &address));
        block.replace(KEY, &relay.client().key).replace(HOOK, hook)
    };
    found.map(placed).collect()
}

async fn succeeds(mut command: Command) -> String {
    let output =
        within("the script to end", command.stdin(Stdio::null()).kill_on_drop(true).output()).await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed
}

#[tokio::test]
async fn tour_with_curl_runs_as_it_is_written() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let script = blocks("docs/relay/api.md", "sh", &relay, "").concat();
    assert!(script.contains("replays") && script.contains("DELETE"), "{script}");
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", &script]);
    command.env("KEY", &relay.client().key).env("HOOK", receiver.url());
    let printed = succeeds(command).await;
    assert!(printed.contains("\"invoice\": 17"), "{printed}");
}

#[tokio::test]
async fn python_of_the_documents_runs_as_it_is_written() {
    let receiver = Receiver::accepting().await;
    for document in ["README.md", "docs/relay/svix.md", "docs/relay/api.md"] {
        let relay = Relay::start().await;
        let python = blocks(document, "python", &relay, &receiver.url());
        assert_eq!(python.len(), 1, "{document}");
        let interpreter = root().join("target/test-tools/svix-python-2/bin/python");
        assert!(interpreter.exists(), "{} is missing; `cargo xtask test` installs it", interpreter.display());
        let before = receiver.hits().len();
        let mut command = Command::new(interpreter);
        command.args(["-c", &python[0]]);
        succeeds(command).await;
        // The tour deletes the application at its end, perhaps before the message is sent.
        if document != "docs/relay/api.md" {
            receiver.hits_at_least(before + 1).await;
        }
    }
}
