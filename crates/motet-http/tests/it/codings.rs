//! Response bodies in content codings.

use std::io::Cursor;
use std::time::Duration;

use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use async_compression::zstd::CParameter;
use async_compression::{Level, tokio::write};
use axum::Router;
use axum::body::Body;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use motet_http::{ApiClient, ErrorKind, Peer, TimeLimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{builder, client, scripted, serve, test};

const CODINGS: [&str; 4] = ["gzip", "x-gzip", "br", "zstd"];

async fn coded(coding: &str, data: &[u8]) -> Vec<u8> {
    let (data, mut coded) = (Cursor::new(data), Vec::new());
    let read = match coding {
        "br" => BrotliEncoder::with_quality(data, Level::Fastest).read_to_end(&mut coded).await,
        "zstd" => ZstdEncoder::new(data).read_to_end(&mut coded).await,
        _ => GzipEncoder::new(data).read_to_end(&mut coded).await,
    };
    read.unwrap();
    coded
}

/// A router that answers `/` with this body, stated to be in this coding.
fn stated(coding: &'static str, body: Vec<u8>) -> Router {
    Router::new().route("/", get(async move || ([(CONTENT_ENCODING, coding)], body)))
}

/// Text that is longer coded than a step of the decoder.
fn text() -> String {
    (0..60_000).map(|n: u64| format!("{:x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect()
}

#[tokio::test]
async fn coded_body_is_decoded_and_its_connection_used_again() {
    test(async |n| {
        let text = text();
        for coding in CODINGS {
            let whole = coded(coding, text.as_bytes()).await;
            let answer = async move |axum::Extension(Peer(peer)): axum::Extension<Peer>| {
                let pieces: Vec<_> =
                    whole.chunks(7_000).map(|piece| Ok::<_, String>(piece.to_vec())).collect();
                let headers = [
                    (CONTENT_ENCODING, coding.to_owned()),
                    ("x-port".try_into().unwrap(), peer.port().to_string()),
                ];
                (headers, Body::from_stream(stream_of(pieces)))
            };
            let api = client(n, &serve(n, Router::new().route("/", get(answer))).await);
            let mut ports = Vec::new();
            for _ in 0..2 {
                let response = api.get("/").fetch().await.unwrap();
                assert!(!response.headers().contains_key(CONTENT_ENCODING), "{coding}");
                ports.push(response.headers()["x-port"].clone());
                assert!(response.text().await.unwrap() == text, "{coding}");
            }
            assert_eq!(ports[0], ports[1], "{coding}");
        }
    })
    .await;
}

/// A stream of ready items.
fn stream_of<T: Send + 'static>(items: Vec<T>) -> impl futures_core::Stream<Item = T> + Send {
    motet::stream::generator(async move |mut out| {
        for item in items {
            out.emit(item).await;
        }
    })
}

#[tokio::test]
async fn decoded_response_has_no_content_length() {
    test(async |n| {
        let whole = coded("gzip", b"hello").await;
        let response = client(n, &serve(n, stated("gzip", whole)).await).get("/").send().await.unwrap();
        assert!(!response.headers().contains_key(CONTENT_LENGTH));
        assert_eq!(response.text().await.unwrap(), "hello");
    })
    .await;
}

#[tokio::test]
async fn decoded_body_is_limited_unless_it_is_read_in_chunks() {
    test(async |n| {
        let zeros = vec![0; 8 << 20];
        for coding in ["gzip", "br", "zstd"] {
            let bomb = coded(coding, &zeros).await;
            assert!(bomb.len() < 64 << 10, "{coding}: {}", bomb.len());
            let base = serve(n, stated(coding, bomb)).await;
            let api = builder(n, &base).max_body(1 << 20).build().unwrap();
            let error = api.get("/").fetch_bytes().await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 0x10_0000 }), "{coding}: {error:?}");
            // A reader of chunks decides by itself.
            let mut response = api.get("/").send().await.unwrap();
            let mut read = 0;
            while let Some(chunk) = response.chunk().await.unwrap() {
                assert!(chunk.len() <= 32 << 10);
                read += chunk.len();
            }
            assert_eq!(read, zeros.len());
        }
    })
    .await;
}

