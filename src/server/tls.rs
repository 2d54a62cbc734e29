//! TLS on both sides: certificates and keys from PEM files → rustls configurations.
//!
//! `verify-full` checks chain and name, `verify-ca` the chain only, `require` neither (it only hides from who listens), as
//! libpq's `sslmode` of these names. Deliberately absent: revocation lists for the database's certificate.

use super::certificate;
use super::settings::{
    ClientCertificate, DatabaseAddress, DatabaseSettings, DatabaseTls, ListenSettings, TlsMode,
};
use crate::auth::scram::Binding;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// The protocol's name (PostgreSQL's `PG_ALPN_PROTOCOL`).
pub(super) const ALPN: &[u8] = b"postgresql";

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

/// Lists of revoked certificates, PEM.
fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let fault = |what: String| TlsError(format!("{}: {what}", path.display()));
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_file_iter(path)
        .map_err(|error| fault(error.to_string()))?
        .collect();
    let found = found.map_err(|error| fault(error.to_string()))?;
    if found.is_empty() { Err(fault("no list of revoked certificates in it".to_owned())) } else { Ok(found) }
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

/// TLS as clients are offered it.
#[derive(Clone)]
pub struct Acceptor {
    pub tls: tokio_rustls::TlsAcceptor,
    /// What a client's proof can be bound to; `None` where the certificate's signature has no hash of its own.
    pub binding: Option<Binding>,
}

/// What clients are offered; `None` when TLS is off.
///
/// # Errors
/// A file that cannot be read or used, by name.
pub fn acceptor(settings: &ListenSettings) -> Result<Option<Acceptor>, TlsError> {
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
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider());
            if let Some(file) = &settings.client_crl {
                verifier = verifier.with_crls(revocations(file)?);
            }
            if settings.client_certificate == ClientCertificate::Optional {
                verifier = verifier.allow_unauthenticated();
            }
            let verifier = verifier.build();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| TlsError(format!("{}: {error}", ca.display())))?,
            )
        }
    };
    let chain = certificates(certificate)?;
    let binding = chain.first().and_then(|own| certificate::end_point(own));
    let mut config = builder
        .with_single_cert(chain, private_key(key)?)
        .map_err(|error| TlsError(format!("{}: {error}", certificate.display())))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // As PostgreSQL does: a session that is taken up again would bring its certificate along, though it is revoked or expired by now.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Some(Acceptor { tls: tokio_rustls::TlsAcceptor::from(Arc::new(config)), binding }))
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
        DatabaseConnector::to(&host, mode, settings.ca.as_deref())
    }

    /// To any server of that name.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn to(host: &str, mode: DatabaseTls, ca: Option<&Path>) -> Result<DatabaseConnector, TlsError> {
        if mode == DatabaseTls::Off {
            return Ok(DatabaseConnector { mode, connector: None, name: None });
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| TlsError(format!("\"{host}\" is not a name that a certificate can have")))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError(error.to_string()))?;
        let verifier: Arc<dyn ServerCertVerifier> = match (mode, ca) {
            (DatabaseTls::VerifyFull, Some(ca)) => Arc::new(Trusted::new(ca, true)?),
            (DatabaseTls::VerifyCa, Some(ca)) => Arc::new(Trusted::new(ca, false)?),
            (DatabaseTls::VerifyFull | DatabaseTls::VerifyCa, None) => {
                return Err(TlsError(
                    "database.tls needs ca, the file with the authority's certificate".to_owned(),
                ));
            }
            _ => Arc::new(Unverified(provider())),
        };
        let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        Ok(DatabaseConnector { mode, connector: Some(connector), name: Some(name) })
    }

    /// The connector and the name to check, where TLS is wanted at all.
    pub fn wanted(&self) -> Option<(&tokio_rustls::TlsConnector, &ServerName<'static>)> {
        self.connector.as_ref().zip(self.name.as_ref())
    }
}

/// `verify-full` and `verify-ca`: the chain must hold, for the first the name, too.
///
/// A certificate that stands in `ca` itself is trusted although it may be an authority's: what
/// `openssl req -x509` makes for a server is marked so, and libpq takes it.
#[derive(Debug)]
struct Trusted {
    chain: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
    with_name: bool,
}

impl Trusted {
    fn new(ca: &Path, with_name: bool) -> Result<Trusted, TlsError> {
        let chain = WebPkiServerVerifier::builder_with_provider(roots(ca)?, provider()).build();
        let chain = chain.map_err(|error| TlsError(format!("{}: {error}", ca.display())))?;
        Ok(Trusted { chain, named: certificates(ca)?, with_name })
    }

    fn is_named(&self, certificate: &CertificateDer<'_>) -> bool {
        self.named.iter().any(|named| named.as_ref() == certificate.as_ref())
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last: with this error the chain holds.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.with_name => Ok(ServerCertVerified::assertion()),
            // An authority's own certificate, whose dates were looked at before; the name was not yet.
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if self.is_named(end_entity) => {
                if self.with_name {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
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
