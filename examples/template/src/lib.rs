//! The service: what it consists of, and the phases of its shutdown.

mod api;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use motet::batch::Batcher;
use motet::periodic::every;
use motet::queue;
use motet::queue::Sender;
use motet::run::{App, Root};
use motet_http::{Listener, Readiness, Served, Server};

pub use api::{NewOrder, Order};
use store::Store;
pub use store::StoreError;

pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The phases of the shutdown, in their order.
const HTTP: &str = "http";
const ORDERS: &str = "orders";
const STORE: &str = "store";

/// The number of orders that wait in memory to be confirmed.
const UNCONFIRMED: usize = 1_000;

pub struct Settings {
    pub database: PathBuf,
    pub metrics: PrometheusHandle,
}

/// The program, with the phases of its shutdown.
pub fn app() -> App {
    App::new()
        .name("orders")
        .phase(HTTP, Duration::from_secs(10))
        .phase(ORDERS, Duration::from_secs(5))
        .phase(STORE, Duration::from_secs(2))
        .total(Duration::from_secs(20))
}

/// The parts that the handlers use.
struct Service {
    store: Arc<Store>,
    /// Writes the orders of many requests in one transaction.
    batcher: Batcher<NewOrder, i64, StoreError>,
    readiness: Readiness,
    metrics: PrometheusHandle,
}

/// Queues orders for the workers. What does not fit into the queue is left for the sweep.
fn enqueue(unconfirmed: &Sender<i64>, numbers: &[i64]) {
    let left = numbers.iter().skip_while(|number| unconfirmed.try_send(**number).is_ok()).count();
    if left > 0 {
        tracing::warn!(left, "the queue of unconfirmed orders is full: the rest waits for the next sweep");
    }
}

/// Runs the service until the program is asked to stop.
pub async fn serve<L: Listener>(app: &Root<Error>, settings: Settings, listener: L) -> Result<(), Error> {
    app.export_metrics(Duration::from_secs(5))?;
    let store = Arc::new(Store::open(app.in_phase(STORE).scope(), &settings.database).await?);

    let orders = app.in_phase(ORDERS);
    let (unconfirmed, received) =
        queue::builder::<i64>(UNCONFIRMED).name("unconfirmed").build_in(orders.scope())?;
    let confirmed = Arc::clone(&store);
    received.workers(4)?.start(orders.scope(), "confirm", move |job| {
        let (store, number) = (Arc::clone(&confirmed), *job);
        // An error is logged, and the order is tried again after a delay.
        async move { store.confirm(number).await }
    })?;
    // Orders that were stored and not confirmed, when the queue was full or the process ended. To confirm one twice does
    // no harm.
    let (swept, to_confirm) = (Arc::clone(&store), unconfirmed.clone());
    let sweep = every(Duration::from_secs(60))?.name("sweep").immediately();
    sweep.start(orders.scope(), move || {
        let (store, unconfirmed) = (Arc::clone(&swept), to_confirm.clone());
        async move {
            let numbers = store.unconfirmed(UNCONFIRMED).await?;
            enqueue(&unconfirmed, &numbers);
            Ok::<_, StoreError>(())
        }
    })?;

    let written = Arc::clone(&store);
    let batcher =
        Batcher::builder(orders.scope()).name("orders").max_items(100).build(move |new: Vec<NewOrder>| {
            let (store, unconfirmed) = (Arc::clone(&written), unconfirmed.clone());
            async move {
                let numbers = store.insert(new).await?;
                // Here, and not in the request, which its client may drop.
                enqueue(&unconfirmed, &numbers);
                Ok::<_, StoreError>(numbers.into_iter().map(Ok).collect::<Vec<_>>())
            }
        })?;

    let readiness = Readiness::new();
    let service = Service { store, batcher, readiness: readiness.clone(), metrics: settings.metrics };
    let server = Server::builder().name("api").readiness(&readiness).build()?;
    let serving = app.in_phase(HTTP).service_coop("http", async move |stop| {
        server.serve(listener, api::router(Arc::new(service)), stop).await
    });
    readiness.set(true);
    app.ready();
    // It ends at the stop, which drops this body before: then the phases wait for it.
    match serving.await? {
        Served::All => Ok(()),
        cut_off => Err(format!("requests were cut off: {cut_off:?}").into()),
    }
}
