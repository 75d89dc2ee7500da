//! The listening socket of a service manager, which stays open while relay restarts.

use std::net::TcpListener;
use std::process::Stdio;

use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::harness::{Client, Home, eventually, program, within};

/// Starts relay as systemd does: with the socket as descriptor 3, and the variables that announce it.
fn start(data: &TempDir, listener: &TcpListener) -> Child {
    let shell =
        "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve --listen 127.0.0.1:1 --data \"$1\" 3<&0 </dev/null";
    let relay = program().as_std().get_program().to_owned();
    let socket = std::os::fd::OwnedFd::from(listener.try_clone().unwrap());
    let mut command = tokio::process::Command::new("sh");
    command.arg("-c").arg(shell).arg(relay).arg(data.path().join("data"));
    command.kill_on_drop(true);
    command.stdin(socket).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

async fn stop(mut relay: Child) {
    let id = Pid::from_raw(relay.id().unwrap().cast_signed()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    assert!(within("relay to end", relay.wait()).await.unwrap().success());
}

#[tokio::test]
async fn request_during_a_restart_waits_for_the_new_process() {
    let (data, listener) = (TempDir::new().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    let client = Client::new(address, String::new(), Home::new());
    let relay = start(&data, &listener);
    eventually("relay to answer", || async {
        client.request(Method::GET, "/healthz", &[], "").await.ok().filter(|answer| answer.status == 200)
    })
    .await;
    stop(relay).await;

    let mut waiting = TcpStream::connect(address).await.unwrap();
    waiting.write_all(b"GET /healthz HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n").await.unwrap();
    let relay = start(&data, &listener);
    let mut response = String::new();
    within("the response", waiting.read_to_string(&mut response)).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    stop(relay).await;
}
