//! The whole service in one process: client, server, workers and database, in virtual time.

use std::path::Path;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use motet::run::{ExitOutcome, Root};
use motet::task::{CancelToken, Reason};
use motet_http::{ApiClient, MemoryListener};
use motet_testkit::sim;
use motet_testkit::sim::SelfCheck;
use orders::{Error, NewOrder, Order, Settings, app, serve};
use tokio::time::sleep;

/// SQLite runs on threads, which no seed controls: so two runs of one seed may differ.
const THREADS: SelfCheck = SelfCheck::Off;

/// Runs the service on a database, and a client of it; stops the service when the client has ended.
async fn with_service<T>(database: &Path, client: impl AsyncFnOnce(&ApiClient) -> Result<T, Error>) -> T {
    let stop = CancelToken::new();
    let (stopped, mut result) = (stop.clone(), None);
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let settings = Settings { database: database.to_owned(), metrics };
    let (listener, connector) = MemoryListener::new();
    let stopping = async move { stopped.cancelled().await.clone() };
    let finished = app().run_until(stopping, async |app: &Root<Error>| {
        let api = ApiClient::builder(app)
            .base_url("http://orders")
            .connect_by(move |_| connector.connect())
            .build()?;
        let calls = async {
            // The service answers when it has started: until then the connection waits.
            result = Some(client(&api).await?);
            stop.cancel(Reason::requested("the test is over"));
            Ok::<_, Error>(())
        };
        tokio::try_join!(Box::pin(serve(app, settings, listener)), calls)?;
        Ok(())
    });
    // In boxes, since the compiler limits how deep the types of futures nest.
    let finished = Box::pin(finished).await;
    assert!(matches!(finished.outcome, ExitOutcome::Stopped | ExitOutcome::Returned(())), "{finished:?}");
    assert!(finished.report.is_clean(), "{finished:?}");
    result.expect("the client has ended")
}

fn tea(count: u32) -> NewOrder {
    NewOrder { item: "tea".to_owned(), count }
}

#[test]
fn order_is_stored_at_once_and_confirmed_in_the_end() {
    sim(|| async {
        let folder = tempfile::tempdir().unwrap();
        with_service(&folder.path().join("orders.sqlite"), async |api| {
            let number: i64 = api.post("/orders").json(&tea(2)).fetch_json().await?;
            let path = format!("/orders/{number}");
            let mut order: Order = api.get(&path).fetch_json().await?;
            assert_eq!((order.item.as_str(), order.count), ("tea", 2));
            while !order.confirmed {
                sleep(Duration::from_millis(10)).await;
                order = api.get(&path).fetch_json().await?;
            }
            Ok(())
        })
        .await;
    })
    .seeds(20)
    .self_check(THREADS)
    .run();
}

#[test]
fn accepted_orders_are_there_after_a_restart() {
    sim(|| async {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("orders.sqlite");
        let number: i64 =
            with_service(&database, async |api| Ok(api.post("/orders").json(&tea(3)).fetch_json().await?))
                .await;
        let order: Order = with_service(&database, async |api| {
            Ok(api.get(&format!("/orders/{number}")).fetch_json().await?)
        })
        .await;
        assert_eq!((order.number, order.count), (number, 3));
    })
    .seeds(20)
    .self_check(THREADS)
    .run();
}

#[tokio::test]
async fn order_of_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    with_service(&folder.path().join("orders.sqlite"), async |api| {
        let refused = api.post("/orders").json(&tea(0)).fetch().await.unwrap_err();
        assert_eq!(refused.status().map(|status| status.as_u16()), Some(422), "{refused}");
        Ok(())
    })
    .await;
}
