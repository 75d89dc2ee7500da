//! The span of a call: the events of its policies name its method and its host.

use std::io;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use motet::resilience::{CircuitBreaker, CircuitBreakers};
use tracing::Level;
use tracing::subscriber::set_default;

use crate::harness::{builder, serve, test};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn retry_and_breaker_events_name_method_and_host_of_the_call() {
    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || written.clone())
        .finish();
    let _log = set_default(subscriber);
    test(async |n| {
        let refuses = get(async || StatusCode::SERVICE_UNAVAILABLE);
        let base = serve(n, Router::new().route("/secret-token", refuses)).await;
        let breaker = || CircuitBreaker::builder().name("hooks").consecutive_failures(2).build().unwrap();
        let breakers = CircuitBreakers::new(4.try_into().unwrap(), move |_| breaker());
        let api = builder(n, &base).breakers(breakers).build().unwrap();
        api.get("/secret-token").fetch().await.unwrap_err();
        let port = base.rsplit_once(':').unwrap().1;
        let span = format!("http_call{{method=GET host=\"127.0.0.1\" port={port}}}");
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        for event in ["an attempt will be retried", "a circuit breaker opened"] {
            let line =
                log.lines().find(|line| line.contains(event)).unwrap_or_else(|| panic!("{event}: {log}"));
            assert!(line.contains(&span), "{line}");
        }
        assert!(log.lines().any(|line| line.contains("opened") && line.contains("breaker=hooks")), "{log}");
        assert!(!log.contains("secret-token"), "{log}");
    })
    .await;
}
