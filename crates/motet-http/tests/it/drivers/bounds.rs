//! The limits of a call: time, size of the response, redirects.

use std::time::Duration;

use http::StatusCode;
use motet_http::{ErrorKind, Redirect, TimeLimit};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::time::Instant;

use super::backend::{Answer, Connect, Home, LARGE, document};
use super::calls::{FUTURES, one_place};
use super::{Driver, draw, millis, passes, swept};

pub(super) const DRIVER: Driver = Driver { drives: FUTURES, cancel, sweep };

#[test]
fn hanging_call_dropped_anywhere_frees_its_slot() {
    cancel();
}

#[test]
fn time_size_and_redirect_limits_of_a_call_hold_in_every_order() {
    passes(sweep);
}

fn cancel() {
    for answer in [Answer::Silence, Answer::Stall, Answer::Busy(1)] {
        cancel_everywhere(
            async || {
                let home = Home::new(one_place).await;
                home.backend.answer(move |_| answer);
                home
            },
            async |home| drop(home.api.get("/a").fetch().await.unwrap_err()),
            async |home, _| home.whole().await,
        );
    }
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        match draw(4) {
            0 | 1 => hangs().await,
            2 => too_large().await,
            _ => leads_elsewhere().await,
        }
    })
}

/// Wherever it hangs, a call ends at its earliest deadline.
async fn hangs() {
    let home = Home::new(|builder| one_place(builder).connect_timeout(millis(200)).without_breakers()).await;
    let begun = Instant::now();
    let within = millis(100 + draw(900));
    let (limit, time) = match draw(6) {
        // For its place, in which a call is that hangs for longer.
        0 => {
            home.backend.answer(|_| Answer::Drip);
            let holder = home.api.get("/drips").without_timeout().send().await.unwrap();
            let begun = Instant::now();
            let error = home.api.get("/a").timeout(within).fetch().await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::TimedOut(TimeLimit::Total)), "{error:?}");
            assert_eq!((error.attempts(), close(begun.elapsed(), within)), (0, true));
            assert_eq!(home.backend.came("/a").len(), 0);
            drop(holder);
            return home.whole().await;
        }
        1 => {
            home.backend.connect(Connect::Hang);
            (TimeLimit::Connect, millis(200))
        }
        2 => {
            home.backend.answer(|_| Answer::Silence);
            (TimeLimit::Head, millis(300 + 3))
        }
        3 => {
            home.backend.answer(|_| Answer::Stall);
            (TimeLimit::Read, millis(300 + 2 * 3))
        }
        4 => {
            home.backend.answer(|_| Answer::Drip);
            (TimeLimit::Total, within)
        }
        // Between two attempts: the wait is not begun.
        _ => {
            home.backend.answer(|_| Answer::Busy(10));
            let error = home.api.get("/a").timeout(within).fetch().await.unwrap_err();
            assert_eq!((error.attempts(), error.status()), (1, Some(StatusCode::SERVICE_UNAVAILABLE)));
            assert!(begun.elapsed() < millis(50), "{:?}", begun.elapsed());
            return home.whole().await;
        }
    };
    let error = home.api.get("/a").once().timeout(within).fetch().await.unwrap_err();
    let (nearest, at) = if within < time { (TimeLimit::Total, within) } else { (limit, time) };
    // Two limits at the same instant may end it either way.
    if within.abs_diff(time) > millis(10) {
        assert!(matches!(error.kind(), ErrorKind::TimedOut(limit) if *limit == nearest), "{error:?}");
    }
    assert!(close(begun.elapsed(), at), "{error:?} after {:?}, not {at:?}", begun.elapsed());
    home.whole().await;
}

/// But for the times of a connection and of a timer's tick.
fn close(took: Duration, at: Duration) -> bool {
    took.abs_diff(at) <= millis(8)
}

/// A body is read whole only up to its bound; piece by piece, it comes.
async fn too_large() {
    let bound = LARGE / 2 + draw(LARGE as u64) as usize;
    let home = Home::new(|builder| one_place(builder).max_body(bound)).await;
    let says_so = draw(2) == 0;
    home.backend.answer(move |_| Answer::Large { says_so });
    match home.api.get("/a").fetch_bytes().await {
        Ok(body) => assert!(body.len() == LARGE && bound >= LARGE),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::TooLarge { limit } if *limit == bound), "{error:?}");
            assert_eq!((bound < LARGE, error.attempts()), (true, 1));
        }
    }
    let mut answer = home.api.get("/a").send().await.unwrap();
    let mut length = 0;
    while let Some(piece) = answer.chunk().await.unwrap() {
        length += piece.len();
    }
    assert_eq!(length, LARGE);
    assert_eq!(home.api.stats().in_flight, 0, "its place is kept past the end of the body");
    drop(answer);
    home.whole().await;
}

/// Redirects are followed up to the limit, and credentials go to no other host.
async fn leads_elsewhere() {
    let (most, leads) = (draw(3) as u32, draw(3) as usize);
    let home = Home::new(|builder| one_place(builder).redirects(most).header("authorization", "key")).await;
    let mut hosts = ['a', 'b', 'a'].into_iter().skip(3 - leads);
    home.backend.answer(move |_| hosts.next().map_or(Answer::Well, Answer::Elsewhere));
    let call = home.api.get("/");
    let own = draw(2) == 0;
    let answer = if own { call.header("cookie", "me") } else { call }.fetch_bytes().await;
    let suffix: String = ['a', 'b', 'a'].into_iter().skip(3 - leads).collect();
    let mut path = "/".to_owned();
    let mut left_home = false;
    for host in suffix.chars() {
        assert!(home.backend.came(&path).len() <= 1);
        path.push(host);
        left_home |= host != 'a';
        for came in home.backend.came(&path) {
            let knows = came.head.contains("authorization: key");
            assert_eq!(knows, !left_home, "{}", came.head);
            assert_eq!(came.head.contains("cookie: me"), own && !left_home, "{}", came.head);
        }
    }
    match answer {
        Ok(body) => assert!(leads as u32 <= most && body == document(&path)),
        Err(error) if most == 0 => assert_eq!(error.status().unwrap().as_u16(), 307),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Redirect(Redirect::TooMany)), "{error:?}");
            assert!(leads as u32 > most);
        }
    }
    home.whole().await;
}
