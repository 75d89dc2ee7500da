//! Delivery over TLS: only to receivers with a valid certificate.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::harness::{Home, Relay};

async fn receiver_with(names: &[&str], is_ca: IsCa) -> (u16, String, JoinSet<()>) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let signing_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(names).unwrap();
    params.is_ca = is_ca;
    let cert = params.self_signed(&signing_key).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust the certificate aborts the handshake, which some of the tests expect.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
                stream.shutdown().await.unwrap();
            }
        }
    });
    (port, cert.pem(), server)
}

/// Starts a receiver with its own certificate for these names, which accepts every delivery. Returns its port and its
/// certificate.
async fn receiver(names: &[&str]) -> (u16, String, JoinSet<()>) {
    receiver_with(names, IsCa::NoCa).await
}

/// Makes an attempt at this URL with a relay that trusts only this certificate.
async fn attempt(url: &str, trusted: &str) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let roots = directory.path().join("roots.pem");
    std::fs::write(&roots, trusted).unwrap();
    let options = ["--max-attempts", "1", "--connect-timeout", "0.5"];
    let relay = Relay::start_in_environment(&Home::new(), &options, &[("SSL_CERT_FILE", &roots)]).await;
    relay.client().endpoint_at(url, json!({})).await;
    let event = relay.client().publish("user.created", json!({})).await;
    crate::harness::eventually("the attempt to be recorded", || async {
        let delivery = relay.client().delivery_of(&event).await;
        (delivery["state"] != "pending").then(|| delivery["attempt_log"][0].clone())
    })
    .await
}

#[tokio::test]
async fn receiver_with_a_trusted_certificate_gets_its_delivery() {
    let (port, certificate, _server) = receiver(&["localhost"]).await;
    let attempt = attempt(&format!("https://localhost:{port}/"), &certificate).await;
    assert_eq!((&attempt["status"], &attempt["error"]), (&json!(204), &Value::Null));
}

#[tokio::test]
async fn delivery_to_an_invalid_certificate_fails_with_the_reason() {
    let (port, certificate, _server) = receiver(&["localhost"]).await;
    let (other_port, _, _other) = receiver(&["localhost"]).await;
    let (misnamed_port, misnamed, _misnamed) = receiver(&["example.com"]).await;
    for (case, url, trusted) in [
        ("an untrusted certificate", format!("https://localhost:{other_port}/"), &certificate),
        ("a name that is not in the URL", format!("https://localhost:{misnamed_port}/"), &misnamed),
        ("an address that is not in the certificate", format!("https://127.0.0.1:{port}/"), &certificate),
    ] {
        let attempt = attempt(&url, trusted).await;
        assert_eq!(attempt["status"], Value::Null, "{case}");
        assert!(attempt["error"].as_str().unwrap().contains("certificate"), "{case}: {attempt}");
    }
}

#[tokio::test]
async fn hanging_handshake_ends_at_the_connect_timeout() {
    // The kernel accepts its connections, and nothing is ever sent on them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_, certificate, _server) = receiver(&["localhost"]).await;
    let attempt = attempt(&format!("https://{}/", silent.local_addr().unwrap()), &certificate).await;
    assert!(attempt["error"].as_str().unwrap().contains("no connection within 500 ms"), "{attempt}");
}

#[tokio::test]
async fn certificate_of_an_authority_is_refused_with_an_explanation() {
    // Like a certificate of `openssl req -x509`: trusted, but not the certificate of a server.
    let authority = IsCa::Ca(BasicConstraints::Unconstrained);
    let (port, certificate, _server) = receiver_with(&["localhost"], authority).await;
    let attempt = attempt(&format!("https://localhost:{port}/"), &certificate).await;
    let error = attempt["error"].as_str().unwrap();
    assert!(error.contains("CA:TRUE") && error.contains("CA:FALSE"), "{error}");
    assert_eq!(attempt["class"], "receiver");
}
