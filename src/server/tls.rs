//! TLS on both sides: certificates and keys from PEM files → rustls configurations.
//!
//! `verify-full` checks chain and name, `verify-ca` the chain only, `require` neither (it only hides from who listens), as
//! libpq's `sslmode` of these names. Deliberately absent: revocation lists, channel binding.

use super::settings::{DatabaseAddress, DatabaseSettings, DatabaseTls, ListenSettings, TlsMode};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Why TLS cannot be set up; names the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub String);

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fault = |what: String| TlsError(format!("{}: {what}", path.display()));
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))?.collect();
    let found = found.map_err(|error| fault(error.to_string()))?;
    if found.is_empty() { Err(fault("no certificate in it".to_owned())) } else { Ok(found) }
}

fn roots(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|error| TlsError(format!("{}: {error}", path.display())))?;
    }
    Ok(Arc::new(store))
}

/// A key file may be read by its owner, and by the group only when root owns it (PostgreSQL's `check_ssl_key_file_permissions`).
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let fault = |what: String| TlsError(format!("{}: {what}", path.display()));
    let metadata = fs::metadata(path).map_err(|error| fault(error.to_string()))?;
    let allowed = if metadata.uid() == 0 { 0o740 } else { 0o700 };
    if metadata.mode() & 0o777 & !allowed != 0 {
        return Err(fault("private key file has group or world access".to_owned()));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|error| fault(error.to_string()))
}

/// What clients are offered; `None` when TLS is off.
///
/// # Errors
/// A file that cannot be read or used, by name.
pub fn acceptor(settings: &ListenSettings) -> Result<Option<tokio_rustls::TlsAcceptor>, TlsError> {
    if settings.tls == TlsMode::Off {
        return Ok(None);
    }
    let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) else {
        return match settings.tls {
            TlsMode::Prefer => Ok(None),
            _ => Err(TlsError("listen.tls needs certificate and key".to_owned())),
        };
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(error.to_string()))?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider()).build();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| TlsError(format!("{}: {error}", ca.display())))?,
            )
        }
    };
    let config = builder
        .with_single_cert(certificates(certificate)?, private_key(key)?)
        .map_err(|error| TlsError(format!("{}: {error}", certificate.display())))?;
    Ok(Some(tokio_rustls::TlsAcceptor::from(Arc::new(config))))
}

/// How to speak TLS with the database.
#[derive(Clone)]
pub struct DatabaseConnector {
    pub mode: DatabaseTls,
    connector: Option<tokio_rustls::TlsConnector>,
    name: Option<ServerName<'static>>,
}

impl DatabaseConnector {
    /// # Errors
    /// A file that cannot be used, or a verifying mode without `ca`.
    pub fn new(settings: &DatabaseSettings) -> Result<DatabaseConnector, TlsError> {
        let (host, mode) = match &settings.address {
            DatabaseAddress::Tcp(host, _) => (host.clone(), settings.tls),
            // TLS over a Unix socket is not a thing, as in libpq.
            DatabaseAddress::Unix(..) => {
                return Ok(DatabaseConnector { mode: DatabaseTls::Off, connector: None, name: None });
            }
        };
        if mode == DatabaseTls::Off {
            return Ok(DatabaseConnector { mode, connector: None, name: None });
        }
        let name = ServerName::try_from(host.clone())
            .map_err(|_| TlsError(format!("\"{host}\" is not a name that a certificate can have")))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError(error.to_string()))?;
        let config = match (mode, &settings.ca) {
            (DatabaseTls::VerifyFull, Some(ca)) => {
                builder.with_root_certificates(roots(ca)?).with_no_client_auth()
            }
            (DatabaseTls::VerifyCa, Some(ca)) => {
                let full = WebPkiServerVerifier::builder_with_provider(roots(ca)?, provider()).build();
                let full = full.map_err(|error| TlsError(format!("{}: {error}", ca.display())))?;
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(AnyName(full)))
                    .with_no_client_auth()
            }
            (DatabaseTls::VerifyFull | DatabaseTls::VerifyCa, None) => {
                return Err(TlsError(
                    "database.tls needs ca, the file with the authority's certificate".to_owned(),
                ));
            }
            _ => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified(provider())))
                .with_no_client_auth(),
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        Ok(DatabaseConnector { mode, connector: Some(connector), name: Some(name) })
    }

    /// The connector and the name to check, where TLS is wanted at all.
    pub fn wanted(&self) -> Option<(&tokio_rustls::TlsConnector, &ServerName<'static>)> {
        self.connector.as_ref().zip(self.name.as_ref())
    }
}

/// `verify-ca`: the chain must hold, the name may be another.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// `prefer` and `require`: whoever answers is believed; the handshake's own signatures are checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
