//! Where answers lead.

use axum::Router;
use axum::response::Redirect as To;
use axum::routing::{any, get};
use http::{HeaderMap, Method, StatusCode};
use motet::task::Scope;
use motet_http::{ErrorKind, Redirect};

use crate::harness::{builder, client, serve, test};

async fn elsewhere(n: &Scope) -> String {
    let there = any(async |method: Method, headers: HeaderMap, body: String| {
        let key = headers.get("authorization").map_or("-", |value| value.to_str().unwrap());
        format!("{method} {body:?} {key}")
    });
    serve(n, Router::new().route("/there", there)).await
}

async fn here(n: &Scope, elsewhere: &str) -> String {
    let there = format!("{elsewhere}/there");
    let (see, keep) = (there.clone(), there);
    let routes = Router::new()
        .route("/see-other", any(async move || To::to(&see)))
        .route("/keep", any(async move || To::temporary(&keep)))
        .route("/back", get(async || To::temporary("/end")))
        .route("/end", get(async || "the end"))
        .route("/round", get(async || To::temporary("/round")));
    serve(n, routes).await
}

#[tokio::test]
async fn redirects_are_not_followed_by_default() {
    test(async |n| {
        let api = client(n, &here(n, "http://a.example").await);
        let answer = api.get("/back").send().await.unwrap();
        assert_eq!(
            (answer.status(), &answer.headers()["location"]),
            (StatusCode::TEMPORARY_REDIRECT, &"/end".parse().unwrap())
        );
        let error = api.get("/back").fetch().await.unwrap_err();
        assert_eq!(error.status(), Some(StatusCode::TEMPORARY_REDIRECT));
    })
    .await;
}

#[tokio::test]
async fn redirects_are_followed_up_to_the_limit() {
    test(async |n| {
        let api = builder(n, &here(n, "http://a.example").await).redirects(3).build().unwrap();
        let answer = api.get("/back").fetch().await.unwrap();
        assert_eq!(answer.uri().path(), "/end");
        assert_eq!(answer.text().await.unwrap(), "the end");
        let error = api.get("/round").fetch().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Redirect(Redirect::TooMany)), "{error:?}");
        assert_eq!(error.attempts(), 4);
        assert_eq!(api.get("/back").redirects(0).send().await.unwrap().status(), 307);
    })
    .await;
}

#[tokio::test]
async fn redirect_to_another_port_is_followed_without_credentials() {
    test(async |n| {
        let base = here(n, &elsewhere(n).await).await;
        let api = builder(n, &base).redirects(3).header("authorization", "key").build().unwrap();
        assert_eq!(api.post("/see-other").body("x").fetch_bytes().await.unwrap(), "GET \"\" -");
        assert_eq!(api.post("/keep").body("x").fetch_bytes().await.unwrap(), "POST \"x\" -");
        assert_eq!(api.breakers().unwrap().len(), 2, "another port is another host");
    })
    .await;
}
