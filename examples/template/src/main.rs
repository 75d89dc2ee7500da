//! The process: logs, metrics, the listening socket, the path of the database.

use std::process::ExitCode;

use metrics_exporter_prometheus::PrometheusBuilder;
use motet::run::Root;
use orders::{Error, Settings, app, serve};
use tokio::net::TcpListener;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(motet::run::stderr).init();
    app().run(async |app: &Root<Error>| {
        let settings = Settings {
            database: "orders.sqlite".into(),
            metrics: PrometheusBuilder::new().install_recorder()?,
        };
        let listener = TcpListener::bind("127.0.0.1:8080").await?;
        tracing::info!("listening on http://127.0.0.1:8080");
        serve(app, settings, listener).await
    })
}
