//! Calls: whatever the server does, each call ends in time with a true result, is repeated only if it may be, and
//! leaves neither a connection nor a slot in use.

use std::num::NonZeroUsize;
use std::time::Duration;

use http::Method;
use motet::Backoff;
use motet::resilience::{CircuitBreaker, CircuitBreakers, Retry};
use motet::sometimes;
use motet::task::{Nursery, gather, scope, timeout};
use motet_http::{ApiClientBuilder, Error, ErrorKind, TimeLimit};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::time::{Instant, sleep};

use super::backend::{Answer, Connect, Home, document};
use super::{Driver, draw, millis, passes, swept};

pub(super) const DRIVER: Driver = Driver { drives: FUTURES, cancel, sweep };

pub(super) const FUTURES: &[&str] = &[
    "client::RequestBuilder::send",
    "client::RequestBuilder::fetch",
    "client::RequestBuilder::fetch_bytes",
    "client::RequestBuilder::fetch_json",
];

#[test]
fn call_dropped_anywhere_frees_its_slot_for_a_later_call() {
    cancel();
}

#[test]
fn calls_keep_limits_retry_rules_and_breakers_in_every_order() {
    passes(sweep);
}

/// Delays are short, so that a run has many of them.
fn brisk(builder: ApiClientBuilder) -> ApiClientBuilder {
    let retry = Retry::new().backoff(Backoff::constant(millis(20))).without_budget();
    builder.retry(retry).timeout(millis(2_000)).head_timeout(millis(300)).read_timeout(millis(300))
}

pub(super) fn one_place(builder: ApiClientBuilder) -> ApiClientBuilder {
    brisk(builder).max_in_flight(1, 8)
}

fn cancel() {
    // Over a new connection, and over one that was used before.
    for is_connected in [false, true] {
        cancel_everywhere(
            async || {
                let home = Home::new(one_place).await;
                if is_connected {
                    drop(home.api.get("/before").fetch().await.unwrap());
                }
                home
            },
            async |home| home.api.get("/a").fetch_json::<String>().await.unwrap(),
            async |home, _| home.whole().await,
        );
    }
    cancel_everywhere(
        async || Home::new(one_place).await,
        async |home| home.api.post("/a").body("x".repeat(100)).fetch_bytes().await.unwrap(),
        async |home, _| home.whole().await,
    );
    cancel_everywhere(
        async || Home::new(one_place).await,
        async |home| drop(home.api.get("/a").send().await.unwrap()),
        async |home, _| home.whole().await,
    );
    // In a line for its place, after a failure, and at another host.
    cancel_everywhere(
        async || {
            let home = Home::new(|builder| one_place(builder).redirects(1)).await;
            let mut answers = [Answer::Status(503), Answer::Elsewhere('b')].into_iter();
            home.backend.answer(move |_| answers.next().unwrap_or(Answer::Well));
            home
        },
        async |home| {
            let calls = gather((0..2).map(|_| home.api.get("/a").fetch())).await;
            assert!(calls.iter().all(Result::is_ok), "{calls:?}");
        },
        async |home, _| home.whole().await,
    );
    // The probe of a breaker.
    cancel_everywhere(
        async || {
            let home = Home::new(guarded).await;
            home.backend.answer(|_| Answer::Status(500));
            open_breaker(&home).await;
            home.backend.answer(|_| Answer::Well);
            sleep(OPEN_FOR).await;
            home
        },
        async |home| drop(home.api.get("/a").fetch().await.unwrap()),
        async |home, _| home.whole().await,
    );
}

const OPEN_FOR: Duration = millis(500);

/// With a breaker that opens soon, and has one probe.
fn guarded(builder: ApiClientBuilder) -> ApiClientBuilder {
    let breaker = CircuitBreaker::builder().consecutive_failures(3).probes(1);
    let breaker = breaker.open_for(Backoff::constant(OPEN_FOR));
    one_place(builder).breakers(CircuitBreakers::with_builder(NonZeroUsize::MIN, breaker).unwrap())
}

async fn open_breaker(home: &Home) {
    for _ in 0..4 {
        drop(home.api.get("/down").once().fetch().await);
    }
    assert!(home.api.get("/down").once().fetch().await.unwrap_err().is_rejected(), "it is still closed");
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        match draw(4) {
            0 => any_weather().await,
            1 => crowds().await,
            2 => comes_back().await,
            _ => goes_down().await,
        }
    })
}

/// The behaviour of a server towards a call with time for three attempts.
const WEATHER: [Answer; 9] = [
    Answer::Well,
    Answer::Well,
    Answer::Last,
    Answer::Status(503),
    Answer::Status(404),
    Answer::Stall,
    Answer::Silence,
    Answer::Cut,
    Answer::Close,
];