#[tokio::test]
async fn zstd_body_with_a_huge_window_is_refused() {
    test(async |n| {
        for (log, is_good) in [(23, true), (24, false)] {
            let params = [CParameter::window_log(log)];
            let mut encoder =
                write::ZstdEncoder::with_quality_and_params(Vec::new(), Level::Fastest, &params);
            encoder.write_all(&[0; 100_000]).await.unwrap();
            encoder.flush().await.unwrap();
            encoder.write_all(&[1; 100_000]).await.unwrap();
            encoder.shutdown().await.unwrap();
            let api = client(n, &serve(n, stated("zstd", encoder.into_inner())).await);
            let read = api.get("/").once().fetch_bytes().await;
            assert_eq!(read.is_ok(), is_good, "{log}: {read:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn invalid_or_cut_coded_body_is_a_transport_error() {
    test(async |n| {
        for coding in ["gzip", "br", "zstd"] {
            let mut cut = coded(coding, text().as_bytes()).await;
            cut.truncate(cut.len() - 5);
            for body in [cut, b"this is no coded body at all".to_vec()] {
                let api = client(n, &serve(n, stated(coding, body)).await);
                let error = api.get("/").fetch_bytes().await.unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::Transport(_)), "{coding}: {error:?}");
                assert_eq!(error.attempts(), 3);
                let ErrorKind::Transport(why) = error.into_kind() else { unreachable!() };
                assert_eq!(why.to_string(), format!("the body of the response is not valid {coding}"));
            }
        }
    })
    .await;
}

/// Answers with the `Accept-Encoding` of the request, stated to be gzip.
fn echo() -> Router {
    let answer = async |headers: HeaderMap| {
        let accepted = headers.get(ACCEPT_ENCODING).map_or("none", |value| value.to_str().unwrap());
        ([(CONTENT_ENCODING, "gzip")], accepted.to_owned())
    };
    Router::new().route("/", get(answer))
}

#[tokio::test]
async fn body_is_decoded_only_if_the_client_chose_the_codings() {
    test(async |n| {
        let base = serve(n, echo()).await;
        let of = |build: fn(motet_http::ApiClientBuilder) -> motet_http::ApiClientBuilder| {
            build(builder(n, &base)).build().unwrap()
        };
        let (on, off) = (of(|builder| builder), of(|builder| builder.without_decompression()));
        let own = of(|builder| builder.header(ACCEPT_ENCODING, "br"));
        // A body that is not decoded arrives as it was sent: here not even in the stated coding.
        let as_sent = async |api: &ApiClient, headers: &[(&str, &str)]| {
            let request =
                headers.iter().fold(api.get("/"), |request, (name, value)| request.header(*name, *value));
            let response = request.fetch().await.unwrap();
            assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
            response.text().await.unwrap()
        };
        assert_eq!(as_sent(&off, &[]).await, "none");
        assert_eq!(as_sent(&own, &[]).await, "br");
        assert_eq!(as_sent(&on, &[("accept-encoding", "gzip")]).await, "gzip");
        assert_eq!(as_sent(&on, &[("range", "bytes=0-1")]).await, "none");
        let error = on.get("/").once().fetch().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Transport(_)), "it is decoded: {error:?}");

        let echo = get(async |headers: HeaderMap| headers[ACCEPT_ENCODING].to_str().unwrap().to_owned());
        let plain = client(n, &serve(n, Router::new().route("/", echo)).await);
        assert_eq!(plain.get("/").fetch().await.unwrap().text().await.unwrap(), "zstd, br, gzip");
    })
    .await;
}

#[tokio::test]
async fn unknown_or_several_codings_are_left_to_the_caller() {
    test(async |n| {
        for coding in ["compress", "gzip, br", "identity"] {
            let api = client(n, &serve(n, stated(coding, b"as it was sent".to_vec())).await);
            let response = api.get("/").fetch().await.unwrap();
            assert_eq!(response.headers()[CONTENT_ENCODING], coding);
            assert_eq!(response.text().await.unwrap(), "as it was sent");
        }
    })
    .await;
}

#[tokio::test]
async fn response_to_head_keeps_the_headers_of_the_coded_body() {
    test(async |n| {
        let whole = coded("gzip", b"hello").await;
        let length = whole.len().to_string();
        let api = client(n, &serve(n, stated("gzip", whole)).await);
        let response = api.head("/").fetch().await.unwrap();
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        assert_eq!(response.headers()[CONTENT_LENGTH].to_str().unwrap(), length);
        assert_eq!(response.bytes().await.unwrap().len(), 0);
    })
    .await;
}

#[tokio::test]
async fn excerpt_of_a_failure_is_decoded() {
    test(async |n| {
        let body = coded("br", b"no such user").await;
        let answer = async move || (StatusCode::NOT_FOUND, [(CONTENT_ENCODING, "br")], body).into_response();
        let api = client(n, &serve(n, Router::new().route("/", get(answer))).await);
        let error = api.get("/").fetch().await.unwrap_err();
        assert!(error.to_string().ends_with("answered 404 Not Found: \"no such user\""), "{error}");
    })
    .await;
}

/// The deadline must hold although each read finds data.
#[tokio::test(flavor = "multi_thread")]
async fn endless_body_that_decodes_to_nothing_ends_at_the_deadline() {
    test(async |n| {
        let nothing = coded("gzip", b"").await;
        let (base, _) = scripted(n, move |mut connection| {
            let piece: Vec<u8> = nothing.iter().copied().cycle().take(nothing.len() * 500).collect();
            async move {
                connection.request().await;
                let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n";
                connection.write(head).await;
                let mut stream = connection.into_inner();
                let chunk = [format!("{:x}\r\n", piece.len()).into_bytes(), piece, b"\r\n".to_vec()].concat();
                while stream.write_all(&chunk).await.is_ok() {}
            }
        })
        .await;
        let api = builder(n, &base).timeout(Duration::from_millis(200)).build().unwrap();
        let error = api.get("/").fetch_bytes().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut(TimeLimit::Total)), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn body_without_a_byte_is_empty_whatever_its_coding() {
    for coding in CODINGS {
        test(async |n| {
            let (base, _) = scripted(n, move |mut connection| async move {
                connection.request().await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\n");
                connection.write(&format!("{head}transfer-encoding: chunked\r\n\r\n0\r\n\r\n")).await;
            })
            .await;
            assert!(client(n, &base).get("/").fetch_bytes().await.unwrap().is_empty(), "{coding}");
        })
        .await;
    }
}
