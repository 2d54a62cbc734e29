//! What is read off certificates: the hash that a proof is bound to, and the name of who has one.
//!
//! Guarantees: total; what cannot be read gives nothing. Deliberately absent: whether a certificate is to be trusted (rustls').

use crate::auth::scram::Binding;
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};

/// Signature algorithms by the hash that they use (RFC 5929, section 4.1: MD5 and SHA-1 give way to SHA-256). Others, such as
/// Ed25519, have none that it could name.
const SHA256: [&str; 5] = [
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.5",
    "1.2.840.113549.1.1.11",
    "1.2.840.10045.4.1",
    "1.2.840.10045.4.3.2",
];
const SHA384: [&str; 2] = ["1.2.840.113549.1.1.12", "1.2.840.10045.4.3.3"];
const SHA512: [&str; 2] = ["1.2.840.113549.1.1.13", "1.2.840.10045.4.3.4"];

/// `tls-server-end-point` of a server's certificate, in DER (RFC 5929).
pub(super) fn end_point(der: &[u8]) -> Option<Binding> {
    let certificate = Certificate::from_der(der).ok()?;
    let algorithm = certificate.signature_algorithm().oid.to_string();
    match algorithm.as_str() {
        known if SHA256.contains(&known) => Some(Sha256::digest(der).to_vec()),
        known if SHA384.contains(&known) => Some(Sha384::digest(der).to_vec()),
        known if SHA512.contains(&known) => Some(Sha512::digest(der).to_vec()),
        _ => None,
    }
}

/// The common name of a certificate's subject, which is whose it is (`pg_hba.conf`, `cert`). Several are none, since programs do not agree
/// which of them it would be; nor is one with a zero byte in it.
pub(super) fn common_name(der: &[u8]) -> Option<String> {
    const COMMON_NAME: &str = "2.5.4.3";
    let certificate = Certificate::from_der(der).ok()?;
    let subject = certificate.tbs_certificate().subject();
    let mut names = subject.iter().filter(|attribute| attribute.oid.to_string() == COMMON_NAME);
    let value = &names.next()?.value;
    if names.next().is_some() {
        return None;
    }
    let text = value
        .decode_as::<Utf8StringRef<'_>>()
        .map(|text| text.as_str().to_owned())
        .or_else(|_| value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned()))
        .or_else(|_| value.decode_as::<Ia5StringRef<'_>>().map(|text| text.as_str().to_owned()))
        .or_else(|_| value.decode_as::<TeletexStringRef<'_>>().map(|text| text.as_str().to_owned()));
    text.ok().filter(|text| !text.contains('\0'))
}