/// Many calls of all kinds, of which some are dropped.
async fn any_weather() {
    let places = 1 + draw(3) as usize;
    let home = Home::new(|builder| brisk(builder).max_in_flight(places, 100).without_breakers()).await;
    home.backend.answer(|_| WEATHER[draw(WEATHER.len() as u64) as usize]);
    let users = scope(async |n: &Nursery| {
        for number in 0..6 {
            let (api, backend) = (home.api.clone(), home.backend.clone());
            n.spawn("calls", async move {
                for turn in 0..3 {
                    let path = format!("/{number}.{turn}");
                    let method = if draw(2) == 0 { Method::GET } else { Method::POST };
                    let is_safe = method == Method::GET;
                    let call = api.request(method, &path).body("x".repeat(draw(2) as usize * 100));
                    let begun = Instant::now();
                    let Ok(answer) = timeout(millis(50 + draw(5_000)), call.fetch_json::<String>()).await
                    else {
                        continue;
                    };
                    assert!(begun.elapsed() <= millis(2_002), "late: {:?}", begun.elapsed());
                    let came = backend.came(&path);
                    assert!(came.len() <= if is_safe { 3 } else { 1 }, "{came:?}");
                    judge(answer, &path, came.last().map(|came| came.answer));
                }
            });
        }
        Ok(())
    });
    users.await.unwrap();
    assert!(home.backend.most_inside() > 0);
    home.whole().await;
}

/// The error agrees with what the backend did.
fn judge(answer: Result<String, Error>, path: &str, last: Option<Answer>) {
    match answer {
        Ok(text) => assert_eq!(format!("{text:?}"), document(path)),
        Err(error) => {
            let is_true = match error.kind() {
                ErrorKind::Status(status) => last == Some(Answer::Status(status.code.as_u16())),
                ErrorKind::Transport(_) => {
                    matches!(last, None | Some(Answer::Cut | Answer::Close | Answer::Last))
                }
                ErrorKind::TimedOut(TimeLimit::Read) => last == Some(Answer::Stall),
                ErrorKind::TimedOut(TimeLimit::Head) => last == Some(Answer::Silence),
                // In a line for a place, or anywhere.
                ErrorKind::TimedOut(TimeLimit::Total) => true,
                _ => false,
            };
            assert!(is_true, "{error:?} after {last:?}");
        }
    }
}

/// At most `max_in_flight` calls run at once, each up to the end of its body, and every call completes.
async fn crowds() {
    let places = 1 + draw(3) as usize;
    let home = Home::new(|builder| brisk(builder).max_in_flight(places, 100).timeout(millis(60_000))).await;
    let calls = gather((0..12).map(|number| {
        let api = &home.api;
        async move {
            sleep(millis(draw(20))).await;
            let path = format!("/{number}");
            match draw(2) {
                0 => api.get(&path).fetch_bytes().await.unwrap(),
                _ => {
                    let answer = api.get(&path).send().await.unwrap();
                    sleep(millis(draw(20))).await;
                    answer.bytes().await.unwrap()
                }
            }
        }
    }));
    calls.await;
    let most = home.backend.most_inside();
    assert!(most <= places, "{most} at once, of {places}");
    sometimes!(most == 3, "all places are taken");
    home.whole().await;
}

/// A host that asks for a delay is not called earlier, and not at all if the delay is too long; over the same
/// connection.
async fn comes_back() {
    let home = Home::new(|builder| {
        brisk(builder).timeout(millis(60_000)).max_retry_after(Duration::from_secs(5)).without_breakers()
    })
    .await;
    let after = draw(8);
    let mut first = true;
    home.backend.answer(move |_| if std::mem::take(&mut first) { Answer::Busy(after) } else { Answer::Well });
    // Whether all of it is asked for, or its head.
    let call = home.api.get("/a");
    let answer = match draw(2) {
        0 => call.fetch().await,
        _ => match call.send().await {
            Ok(answer) => answer.success().await,
            failed => failed,
        },
    };
    let came = home.backend.came("/a");
    match answer {
        Ok(answer) => {
            assert_eq!((answer.attempts(), came.len()), (2, 2));
            let waited = came[1].at - came[0].at;
            assert!(waited >= Duration::from_secs(after) && after <= 5, "{waited:?} of {after}");
            assert_eq!(home.backend.opened(), 1, "its connection is not used again");
        }
        Err(error) => {
            assert!(after > 5, "{error:?}");
            assert_eq!((came.len(), error.retry_after()), (1, Some(Duration::from_secs(after))));
        }
    }
    home.whole().await;
}

/// A host that fails is left alone, and comes back.
async fn goes_down() {
    let home = Home::new(guarded).await;
    match draw(3) {
        0 => home.backend.answer(|_| Answer::Status(500)),
        1 => home.backend.answer(|_| Answer::Close),
        _ => home.backend.connect(Connect::Refuse),
    }
    open_breaker(&home).await;
    let (before, opened) = (home.backend.came_at_all(), home.backend.opened());
    let error = home.api.get("/down").fetch().await.unwrap_err();
    assert!(error.is_rejected() && error.retry_after().is_some(), "{error:?}");
    assert_eq!((home.backend.came_at_all(), home.backend.opened()), (before, opened), "it was called");
    sleep(OPEN_FOR).await;
    home.backend.connect(Connect::Well);
    home.backend.answer(|_| Answer::Silence);
    // A probe whose caller gives up.
    let probe = timeout(millis(draw(250)), home.api.get("/probe").once().fetch()).await;
    assert!(probe.is_err(), "{probe:?}");
    home.backend.answer(|_| Answer::Well);
    let begun = Instant::now();
    while home.api.get("/probe").once().fetch().await.is_err() {
        sleep(millis(50)).await;
        assert!(begun.elapsed() < millis(2_000), "the host stays down");
    }
    home.whole().await;
}
