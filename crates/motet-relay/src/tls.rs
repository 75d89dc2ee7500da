//! TLS of the API: a certificate chain and its key in files, which are read again when they change.

use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use motet::periodic::every;
use motet::task::Scope;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};

use crate::config::CertificateFiles;
use crate::error::StartError;

/// How often the files are compared with the certificate in use.
const COMPARE_EVERY: Duration = Duration::from_secs(10);

/// Returns the TLS settings of the API. Handshakes use the certificate that the files had at most ten seconds ago; files that
/// are not valid, such as a new certificate with the old key, change nothing. The comparison belongs to `scope`.
///
/// # Errors
/// [`StartError::Tls`] names the file that cannot be used, and why.
pub(crate) async fn server_config(
    files: CertificateFiles,
    scope: &Scope,
) -> Result<Arc<ServerConfig>, StartError> {
    let ended = |why: String| refused(&files.certificate, why);
    let first = files.clone();
    let read = scope.blocking("certificate", move |_| {
        Contents::read(&first).and_then(|read| read.parse(&first).map(|key| (read, key)))
    });
    let (contents, key) = read
        .map_err(|closed| ended(closed.to_string()))?
        .await
        .map_err(|failed| ended(failed.to_string()))??;
    let in_use = Arc::new(InUse(RwLock::new(Arc::new(key))));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ended(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&in_use) as Arc<dyn ResolvesServerCert>);
    compare_periodically(files, contents, in_use, scope);
    Ok(Arc::new(config))
}

/// Checks that the files could be used.
pub(crate) fn check(files: &CertificateFiles) -> Result<(), StartError> {
    Contents::read(files)?.parse(files).map(drop)
}

/// The certificate of the handshakes.
#[derive(Debug)]
struct InUse(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for InUse {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn compare_periodically(files: CertificateFiles, contents: Contents, in_use: Arc<InUse>, scope: &Scope) {
    let seen = Arc::new(RwLock::new(contents));
    let (job_scope, files) = (scope.clone(), Arc::new(files));
    let compare = move || {
        let (seen, in_use, files) = (Arc::clone(&seen), Arc::clone(&in_use), Arc::clone(&files));
        let comparing = job_scope.blocking("certificate", move |_| compare(&files, &seen, &in_use));
        async move {
            // An error means that relay ends, or that a bug was logged.
            if let Ok(comparing) = comparing {
                let _ended = comparing.await;
            }
        }
    };
    let periodic = every(COMPARE_EVERY).expect("the interval is not zero").name("certificate");
    // The start fails only if the scope has ended, and relay with it.
    drop(periodic.start(scope, compare));
}

/// Reads the files, and uses their certificate if they have changed and are valid. Each content is tried once.
fn compare(files: &CertificateFiles, seen: &RwLock<Contents>, in_use: &InUse) {
    let read = match Contents::read(files) {
        Ok(read) => read,
        Err(error) => return tracing::error!("{error}; the certificate that was read before stays in use"),
    };
    let mut seen = seen.write().unwrap_or_else(PoisonError::into_inner);
    if *seen == read {
        return;
    }
    match read.parse(files) {
        Ok(key) => {
            *in_use.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
            tracing::info!(file = %files.certificate.display(), "the certificate of the API was read again");
        }
        Err(error) => tracing::error!("{error}; the certificate that was read before stays in use"),
    }
    *seen = read;
}

/// The contents of the files.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    fn read(files: &CertificateFiles) -> Result<Self, StartError> {
        let read = |path: &Path| fs::read(path).map_err(|error| refused(path, error.to_string()));
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }

    fn parse(&self, files: &CertificateFiles) -> Result<CertifiedKey, StartError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| refused(&files.certificate, error.to_string()))?;
        if chain.is_empty() {
            return Err(refused(&files.certificate, "it has no certificate; it must be PEM"));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| {
            refused(&files.key, format!("it has no private key: {error}; it must be PEM"))
        })?;
        let key =
            ring::sign::any_supported_type(&key).map_err(|error| refused(&files.key, error.to_string()))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // The kind of the key does not allow a comparison.
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
            Err(rustls::Error::InconsistentKeys(_)) => {
                let why = format!("it is not the key of the certificate in {}", files.certificate.display());
                Err(refused(&files.key, why))
            }
            Err(error) => Err(refused(&files.certificate, error.to_string())),
        }
    }
}

fn refused(path: &Path, why: impl Into<String>) -> StartError {
    StartError::Tls { path: path.to_owned(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The PEM of a new certificate and of its key.
    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn chain(in_use: &InUse) -> Vec<CertificateDer<'static>> {
        in_use.0.read().unwrap().cert.clone()
    }

    #[test]
    fn changed_files_are_used_once_they_are_valid() {
        let folder = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: folder.path().join("certificate.pem"),
            key: folder.path().join("key.pem"),
        };
        let write = |path: &Path, text: &str| fs::write(path, text).unwrap();
        let [(certificate, key), (new_certificate, new_key)] = [pair(), pair()];
        write(&files.certificate, &certificate);
        write(&files.key, &key);
        let read = Contents::read(&files).unwrap();
        let in_use = InUse(RwLock::new(Arc::new(read.parse(&files).unwrap())));
        let (seen, first) = (RwLock::new(read), chain(&in_use));

        write(&files.certificate, &new_certificate);
        compare(&files, &seen, &in_use);
        assert_eq!(chain(&in_use), first, "the key is not yet that of the new certificate");
        write(&files.key, &new_key);
        compare(&files, &seen, &in_use);
        assert_ne!(chain(&in_use), first);

        let second = chain(&in_use);
        fs::remove_file(&files.key).unwrap();
        compare(&files, &seen, &in_use);
        assert_eq!(chain(&in_use), second);
    }

    #[test]
    fn unusable_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = CertificateFiles { certificate: path("certificate.pem"), key: path("key.pem") };
        let [(certificate, key), (_, other)] = [pair(), pair()];
        let error = |certificate: &str, key: &str| {
            fs::write(&files.certificate, certificate).unwrap();
            fs::write(&files.key, key).unwrap();
            Contents::read(&files).and_then(|read| read.parse(&files)).unwrap_err().to_string()
        };
        assert!(error(&certificate, &other).contains("key.pem: it is not the key of the certificate in"));
        assert!(error("no PEM", &key).contains("certificate.pem: it has no certificate"));
        assert!(error(&certificate, "no PEM").contains("key.pem: it has no private key"));
        fs::remove_file(&files.key).unwrap();
        let missing = Contents::read(&files).err().unwrap().to_string();
        assert!(missing.contains("key.pem"), "{missing}");
    }
}
