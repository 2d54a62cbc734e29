//! Provider `aws_kms`: a symmetric key of AWS KMS wraps the master key.
//!
//! Two calls of its API, Encrypt and Decrypt, signed and sent here; where credentials come from is [`credentials`]. `aws-sdk-kms` and
//! `aws-config` would do the same at 73 more crates and four minutes of one core for a debug build (measured; reqsign and what it
//! brings take half a minute), which every build of this program would pay for two requests. Guarantees: the encryption context holds the
//! keyring's identity, so that what is wrapped opens for no other, CloudTrail says for which keyring a key was used, and a key policy can allow
//! just that one; what is wrapped names the key by its ARN, wherever an alias leads later; a key is used for a keyring only after it has opened
//! what it wrapped. Deliberately absent: asymmetric keys, custom key stores' own errors, making and rotating keys (their owner does).

mod credentials;

use super::http::{self, Answer, Client, InClear, Unreachable};
use super::{Provider, ProviderError};
use crate::crypto::keyring::{MASTER_KEY_BYTES, MasterKey, WrappedKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use credentials::Credentials;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode, Uri};
use reqsign_aws_v4::RequestSigner;
use reqsign_core::SignRequest;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// How a keyring names this provider.
pub const NAME: &str = "aws_kms";

/// What the encryption context says beside the keyring's identity, so that the key opens nothing else for us.
const PURPOSE: &str = "master key v1";

/// Which key, and how to reach it.
pub struct Kms {
    /// Its ARN, id, or an alias. What is wrapped already names its own by ARN.
    pub key: String,
    /// Where the key is, if its ARN does not say so, and neither the environment nor the profile.
    pub region: Option<String>,
    /// Another address than the region's, as [`http::base`] takes it.
    pub endpoint: Option<Uri>,
    /// The profile of AWS's files that has the credentials; else they are looked for where AWS's own programs look.
    pub profile: Option<String>,
    /// The authorities to trust; `AWS_CA_BUNDLE`'s or the system's where it is absent.
    pub ca: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted {
    ciphertext_blob: String,
    /// The ARN.
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted {
    plaintext: String,
}

#[derive(Default, Deserialize)]
struct Failure {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

/// One call: what it is about, and what it sends.
struct Call<'c> {
    action: &'static str,
    key: &'c str,
    region: &'c str,
    address: Uri,
    body: Zeroizing<Vec<u8>>,
}

impl Provider for Kms {
    fn wrap(&self, master: &MasterKey, keyring: &str) -> Result<WrappedKey, ProviderError> {
        let plaintext = Zeroizing::new(STANDARD.encode(master.bytes()));
        let answer = self.ask("Encrypt", &self.key, keyring, ("Plaintext", &plaintext))?;
        let made: Encrypted = serde_json::from_slice(&answer.body).map_err(|_| self.strange())?;
        let blob = STANDARD.decode(&made.ciphertext_blob).map_err(|_| self.strange())?;
        let wrapped = WrappedKey {
            provider: NAME.to_owned(),
            named: (made.key_id != self.key).then(|| self.key.clone()),
            key: made.key_id,
            keyring: keyring.to_owned(),
            wrapped: blob,
        };
        if self.unwrap(&wrapped)?.bytes() != master.bytes() {
            return Err(self.strange());
        }
        Ok(wrapped)
    }

    fn unwrap(&self, wrapped: &WrappedKey) -> Result<MasterKey, ProviderError> {
        if wrapped.provider != NAME || wrapped.keyring.is_empty() {
            return Err(foreign(&wrapped.key, "not what this provider makes"));
        }
        let key = self.nearest(&wrapped.key)?;
        let blob = STANDARD.encode(&wrapped.wrapped);
        let answer = self.ask("Decrypt", &key, &wrapped.keyring, ("CiphertextBlob", &blob))?;
        let made: Decrypted = serde_json::from_slice(&answer.body).map_err(|_| self.strange())?;
        let plaintext = Zeroizing::new(made.plaintext);
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MASTER_KEY_BYTES));
        STANDARD.decode_vec(plaintext.as_bytes(), &mut bytes).map_err(|_| self.strange())?;
        let master = MasterKey::from_slice(&bytes).ok_or_else(|| self.strange())?;
        Ok(master.wrapped_as(wrapped.clone()))
    }
}

