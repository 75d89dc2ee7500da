//! A whole life with the published Rust client of Svix, unchanged, against relay.
//!
//! Arguments: the URL of the server and an API key.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use svix::api::{MessageAttemptListByMsgOptions, MessageGetOptions, MessageListOptions, Svix, SvixOptions};
use svix::error::Error;
use svix::models::{
    AppPortalAccessIn, ApplicationIn, ApplicationPatch, BackgroundTaskStatus, BackgroundTaskType,
    BulkReplayIn, EndpointHeadersIn, EndpointIn, EndpointPatch, EndpointSecretRotateIn, EventTypeIn,
    MessageIn, MessageStatus, RecoverIn, ReplayIn,
};
use svix::webhooks::Webhook;

const PATIENCE: Duration = Duration::from_secs(60);

/// A request that arrived.
struct Hit {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Hit {
    fn id(&self) -> &str {
        self.headers["svix-id"].to_str().unwrap()
    }

    fn verify(&self, secret: &str) -> bool {
        Webhook::new(secret).unwrap().verify(&self.body, &self.headers).is_ok()
    }
}

/// Starts a receiver. It answers the first requests of a message with 500: one of a message with `fail`, and two with `dead`.
fn receive() -> (String, mpsc::Receiver<Hit>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, hits) = mpsc::channel();
    thread::spawn(move || {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let (mut headers, mut line) = (HeaderMap::new(), String::new());
            reader.read_line(&mut line).unwrap();
            loop {
                line.clear();
                reader.read_line(&mut line).unwrap();
                let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
            }
            let length = headers["content-length"].to_str().unwrap().parse().unwrap();
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let hit = Hit { headers, body };
            let text = String::from_utf8_lossy(&hit.body);
            let failures = if text.contains("dead") { 2 } else { usize::from(text.contains("fail")) };
            let times = seen.entry(hit.id().to_owned()).or_default();
            *times += 1;
            let status = if *times <= failures { "500 No" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            if sender.send(hit).is_err() {
                return;
            }
        }
    });
    (url, hits)
}

/// Polls: the client has no way to wait for an attempt to be recorded.
async fn eventually<T>(what: &str, mut get: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(found) = get().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited 60 s for {what}");
}

