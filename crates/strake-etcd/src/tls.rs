//! Which certificates are trusted, and which one is shown.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::{ErrorKind, EtcdError, TlsFiles};

/// Where distributions keep the authorities they trust.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Far more than any bundle of a distribution has.
const MAX_FILE: u64 = 8 << 20;

/// The configuration for connections: nobody's authorities for plain HTTP, the user's or else the system's for TLS.
pub(crate) fn client_config(files: &TlsFiles, is_secure: bool) -> Result<ClientConfig, EtcdError> {
    let roots = match (&files.ca, is_secure) {
        (_, false) => RootCertStore::empty(),
        (Some(ca), true) => named_roots(ca)?,
        (None, true) => system_roots(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring implements both versions that rustls asks for by default")
        .with_root_certificates(roots);
    let Some((certificate, key)) = &files.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fail(certificate, format!("not a PEM certificate: {error}")))?;
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|_| fail(key, "not a PEM private key".to_owned()))?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|error| fail(certificate, format!("certificate and key do not fit: {error}")))
}

/// The first bundle that can be read. Certificates in it that rustls does not understand are passed over, as every
/// bundle of a distribution has some.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    if let Some(bundle) = SYSTEM_ROOTS.iter().find_map(|path| read(Path::new(path)).ok()) {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bundle).flatten());
    }
    roots
}

/// Authorities that the user named: here every fault is one to report.
fn named_roots(path: &Path) -> Result<RootCertStore, EtcdError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&read(path)?) {
        let certificate = certificate.map_err(|error| fail(path, format!("not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| fail(path, format!("unusable certificate: {error}")))?;
    }
    if roots.is_empty() { Err(fail(path, "holds no certificate".to_owned())) } else { Ok(roots) }
}

fn read(path: &Path) -> Result<Vec<u8>, EtcdError> {
    let failed = |error: std::io::Error| fail(path, error.to_string());
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(fail(path, "too large to be a certificate".to_owned()));
    }
    Ok(bytes)
}

fn fail(path: &Path, detail: String) -> EtcdError {
    EtcdError::new(ErrorKind::Settings, format!("set up TLS for etcd from {}", path.display()), detail)
}
