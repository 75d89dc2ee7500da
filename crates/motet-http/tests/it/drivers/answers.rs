//! Answers: read whole, piece by piece, or not at all.

use std::sync::Mutex;

use bytes::Bytes;
use motet::task::timeout;
use motet_http::{ApiClientBuilder, ErrorKind, Response, ResponseBody};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};

use super::backend::{Answer, Home, document};
use super::{Driver, draw, millis, passes, swept};

pub(super) const DRIVER: Driver = Driver {
    drives: &[
        "client::Response::success",
        "client::Response::chunk",
        "client::Response::bytes",
        "client::Response::text",
        "client::Response::json",
        "client::ResponseBody::chunk",
    ],
    cancel,
    sweep,
};

#[test]
fn read_dropped_anywhere_frees_the_slot_and_loses_no_chunk() {
    cancel();
}

#[test]
fn reads_end_whole_or_with_their_error_and_free_the_slot() {
    passes(sweep);
}

fn one_place(builder: ApiClientBuilder) -> ApiClientBuilder {
    builder.max_in_flight(1, 0)
}

/// The reader, and the bytes that it has read.
struct Reading<T> {
    home: Home,
    rest: Mutex<Option<T>>,
    read: Mutex<Vec<u8>>,
}

impl<T> Reading<T> {
    async fn of(answer: Answer, make: impl Fn(Response) -> T) -> Self {
        let home = Home::new(one_place).await;
        home.backend.answer(move |_| answer);
        let rest = make(home.api.get("/a").send().await.unwrap());
        Self { home, rest: Mutex::new(Some(rest)), read: Mutex::new(Vec::new()) }
    }

    fn take(&self) -> T {
        self.rest.lock().unwrap().take().unwrap()
    }

    fn note(&self, piece: &[u8]) {
        self.read.lock().unwrap().extend_from_slice(piece);
    }
}

/// Reads one chunk, and keeps the rest out of reach of its drop.
macro_rules! reads_by_chunks {
    ($make:expr) => {
        cancel_everywhere(
            async || {
                let reading = Reading::of(Answer::Well, $make).await;
                let rest = tokio::sync::Mutex::new(reading.take());
                (reading, rest)
            },
            async |(reading, rest)| {
                let mut rest = rest.lock().await;
                while let Some(piece) = rest.chunk().await.unwrap() {
                    reading.note(&piece);
                }
            },
            async |(reading, rest), _| {
                let mut rest = rest.lock().await;
                while let Some(piece) = rest.chunk().await.unwrap() {
                    reading.note(&piece);
                }
                assert_eq!(*reading.read.lock().unwrap(), document("/a").into_bytes());
                reading.home.whole().await;
            },
        )
    };
}

fn cancel() {
    reads_by_chunks!(|answer: Response| answer);
    reads_by_chunks!(Response::into_body);
    cancel_everywhere(
        async || Reading::of(Answer::Well, |answer| answer).await,
        async |reading| drop(reading.take().success().await.unwrap().bytes().await.unwrap()),
        async |reading, _| gone(reading).await,
    );
    cancel_everywhere(
        async || Reading::of(Answer::Status(404), |answer| answer).await,
        async |reading| drop(reading.take().success().await.unwrap_err()),
        async |reading, _| gone(reading).await,
    );
    cancel_everywhere(
        async || Reading::of(Answer::Well, |answer| answer).await,
        async |reading| drop(reading.take().text().await.unwrap()),
        async |reading, _| gone(reading).await,
    );
    cancel_everywhere(
        async || Reading::of(Answer::Well, |answer| answer).await,
        async |reading| drop(reading.take().json::<String>().await.unwrap()),
        async |reading, _| gone(reading).await,
    );
}

/// Dropped with the answer that was being read, or before it was.
async fn gone(reading: &Reading<Response>) {
    drop(reading.rest.lock().unwrap().take());
    reading.home.whole().await;
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let home =
            Home::new(|builder| one_place(builder).read_timeout(millis(300)).timeout(millis(2_000))).await;
        let answers =
            [Answer::Well, Answer::Last, Answer::Status(500), Answer::Drip, Answer::Stall, Answer::Cut];
        let said = answers[draw(answers.len() as u64) as usize];
        home.backend.answer(move |_| said);
        let answer = home.api.get("/a").once().send().await.unwrap();
        assert_eq!(home.api.stats().in_flight, 1, "its slot is free, though its body is in transit");
        let patience = millis(draw(400));
        let read = match draw(4) {
            0 => timeout(patience, answer.bytes()).await,
            1 => timeout(patience, async { answer.text().await.map(Bytes::from) }).await,
            2 => timeout(patience, async { answer.success().await?.bytes().await }).await,
            _ => timeout(patience, in_pieces(answer.into_body(), millis(1 + draw(20)))).await,
        };
        match (read, said) {
            (Err(_), _) => {}
            (Ok(Ok(body)), _) => assert_eq!(body, document("/a")),
            (Ok(Err(error)), Answer::Status(500)) => assert_eq!(error.status().unwrap().as_u16(), 500),
            (Ok(Err(error)), Answer::Cut) => {
                assert!(matches!(error.kind(), ErrorKind::Transport(_)), "{error:?}");
            }
            (Ok(Err(error)), Answer::Stall) => assert!(error.is_timeout(), "{error:?}"),
            (Ok(Err(error)), _) => panic!("{error:?}"),
        }
        home.whole().await;
    })
}

/// Each wait for a piece is dropped now and then, and begun again.
async fn in_pieces(
    mut body: ResponseBody,
    patience: std::time::Duration,
) -> Result<Bytes, motet_http::Error> {
    let mut read = Vec::new();
    loop {
        match timeout(patience, body.chunk()).await {
            Err(_) => {}
            Ok(piece) => match piece? {
                Some(piece) => read.extend_from_slice(&piece),
                None => return Ok(read.into()),
            },
        }
    }
}