/// Checks that a request was refused with a body that the client has parsed.
fn refused<T>(status: u16, answer: Result<T, Error>) {
    match answer {
        Err(Error::Http(refusal)) => {
            assert_eq!(refusal.status.as_u16(), status);
            assert!(!refusal.payload.unwrap().detail.is_empty());
        }
        Err(Error::Validation(refusal)) => {
            assert_eq!((refusal.status.as_u16(), status), (422, 422));
            assert!(!refusal.payload.unwrap().detail[0].loc.is_empty());
        }
        Err(other) => panic!("expected {status}, not {other:?}"),
        Ok(_) => panic!("expected {status}"),
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (url, key) = (args.next().unwrap(), args.next().unwrap());
    let client = |key: String| {
        Svix::new(key, Some(SvixOptions { server_url: Some(url.clone()), ..SvixOptions::default() }))
    };
    let svix = client(key);
    let (target, hits) = receive();
    let arrived = || hits.recv_timeout(PATIENCE).unwrap();
    let acme = || text("acme");
    let main = || text("main");
    svix.health().get().await.unwrap();
    refused(401, client(text("testsk_unknown.eu")).application().list(None).await);

    // Applications and event types
    let new = |uid| ApplicationIn { uid: Some(text(uid)), ..ApplicationIn::new(text("Acme")) };
    let app = svix.application().create(new("acme"), None).await.unwrap();
    refused(409, svix.application().create(new("acme"), None).await);
    refused(422, svix.application().create(new("not allowed"), None).await);
    assert_eq!(svix.application().get_or_create(new("acme"), None).await.unwrap().id, app.id);
    assert_eq!(svix.application().get(app.id.clone()).await.unwrap().uid.as_deref(), Some("acme"));
    let patch = ApplicationPatch { name: Some(text("Acme 2")), ..ApplicationPatch::default() };
    assert_eq!(svix.application().patch(acme(), patch).await.unwrap().name, "Acme 2");
    refused(404, svix.application().get(text("nobody")).await);
    let paid = || text("invoice-line.paid");
    svix.event_type().create(EventTypeIn::new(paid(), text("Paid")), None).await.unwrap();
    assert_eq!(svix.event_type().list(None).await.unwrap().data.len(), 1);

    // Endpoints
    let types = [paid(), text("invoice.failed")].into_iter().collect();
    let new = EndpointIn {
        uid: Some(main()),
        event_types: Some(types),
        throttle_rate: Some(100),
        ..EndpointIn::new(target.clone())
    };
    let endpoint = svix.endpoint().create(acme(), new, None).await.unwrap();
    assert_eq!((endpoint.event_types.unwrap().len(), endpoint.throttle_rate), (2, Some(100)));
    let patch = EndpointPatch { description: Some(text("the books")), ..EndpointPatch::default() };
    assert_eq!(svix.endpoint().patch(acme(), main(), patch).await.unwrap().description, "the books");
    let headers: BTreeMap<_, _> =
        [(text("X-Tenant"), acme()), (text("Authorization"), text("Basic abc"))].into_iter().collect();
    svix.endpoint().set_headers(acme(), main(), EndpointHeadersIn::new(headers)).await.unwrap();
    let headers = svix.endpoint().get_headers(acme(), main()).await.unwrap();
    assert_eq!((headers.headers.len(), headers.sensitive.len()), (1, 1));

    // A message, verified by the client's own library
    let secret_of = async || svix.endpoint().get_secret(acme(), main()).await.unwrap().key;
    let send = async |event_type: String, payload: serde_json::Value| {
        svix.message().create(acme(), MessageIn::new(event_type, payload), None).await.unwrap()
    };
    let secret = secret_of().await;
    let payload = json!({"id": "inv_1", "amount": 12.5, "name": "Zoë"});
    let new = || MessageIn {
        event_id: Some(text("inv-1")),
        channels: Some([text("books")].into_iter().collect()),
        tags: Some([text("t")].into_iter().collect()),
        ..MessageIn::new(paid(), payload.clone())
    };
    let message = svix.message().create(acme(), new(), None).await.unwrap();
    let mut hit = arrived();
    assert!(hit.verify(&secret) && hit.id() == message.id && hit.headers["x-tenant"] == "acme");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&hit.body).unwrap(), payload);
    hit.body.push(b' ');
    assert!(!hit.verify(&secret), "a forged body was accepted");
    refused(409, svix.message().create(acme(), new(), None).await);
    let later = MessageIn { event_id: None, deliver_at: Some(Utc::now()), ..new() };
    refused(422, svix.message().create(acme(), later, None).await);
    let with_content = MessageGetOptions { with_content: Some(true) };
    let found = svix.message().get(acme(), text("inv-1"), Some(with_content)).await.unwrap();
    assert_eq!(found.payload, payload);
    let options = MessageListOptions {
        event_types: Some([paid()].into_iter().collect()),
        channel: Some(text("books")),
        tag: Some(text("t")),
        ..MessageListOptions::default()
    };
    let listed = svix.message().list(acme(), Some(options)).await.unwrap();
    assert!(listed.done && listed.data.len() == 1 && listed.data[0].id == message.id);

    // Rotation: both secrets verify within the grace period, and only the new one without it.
    let rotate = async |grace| {
        let rotate = EndpointSecretRotateIn { grace_period_seconds: grace, ..EndpointSecretRotateIn::new() };
        svix.endpoint().rotate_secret(acme(), main(), rotate, None).await.unwrap();
        secret_of().await
    };
    let rotated = rotate(None).await;
    send(paid(), json!({"n": 2})).await;
    let hit = arrived();
    assert!(rotated != secret && hit.verify(&secret) && hit.verify(&rotated));
    let last = rotate(Some(0)).await;
    send(paid(), json!({"n": 3})).await;
    let hit = arrived();
    assert!(hit.verify(&last) && !hit.verify(&rotated) && !hit.verify(&secret));

    // Attempts: one failure, then a success
    let failing = send(text("invoice.failed"), json!({"fail": true})).await;
    for _ in 0..2 {
        assert_eq!(arrived().id(), failing.id);
    }
    let attempts = eventually("two attempts", async || {
        let found = svix.message_attempt().list_by_msg(acme(), failing.id.clone(), None).await.unwrap();
        (found.data.len() == 2).then_some(found.data)
    })
    .await;
    assert_eq!((attempts[0].status, attempts[1].status), (MessageStatus::Success, MessageStatus::Fail));
    let failed = MessageAttemptListByMsgOptions {
        status: Some(MessageStatus::Fail),
        endpoint_id: Some(main()),
        ..MessageAttemptListByMsgOptions::default()
    };
    let found = svix.message_attempt().list_by_msg(acme(), failing.id.clone(), Some(failed)).await.unwrap();
    assert_eq!((found.data.len(), found.data[0].response_status_code), (1, 500));
    svix.message_attempt().resend(acme(), failing.id.clone(), main(), None).await.unwrap();
    assert_eq!(arrived().id(), failing.id);

    // Replays
    let since = Utc::now() - TimeDelta::hours(1);
    let finished = async |task: String| {
        eventually("the task", async || {
            let found = svix.background_task().get(task.clone()).await.unwrap();
            (found.status == BackgroundTaskStatus::Finished).then_some(found)
        })
        .await
    };
    let dead = send(text("invoice.failed"), json!({"dead": true})).await;
    for _ in 0..2 {
        assert_eq!(arrived().id(), dead.id);
    }
    eventually("a dead letter", async || {
        let stats = svix.endpoint().get_stats(acme(), main(), None).await.unwrap();
        (stats.fail == 1).then_some(())
    })
    .await;
    let recovery = svix.endpoint().recover(acme(), main(), RecoverIn::new(since), None).await.unwrap();
    assert_eq!(recovery.task, BackgroundTaskType::EndpointRecover);
    assert_eq!(arrived().id(), dead.id);
    assert_eq!(finished(recovery.id).await.data["messagesSent"], 1);
    let late = EndpointIn {
        uid: Some(text("late")),
        event_types: Some([paid()].into_iter().collect()),
        ..EndpointIn::new(target)
    };
    svix.endpoint().create(acme(), late, None).await.unwrap();
    let missing =
        svix.endpoint().replay_missing(acme(), text("late"), ReplayIn::new(since), None).await.unwrap();
    let replayed: Vec<_> = (0..3).map(|_| arrived()).collect();
    assert!(replayed.iter().any(|hit| hit.id() == message.id));
    finished(missing.id).await;
    let bulk = BulkReplayIn {
        channel: Some(text("books")),
        status: Some(MessageStatus::Success),
        ..BulkReplayIn::new(since)
    };
    let bulk = svix.endpoint().bulk_replay(acme(), text("late"), bulk, None).await.unwrap();
    assert_eq!(arrived().id(), message.id);
    finished(bulk.id).await;
    assert_eq!(svix.background_task().list(None).await.unwrap().data.len(), 3);

    // The portal, and the end
    let access =
        svix.authentication().app_portal_access(acme(), AppPortalAccessIn::new(), None).await.unwrap();
    assert!(access.url.starts_with(&url) && access.url.contains(&access.token));
    client(access.token).authentication().logout(None).await.unwrap();
    svix.endpoint().delete(acme(), main()).await.unwrap();
    refused(404, svix.endpoint().get(acme(), main()).await);
    svix.application().delete(acme()).await.unwrap();
    refused(404, svix.application().get(acme()).await);
    println!("done");
}
