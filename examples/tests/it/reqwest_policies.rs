include!("../../21_reqwest.rs");

mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;
    use motet::resilience::ErrorKind;
    use motet::task::{CancelToken, Nursery, scope};
    use motet_http::Server;
    use tokio::net::TcpListener;

    use super::*;

    /// Serves `/` with these statuses in turn, the last one for good; the body runs with the URL and the number of requests.
    async fn with_server(statuses: &'static [u16], body: impl AsyncFnOnce(&str, &AtomicUsize)) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let answer = async move || {
            let number = counted.fetch_add(1, SeqCst);
            let status = statuses[number.min(statuses.len() - 1)];
            (StatusCode::from_u16(status).unwrap(), "hello")
        };
        let router = Router::new().route("/", get(answer));
        let served = scope(async |n: &Nursery<Infallible>| {
            n.service(
                "server",
                async move { Server::new().serve(listener, router, CancelToken::new()).await },
            );
            body(&url, &requests).await;
            Ok(())
        });
        served.await.unwrap();
    }

    #[tokio::test]
    async fn failing_server_is_asked_again_and_a_missing_page_is_not() {
        let breaker = CircuitBreaker::default();
        with_server(&[503, 200], async |url, requests| {
            assert_eq!(fetch(&Client::new(), &breaker, url).await.unwrap(), "hello");
            assert_eq!(requests.load(SeqCst), 2);
        })
        .await;
        with_server(&[404], async |url, requests| {
            let error = fetch(&Client::new(), &breaker, url).await.unwrap_err();
            assert_eq!(error.into_error().unwrap().status().unwrap(), 404);
            assert_eq!(requests.load(SeqCst), 1);
        })
        .await;
    }

    #[tokio::test]
    async fn rejection_by_an_open_breaker_names_the_breaker() {
        let breaker = CircuitBreaker::builder().name("users").consecutive_failures(3).build().unwrap();
        with_server(&[500], async |url, requests| {
            let error = fetch(&Client::new(), &breaker, url).await.unwrap_err();
            assert_eq!((error.kind(), error.attempts()), (ErrorKind::AttemptsExhausted, 3));
            let error = fetch(&Client::new(), &breaker, url).await.unwrap_err();
            assert!(
                error.to_string().starts_with("rejected by the circuit breaker `users`; try again in "),
                "{error}"
            );
            assert_eq!(requests.load(SeqCst), 3);
        })
        .await;
    }
}
