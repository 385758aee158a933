//! Which certificates are trusted, per host.

use std::fs;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::{ErrorKind, RegistryError, TlsConfig};

/// Makes TLS configurations; the system's roots are read once, for the first host that needs them.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    system: OnceLock<Arc<RootCertStore>>,
}

impl Trust {
    /// The configuration for one host.
    pub(crate) fn client_config(
        &self,
        settings: &TlsConfig,
        host: &str,
        insecure: bool,
    ) -> Result<ClientConfig, RegistryError> {
        let fail = |detail: String| {
            RegistryError::new(ErrorKind::Settings, format!("set up TLS for {host}"), detail)
        };
        let provider = Arc::new(ring::default_provider());
        let own = settings.hosts.get(host);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| fail(error.to_string()))?;
        let builder = if insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAnyone(provider)))
        } else {
            let mut roots =
                RootCertStore::clone(self.system.get_or_init(|| Arc::new(system_roots(settings))));
            let mut named = Vec::new();
            for pem in settings.extra_roots.iter().chain(own.into_iter().flat_map(|own| &own.roots)) {
                add_roots(&mut roots, &mut named, pem).map_err(fail)?;
            }
            if named.is_empty() {
                builder.with_root_certificates(roots)
            } else {
                let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| fail(error.to_string()))?;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(OrNamed { webpki, named }))
            }
        };
        let Some(identity) = own.and_then(|own| own.identity.as_ref()) else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = CertificateDer::pem_slice_iter(&identity.certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| fail(format!("client certificate is not PEM: {error}")))?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes())
            .map_err(|_| fail("client key is not a PEM private key".to_owned()))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| fail(format!("client certificate and key do not fit: {error}")))
    }
}

/// A configuration for clients that never speak TLS.
pub(crate) fn no_tls() -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring implements both versions that rustls asks for by default")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

/// The roots of the first bundle that can be read. Single certificates that rustls does not understand are passed
/// over, as every bundle of a distribution has some.
fn system_roots(settings: &TlsConfig) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let bundle = settings.system_roots.iter().find_map(|path| fs::read(path).ok());
    if let Some(bundle) = bundle {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bundle).flatten());
    }
    roots
}

/// Adds roots the user named: here every fault is one to report.
fn add_roots(
    roots: &mut RootCertStore,
    named: &mut Vec<CertificateDer<'static>>,
    pem: &[u8],
) -> Result<(), String> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("CA certificate is not PEM: {error}"))?;
        roots.add(certificate.clone()).map_err(|error| format!("CA certificate is unusable: {error}"))?;
        named.push(certificate);
        count += 1;
    }
    if count == 0 { Err("CA file holds no certificate".to_owned()) } else { Ok(()) }
}

/// Believes what webpki believes, and a server that shows the very certificate the user named. Many a private registry
/// has one that signed itself and says it is an authority; webpki takes no authority for a server, other clients do.
#[derive(Debug)]
struct OrNamed {
    webpki: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OrNamed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The one reason that webpki has no word of its own for. What expired is refused with another.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.named.iter().any(|named| named == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Believes every certificate: for hosts that the user listed as insecure, and only for these.
#[derive(Debug)]
struct AcceptAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