/// The region of an ARN: `arn:aws:kms:eu-central-1:111122223333:key/…`.
fn region_of(arn: &str) -> Option<&str> {
    arn.strip_prefix("arn:")?.split(':').nth(2).filter(|region| !region.is_empty())
}

/// The region's own address.
fn address(region: &str) -> Option<Uri> {
    let suffix = match region.split_once('-')?.0 {
        "cn" => "amazonaws.com.cn",
        "eusc" => "amazonaws.eu",
        _ if region.starts_with("us-isob-") => "sc2s.sgov.gov",
        _ if region.starts_with("us-iso-") => "c2s.ic.gov",
        _ => "amazonaws.com",
    };
    let is_one =
        region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    format!("https://kms.{region}.{suffix}").parse().ok().filter(|_| is_one)
}

impl Kms {
    /// A key that exists in several regions is asked for where the settings say.
    fn nearest(&self, arn: &str) -> Result<String, ProviderError> {
        let is_in_several = arn.rsplit_once("key/").is_some_and(|(_, id)| id.starts_with("mrk-"));
        match region_of(arn) {
            Some(region) if is_in_several => Ok(arn.replacen(region, &self.region()?, 1)),
            _ => Ok(arn.to_owned()),
        }
    }

    fn region(&self) -> Result<String, ProviderError> {
        let named = self.region.clone().or_else(|| region_of(&self.key).map(str::to_owned));
        named.or_else(|| credentials::region(self.profile.as_deref())).ok_or_else(|| {
            ProviderError::new(
                format!("the region of KMS key \"{}\" is not known", self.key),
                "Set keys.aws_kms.region, name the key by its ARN, or set AWS_REGION.",
            )
        })
    }

    fn address(&self, region: &str) -> Result<Uri, ProviderError> {
        let unusable = |what: String, hint: &str| ProviderError::new(what, hint);
        if let Some(endpoint) = &self.endpoint {
            return Ok(endpoint.clone());
        }
        for variable in ["AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL"] {
            if let Some(text) = std::env::var(variable).ok().filter(|text| !text.is_empty()) {
                let hint = "Correct it, or set keys.aws_kms.endpoint.";
                return http::base(&text)
                    .map_err(|why| unusable(format!("{variable} cannot be used: {why}"), hint));
            }
        }
        address(region)
            .ok_or_else(|| unusable(format!("\"{region}\" is no region"), "Correct keys.aws_kms.region."))
    }

