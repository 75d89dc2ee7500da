//! A client of relay's feed, which checks the form of the messages.

use std::collections::VecDeque;

use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::Value;

use super::{Answer, Client, within};

/// A message of a feed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Message {
    Event(Value),
    /// An id for the next reconnect, without an event.
    Id(String),
    Comment,
}

/// How a feed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    InOrder,
    BrokenOff,
}

/// An open feed. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Feed {
    body: Incoming,
    bytes: Vec<u8>,
    messages: VecDeque<Message>,
    /// The id of the last message.
    last_id: Option<String>,
}

impl Feed {
    /// Opens a feed, which must succeed, and waits for its first id.
    pub(crate) async fn open(client: &Client, query: &str, last_id: Option<&str>) -> Self {
        Self::open_at(client, &format!("/v1/events/feed{query}"), last_id).await
    }

    /// Like [`Feed::open`], for the feed at this path.
    pub(crate) async fn open_at(client: &Client, path: &str, last_id: Option<&str>) -> Self {
        let mut feed = match Self::try_open_at(client, path, last_id).await {
            Ok(feed) => feed,
            Err(answer) => panic!("{}: {}", answer.status, answer.text()),
        };
        let first = feed.next().await.unwrap();
        assert!(matches!(first, Message::Id(_)), "{first:?}");
        feed
    }

    /// Requests a feed. Returns it, or the refusal.
    pub(crate) async fn try_open(
        client: &Client,
        query: &str,
        last_id: Option<&str>,
    ) -> Result<Self, Answer> {
        Self::try_open_at(client, &format!("/v1/events/feed{query}"), last_id).await
    }

    async fn try_open_at(client: &Client, path: &str, last_id: Option<&str>) -> Result<Self, Answer> {
        let mut request = http::Request::get(format!("http://{}{path}", client.address))
            .header(AUTHORIZATION, format!("Bearer {}", client.key));
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let request = client.pool.request(request.body(Full::default()).unwrap());
        let response = within("the head of a feed", request).await.unwrap();
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            let body = body.collect().await.unwrap().to_bytes();
            return Err(Answer { status: head.status, headers: head.headers, body });
        }
        assert_eq!(head.headers[CONTENT_TYPE], "text/event-stream");
        assert_eq!(head.headers["cache-control"], "no-store");
        Ok(Self { body, bytes: Vec::new(), messages: VecDeque::new(), last_id: last_id.map(str::to_owned) })
    }

    /// The id for the next reconnect.
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    pub(crate) async fn next(&mut self) -> Result<Message, End> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                match &message {
                    Message::Event(event) => self.last_id = Some(event["id"].as_str().unwrap().to_owned()),
                    Message::Id(id) => self.last_id = Some(id.clone()),
                    Message::Comment => {}
                }
                return Ok(message);
            }
            match within("more of a feed", self.body.frame()).await {
                None => {
                    assert!(self.bytes.is_empty(), "a feed ended inside a message");
                    return Err(End::InOrder);
                }
                Some(Err(_)) => return Err(End::BrokenOff),
                Some(Ok(frame)) => self.take(&frame.into_data().unwrap()),
            }
        }
    }

    /// Returns the next event; keep-alive messages are skipped.
    pub(crate) async fn event(&mut self) -> Result<Value, End> {
        loop {
            if let Message::Event(event) = self.next().await? {
                return Ok(event);
            }
        }
    }

    /// Returns the ids of the next `count` events.
    pub(crate) async fn ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            ids.push(self.event().await.unwrap()["id"].as_str().unwrap().to_owned());
        }
        ids
    }

    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        while let Some(at) = self.bytes.windows(2).position(|pair| pair == b"\n\n") {
            let rest = self.bytes.split_off(at + 2);
            let block = String::from_utf8(std::mem::replace(&mut self.bytes, rest)).unwrap();
            self.messages.push_back(parse(block.trim_end_matches('\n')));
        }
    }
}

/// Parses a message like a browser, but accepts no other fields.
fn parse(block: &str) -> Message {
    assert!(!block.contains('\r'), "{block:?}");
    let (mut id, mut data) = (None, Vec::new());
    for line in block.split('\n') {
        match line.split_once(": ").unwrap_or((line, "")) {
            ("id", text) => assert_eq!(id.replace(text), None, "{block:?}"),
            ("data", text) => data.push(text),
            (":", "") => return Message::Comment,
            _ => panic!("{line:?} in {block:?}"),
        }
    }
    let id = id.unwrap().to_owned();
    if data.is_empty() {
        return Message::Id(id);
    }
    let event: Value = serde_json::from_str(&data.join("\n")).unwrap();
    assert_eq!(event["id"], id.as_str());
    Message::Event(event)
}
