//! The API over TLS.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::harness::{Home, LOOPBACK, Relay, program};

/// Writes a new certificate for `localhost` and its key. Returns the certificate and the two files.
fn certificate(folder: &TempDir, name: &str) -> (CertificateDer<'static>, [PathBuf; 2]) {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let files = ["certificate", "key"].map(|kind| folder.path().join(format!("{name}-{kind}.pem")));
    fs::write(&files[0], made.pem()).unwrap();
    fs::write(&files[1], key.serialize_pem()).unwrap();
    (made.der().clone(), files)
}

fn options<'a>(certificate: &'a Path, key: &'a Path) -> [&'a str; 4] {
    ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]
}

#[tokio::test]
async fn api_is_served_over_tls_with_the_certificate_of_the_files() {
    let folder = TempDir::new().unwrap();
    let (trusted, [certificate, key]) = certificate(&folder, "own");
    let relay = Relay::start_unshared(&Home::new(), &options(&certificate, &key)).await;
    relay.log_line("the page is at https://").await;
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(relay.client().address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
    let request = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    relay.stop().await;
}

#[tokio::test]
async fn unusable_certificate_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    let (_, [certificate_file, key]) = certificate(&folder, "own");
    let (_, [_, other_key]) = certificate(&folder, "other");
    let data = folder.path().join("data");
    let refusal = async |options: &[&str]| {
        let mut started = program();
        started.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data).args(options);
        let output = started.output().await.unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let mismatch = refusal(&options(&certificate_file, &other_key)).await;
    assert!(mismatch.contains("it is not the key of the certificate in"), "{mismatch}");
    let missing = refusal(&["--tls-key", key.to_str().unwrap(), LOOPBACK[0], LOOPBACK[1]]).await;
    assert!(missing.contains("`tls_key` is set without `tls_cert`"), "{missing}");
}