    fn ask(
        &self,
        action: &'static str,
        key: &str,
        keyring: &str,
        (field, value): (&str, &str),
    ) -> Result<Answer, ProviderError> {
        let region = match region_of(key) {
            Some(region) => region.to_owned(),
            None => self.region()?,
        };
        let bundle = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from);
        let client =
            Client::new(self.ca.as_ref().or(bundle.as_ref()).map(PathBuf::as_path), InClear::Loopback)?;
        let about = serde_json::json!({
            "KeyId": key,
            "EncryptionContext": { "pgveil": PURPOSE, "pgveil-keyring": keyring },
        });
        // The value is base64, which needs no escapes; built here so that there is one copy of it, which is wiped.
        let about = about.to_string();
        let quoted = [about.trim_end_matches('}'), "},\"", field, "\":\"", value, "\"}"];
        let mut body = Zeroizing::new(Vec::with_capacity(quoted.iter().map(|part| part.len()).sum()));
        quoted.iter().for_each(|part| body.extend_from_slice(part.as_bytes()));
        let address = self.address(&region)?;
        let call = || Call { action, key, region: &region, address: address.clone(), body: body.clone() };
        http::ask(|| self.ask_once(&client, call()))
    }

    async fn ask_once(&self, client: &Client, call: Call<'_>) -> Result<Answer, ProviderError> {
        let Call { action, key, region, address, body } = call;
        let unusable = |what: String| {
            ProviderError::new(format!("KMS key \"{key}\" cannot be used: {what}"), "Correct keys.aws_kms.")
        };
        let found = Credentials { region, profile: self.profile.as_deref(), client }.find().await;
        let credential = found.map_err(|error| ProviderError {
            message: format!("KMS key \"{key}\" cannot be used: {}", error.message),
            ..error
        })?;
        let digest = faster_hex::hex_string(&Sha256::digest(body.as_slice()));
        let request = Request::post(address.clone())
            .header(CONTENT_TYPE, "application/x-amz-json-1.1")
            .header("x-amz-target", format!("TrentService.{action}"))
            .header("x-amz-content-sha256", digest)
            .body(body)
            .map_err(|error| unusable(error.to_string()))?;
        let (mut parts, body) = request.into_parts();
        let signer = RequestSigner::new("kms", region).with_standard_session_token();
        let nothing = reqsign_core::Context::new();
        let signed = signer.sign_request(&nothing, &mut parts, Some(&credential), None).await;
        signed.map_err(|error| unusable(error.to_string()))?;
        let answer = client.send(Request::from_parts(parts, body)).await;
        let answer = answer.map_err(|error| self.unreachable(key, &error))?;
        if answer.status == StatusCode::OK { Ok(answer) } else { Err(refused(action, key, &answer)) }
    }

    fn unreachable(&self, key: &str, error: &Unreachable) -> ProviderError {
        let hint =
            "See that the network lets it be reached, or correct keys.aws_kms.region, endpoint and ca.";
        ProviderError::new(format!("KMS key \"{key}\" cannot be used: {error}"), hint).passing()
    }

    fn strange(&self) -> ProviderError {
        let hint = "See that the key is a symmetric one that encrypts and decrypts, and keys.aws_kms.endpoint is KMS.";
        ProviderError::new(format!("KMS key \"{}\" is not answered for as KMS does", self.key), hint)
    }
}

fn foreign(key: &str, cause: &str) -> ProviderError {
    ProviderError::new(
        format!(
            "KMS key \"{key}\" does not open the keyring's master key ({cause}): another key wrapped it, or for another keyring, or it was altered"
        ),
        "Put back the keyring that belongs to this key.",
    )
}

