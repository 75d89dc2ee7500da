//! Requests through an HTTP proxy.

use std::env;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use motet::task::Scope;
use motet_http::{ErrorKind, Proxy};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{builder, client, scripted, serve, test};
use crate::versions;

/// A proxy that opens tunnels; gives its URL, and the requests for tunnels.
async fn tunnels(n: &Scope) -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let (url, _) = scripted(n, move |mut connection| {
        let noted = Arc::clone(&noted);
        async move {
            let Some(head) = connection.head().await else { return };
            let host = head.split(' ').nth(1).unwrap().to_owned();
            noted.lock().unwrap().push(head);
            let mut host = TcpStream::connect(host).await.unwrap();
            connection.write("HTTP/1.1 200 Connection established\r\n\r\n").await;
            let _ended = copy_bidirectional(&mut connection.into_inner(), &mut host).await;
        }
    })
    .await;
    (url.replace("http://", "http://me:secret@"), asked)
}

#[tokio::test]
async fn request_to_an_http_url_is_forwarded_with_the_credentials() {
    test(async |n| {
        let (proxy, connections) = scripted(n, async |mut connection| {
            while let Some(request) = connection.request().await {
                connection.answer("200 OK", &request).await;
            }
        })
        .await;
        let proxy = Proxy::new(&proxy.replace("http://", "http://me:secret@")).unwrap();
        let api = builder(n, "http://a.invalid:81").proxy(proxy).build().unwrap();
        for _ in 0..2 {
            let seen = api.get("/x?y=z").fetch().await.unwrap().text().await.unwrap().to_lowercase();
            assert!(seen.starts_with("get http://a.invalid:81/x?y=z http/1.1\r\n"), "{seen}");
            assert!(seen.contains("\r\nhost: a.invalid:81\r\n"), "{seen}");
            assert!(seen.contains("\r\nproxy-authorization: basic bwu6c2vjcmv0\r\n"), "{seen}");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1, "the connection is used again");
    })
    .await;
}

#[tokio::test]
async fn excepted_host_gets_neither_the_proxy_nor_its_credentials() {
    test(async |n| {
        let echo = get(async |headers: http::HeaderMap| format!("{headers:?}"));
        let base = serve(n, Router::new().route("/", echo)).await;
        let proxy = Proxy::new("http://me:secret@127.0.0.1:1").unwrap().except("127.0.0.0/8");
        let api = builder(n, &base).proxy(proxy).build().unwrap();
        let seen = api.get("/").fetch().await.unwrap().text().await.unwrap();
        assert!(!seen.contains("proxy-authorization"), "{seen}");
    })
    .await;
}

#[tokio::test]
async fn tls_runs_through_a_tunnel_asked_for_with_the_credentials() {
    test(async |n| {
        let (base, trusted) = versions::tls(n, &["h2", "http/1.1"]).await;
        let (proxy, asked) = tunnels(n).await;
        let proxy = Proxy::new(&proxy).unwrap();
        let api = builder(n, &base).tls(trusted).proxy(proxy).build().unwrap();
        let answer = api.get("/x").fetch().await.unwrap().text().await.unwrap();
        assert_eq!(answer, "HTTP/2.0 \"/x\"");
        let asked = asked.lock().unwrap();
        let host = base.strip_prefix("https://").unwrap();
        assert!(asked[0].starts_with(&format!("CONNECT {host} HTTP/1.1\r\nhost: {host}\r\n")), "{asked:?}");
        assert!(asked[0].contains("proxy-authorization: Basic bWU6c2VjcmV0\r\n"), "{asked:?}");
    })
    .await;
}

#[tokio::test]
async fn http2_without_tls_goes_through_a_tunnel() {
    test(async |n| {
        let (base, _) = versions::h2(n).await;
        let (proxy, asked) = tunnels(n).await;
        let api = builder(n, &base).versions(motet_http::Versions::Http2).proxy(Proxy::new(&proxy).unwrap());
        let answer = api.build().unwrap().get("/x").fetch().await.unwrap().text().await.unwrap();
        assert_eq!((answer.as_str(), asked.lock().unwrap().len()), ("HTTP/2.0 \"/x\"", 1));
    })
    .await;
}

#[tokio::test]
async fn failure_of_the_proxy_is_a_connect_error_that_names_it() {
    test(async |n| {
        let (refusing, _) = scripted(n, async |mut connection| {
            connection.head().await;
            connection.answer("407 Proxy Authentication Required", "who are you?").await;
        })
        .await;
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for (proxy, says) in [
            (refusing, "does not connect to a.invalid:443"),
            (format!("http://me:secret@{gone}"), "no connection to the proxy 127.0.0.1:"),
        ] {
            let proxy = Proxy::new(&proxy).unwrap();
            let api = builder(n, "https://a.invalid").proxy(proxy).build().unwrap();
            let error = api.get("/").once().send().await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Connect(_)), "{error:?}");
            let said = format!("{error:?}");
            assert!(!said.contains("secret"), "{said}");
            let text = error.to_string();
            assert!(text.contains(says) && !text.contains("secret"), "{text}");
        }
    })
    .await;
}

#[tokio::test]
async fn address_filter_and_proxy_are_refused_together() {
    test(async |n| {
        let proxy = Proxy::new("http://proxy.invalid").unwrap();
        let both =
            builder(n, "http://a.invalid").connect_only_to(|_| Ok::<_, String>(())).proxy(proxy).build();
        let why = both.unwrap_err().to_string();
        assert!(why.contains("an address filter checks only the address of a proxy"), "{why}");
    })
    .await;
}

/// The variables are those of a process of its own.
#[test]
fn proxy_of_the_environment_is_used_only_when_asked_for() {
    const WITH_PROXY: &str = "MOTET_TEST_WITH_PROXY";
    if env::var_os(WITH_PROXY).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(async |n| {
            let base = serve(n, Router::new().route("/", get(async || "directly"))).await;
            let text = client(n, &base).get("/").fetch().await.unwrap().text().await.unwrap();
            assert_eq!(text, "directly");
            let proxy = Proxy::from_env().unwrap().unwrap();
            let error =
                builder(n, &base).proxy(proxy).build().unwrap().get("/").once().send().await.unwrap_err();
            assert!(error.is_connect(), "{error:?}");
        }));
        return;
    }
    let name = "proxies::proxy_of_the_environment_is_used_only_when_asked_for";
    let mut again = Command::new(env::current_exe().unwrap());
    again
        .args(["--exact", name])
        .env(WITH_PROXY, "1")
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .env_remove("NO_PROXY");
    let ran = again.env_remove("no_proxy").env_remove("REQUEST_METHOD").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}
