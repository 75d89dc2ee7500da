//! The lower half of a client: each request is one attempt, and no connection is left.

use http::Request;
use http_body_util::BodyExt as _;
use motet::task::timeout;
use motet_http::{Body, SendError};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};

use super::backend::{Answer, Connect, Home, document};
use super::{Driver, draw, millis, passes, swept};

pub(super) const DRIVER: Driver = Driver { drives: &["connect::Connections::send"], cancel, sweep };

#[test]
fn request_dropped_anywhere_leaves_no_connection_past_its_scope() {
    cancel();
}

#[test]
fn every_request_is_sent_at_most_once_and_its_answer_is_whole() {
    passes(sweep);
}

fn request() -> Request<Body> {
    Request::post("http://a/a").body(Body::from("x".repeat(100))).unwrap()
}

fn cancel() {
    for is_connected in [false, true] {
        cancel_everywhere(
            async || {
                let home = Home::new(|builder| builder).await;
                if is_connected {
                    let answer = home.connections.send(request()).await.unwrap();
                    drop(answer.into_body().collect().await.unwrap());
                }
                home
            },
            async |home| drop(home.connections.send(request()).await.unwrap()),
            async |home, _| home.whole().await,
        );
    }
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let home = Home::new(|builder| builder).await;
        let answers = [Answer::Well, Answer::Last, Answer::Status(503), Answer::Close, Answer::Silence];
        home.backend.answer(move |_| answers[draw(answers.len() as u64) as usize]);
        if draw(8) == 0 {
            home.backend.connect(Connect::Refuse);
        }
        let mut sent = 0;
        for _ in 0..4 {
            sent += 1;
            match timeout(millis(draw(40)), home.connections.send(request())).await {
                Err(_) => {}
                Ok(Ok(answer)) => {
                    let whole = answer.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(whole, document("/a"));
                }
                Ok(Err(error)) => {
                    let expected = matches!(
                        error,
                        SendError::Transport(_) | SendError::Stale(_) | SendError::Connect(_)
                    );
                    assert!(expected, "{error:?}");
                }
            }
            assert!(home.backend.came("/a").len() <= sent, "it was sent twice");
        }
        home.whole().await;
    })
}