/// What an answer other than 200 says.
fn refused(action: &str, key: &str, answer: &Answer) -> ProviderError {
    let failure: Failure = serde_json::from_slice(&answer.body).unwrap_or_default();
    let named =
        answer.headers.get("x-amzn-errortype").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = if failure.kind.is_empty() { named } else { &failure.kind };
    // com.amazonaws.kms#NotFoundException, or NotFoundException:http://…
    let kind = kind.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default();
    let said = match (kind, failure.message.as_str()) {
        ("", "") => answer.status.to_string(),
        (kind, "") => kind.to_owned(),
        (kind, message) => format!("{kind}: {message}"),
    };
    let error = |hint: String| ProviderError::new(format!("KMS key \"{key}\" cannot be used: {said}"), hint);
    match kind {
        "InvalidCiphertextException" | "IncorrectKeyException" => foreign(key, kind),
        "NotFoundException" | "InvalidArnException" => error(
            "Correct keys.aws_kms.key and region, or make the key: aws kms create-key. One that was deleted opens nothing any more.".to_owned(),
        ),
        "DisabledException" => error(format!("Enable it: aws kms enable-key --key-id {key}")),
        "KMSInvalidStateException" => {
            error(format!("If it is to be deleted, stop that: aws kms cancel-key-deletion --key-id {key}"))
        }
        "InvalidKeyUsageException" => error("Name a symmetric key that encrypts and decrypts.".to_owned()),
        "AccessDeniedException" => {
            error(format!("Allow kms:{action} on it, in the key's policy or the one of who asks."))
        }
        "UnrecognizedClientException" | "InvalidClientTokenId" | "InvalidSignatureException" | "SignatureDoesNotMatch"
        | "IncompleteSignature" | "MissingAuthenticationTokenException" | "ExpiredTokenException"
        | "InvalidAccessKeyId" => {
            error("Correct or renew the credentials (aws sts get-caller-identity shows whose they are), and see that the clock is right.".to_owned())
        }
        "ThrottlingException" | "LimitExceededException" | "KMSInternalException" | "KeyUnavailableException"
        | "DependencyTimeoutException" => error("Wait; raise the quota if it comes again.".to_owned()).passing(),
        _ if answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS => {
            error("Wait; AWS's health dashboard may say more.".to_owned()).passing()
        }
        _ => error("Correct keys.aws_kms, or the credentials.".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    #[test]
    fn regions_have_addresses() {
        assert_eq!(region_of(ARN), Some("eu-central-1"));
        assert_eq!((region_of("alias/pgveil"), region_of("1234abcd-12ab")), (None, None));
        for (region, expected) in [
            ("eu-central-1", Some("https://kms.eu-central-1.amazonaws.com/")),
            ("us-gov-west-1", Some("https://kms.us-gov-west-1.amazonaws.com/")),
            ("cn-north-1", Some("https://kms.cn-north-1.amazonaws.com.cn/")),
            ("eu-1.example.org/", None),
            ("", None),
        ] {
            assert_eq!(address(region).map(|uri| uri.to_string()).as_deref(), expected, "{region}");
        }
    }

    #[test]
    fn a_key_of_several_regions_is_asked_for_in_ours() {
        let kms = |region: Option<&str>| Kms {
            key: "alias/pgveil".to_owned(),
            region: region.map(str::to_owned),
            endpoint: None,
            profile: None,
            ca: None,
        };
        assert_eq!(kms(Some("eu-west-1")).nearest(ARN).as_deref(), Ok(ARN));
        let several = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd";
        let near = kms(Some("eu-west-1")).nearest(several);
        assert_eq!(near.as_deref(), Ok("arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd12ab34cd"));
    }

    /// As KMS's documentation has them.
    #[test]
    fn refusals_name_their_remedy() {
        let said = |status: u16, named: &str, body: &str| {
            let mut headers = hyper::HeaderMap::new();
            headers.insert("x-amzn-errortype", named.parse().expect("a header"));
            let body = Zeroizing::new(body.as_bytes().to_vec());
            refused(
                "Decrypt",
                ARN,
                &Answer { status: StatusCode::from_u16(status).expect("one"), headers, body },
            )
        };
        let disabled =
            said(400, "", r#"{"__type":"com.amazonaws.kms#DisabledException","message":"arn is disabled."}"#);
        assert_eq!(
            disabled.message,
            format!("KMS key \"{ARN}\" cannot be used: DisabledException: arn is disabled.")
        );
        assert_eq!(disabled.hint, format!("Enable it: aws kms enable-key --key-id {ARN}"));
        let denied = said(400, "", r#"{"__type":"AccessDeniedException","Message":"no"}"#);
        assert!(denied.hint.starts_with("Allow kms:Decrypt") && !denied.may_pass);
        for kind in ["InvalidCiphertextException", "IncorrectKeyException"] {
            let foreign = said(400, "", &format!(r#"{{"__type":"{kind}"}}"#));
            assert!(foreign.message.contains("does not open the keyring's master key"), "{foreign}");
        }
        assert!(said(400, "ThrottlingException:http://internal/", "{}").may_pass);
        assert!(said(500, "", "<html>").may_pass && said(429, "", "").may_pass);
        assert!(
            !said(403, "", "<html>").may_pass && said(403, "", "<html>").message.ends_with("403 Forbidden")
        );
        assert!(said(400, "ExpiredTokenException", "{}").hint.contains("renew the credentials"));
    }
}
