//! `[keys]`: the keyring's place, and where its master key comes from.
//!
//! Guarantees: a setting of a provider that is not chosen is a mistake, since whoever wrote it believes that it holds; no message
//! quotes a master key, PIN or token; no address is taken that they would reach in clear. Deliberately absent: whether who keeps a key is
//! there, which changes without the file.

use super::super::document::{Section, Text};
use super::super::keys::keeper::{Keeper, KmsSettings, Secret, TokenSettings, VaultSettings};
use super::super::keys::{KeySettings, MasterKeySource, Memory};
use super::{Files, choice};
use crate::crypto::keyring::MasterKey;
use crate::crypto::provider::{aws_kms, http, pkcs11, vault};
use std::time::Duration;
use zeroize::Zeroizing;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Provider {
    File,
    Pkcs11,
    AwsKms,
    Vault,
}

const PROVIDERS: [(&str, Provider); 4] = [
    ("file", Provider::File),
    (pkcs11::NAME, Provider::Pkcs11),
    (aws_kms::NAME, Provider::AwsKms),
    (vault::NAME, Provider::Vault),
];

pub(super) fn read(mut section: Section<'_>, files: &Files<'_>) -> KeySettings {
    let provider = section.text("provider").and_then(|text| choice(&section, "provider", &text, &PROVIDERS));
    let path = section.text("path").map_or_else(|| "keyring.json".to_owned(), |text| text.value);
    let check_seconds = section.number("check_seconds", 1..=86_400).unwrap_or(60);
    let own = file(&mut section, files, provider);
    let token = chosen(&mut section, provider, Provider::Pkcs11, PKCS11).and_then(|own| token(own, files));
    let kms = chosen(&mut section, provider, Provider::AwsKms, AWS_KMS).and_then(|own| kms(own, files));
    let vault = chosen(&mut section, provider, Provider::Vault, VAULT).and_then(|own| transit(own, files));
    section.finish();
    KeySettings {
        path: files.dir.join(path),
        master_key: token.or(kms).or(vault).map_or(own, MasterKeySource::Kept),
        check_every: Duration::from_secs(check_seconds),
        memory: Memory::default(),
    }
}

/// The section of a provider's name, which is there if that is chosen, and only then.
fn chosen<'d>(
    section: &mut Section<'d>,
    chosen: Option<Provider>,
    own: Provider,
    example: &str,
) -> Option<Section<'d>> {
    let name = PROVIDERS.iter().find(|(_, provider)| *provider == own).map_or("", |(name, _)| name);
    let found = section.section(name);
    match (found.is_present(), chosen == Some(own)) {
        (true, false) => found.mistake(
            format!("keys.{name} has no effect without provider = \"{name}\""),
            "Set the provider; or remove it.",
        ),
        (false, true) => found.mistake(format!("keys.{name} is missing"), example),
        _ => {}
    }
    found.is_present().then_some(found)
}

/// Of provider `file`.
fn file(section: &mut Section<'_>, files: &Files<'_>, provider: Option<Provider>) -> MasterKeySource {
    let inline = section.text("master_key");
    let file = section.text("master_key_file");
    if let (Some(_), Some(file)) = (&inline, &file) {
        files.document.mistake(
            &file.span,
            "both master_key and master_key_file are set",
            "Keep one: master_key = \"${NAME}\" from the environment, or the file.",
        );
    }
    let kept = PROVIDERS.iter().find(|(_, known)| provider == Some(*known) && *known != Provider::File);
    if let (Some(text), Some((name, _))) = (inline.as_ref().or(file.as_ref()), kept) {
        files.document.mistake(
            &text.span,
            format!("a master key has no effect with provider = \"{name}\": it stands in the keyring, wrapped"),
            "Remove it here; pgveil keys rewrap --old-master-key-file FILE takes a keyring from it to the provider.",
        );
    }
    match (inline, file) {
        (Some(inline), _) => {
            files.warn_of_inline(&inline);
            if let (false, Err(error)) = (inline.value.is_empty(), MasterKey::parse(&inline.value)) {
                let hint = "Make one with: openssl rand -hex 32";
                files.document.mistake(&inline.span, error.to_string(), hint);
            }
            MasterKeySource::Text(Zeroizing::new(inline.value))
        }
        (None, file) => MasterKeySource::File(
            files.dir.join(file.map_or_else(|| "master.key".to_owned(), |text| text.value)),
        ),
    }
}

const PKCS11: &str = "Write: pkcs11 = { module = \"/usr/lib/….so\", token = \"label\", key = \"label\", pin_file = \"token.pin\" }.";
const AWS_KMS: &str = "Write: aws_kms = { key = \"alias/pgveil\", region = \"eu-central-1\" }.";
const VAULT: &str = "Write: vault = { address = \"https://vault.example.org:8200\", key = \"pgveil\", token_file = \"vault.token\" }.";

/// A secret that is set, or whose file is.
fn secret(
    section: &mut Section<'_>,
    files: &Files<'_>,
    (name, file_name): (&str, &str),
    example: &str,
) -> Option<Secret> {
    match (section.text(name), section.text(file_name)) {
        (Some(_), Some(file)) => {
            let hint = format!("Keep one: {name} = \"${{NAME}}\" from the environment, or the file.");
            files.document.mistake(&file.span, format!("both {name} and {file_name} are set"), hint);
            None
        }
        (Some(inline), None) => {
            files.warn_of_inline(&inline);
            Some(Secret::Text(Zeroizing::new(inline.value)))
        }
        (None, Some(file)) => Some(Secret::File(files.dir.join(file.value))),
        (None, None) => {
            let message =
                format!("{} has neither {name} nor {file_name}", section.full("").trim_end_matches('.'));
            section.mistake(message, example);
            None
        }
    }
}

/// An address of whom secrets are sent to.
fn base(files: &Files<'_>, text: &Text) -> Option<hyper::Uri> {
    let base = http::base(&text.value);
    if let Err(why) = base {
        let message = format!("{} cannot be used: {why}", text.spelling);
        files.document.mistake(&text.span, message, "Write: https://HOST:PORT.");
    }
    base.ok()
}

/// Of provider `pkcs11`; `None` where it is not whole.
fn token(mut section: Section<'_>, files: &Files<'_>) -> Option<Keeper> {
    let module = section.required("module", PKCS11);
    let token = section.required("token", PKCS11);
    let key = section.required("key", PKCS11);
    let pin = secret(&mut section, files, ("pin", "pin_file"), PKCS11);
    section.finish();
    Some(Keeper::Pkcs11(TokenSettings {
        module: files.dir.join(module?.value),
        token: token?.value,
        key: key?.value,
        pin: pin?,
    }))
}

/// Of provider `aws_kms`; `None` where it is not whole.
fn kms(mut section: Section<'_>, files: &Files<'_>) -> Option<Keeper> {
    let key = section.required("key", AWS_KMS);
    let region = section.text("region").map(|text| text.value);
    let endpoint = section.text("endpoint");
    let profile = section.text("profile").map(|text| text.value);
    let ca = section.text("ca").map(|text| files.dir.join(text.value));
    section.finish();
    let endpoint = match endpoint {
        Some(text) => Some(base(files, &text)?),
        None => None,
    };
    Some(Keeper::AwsKms(KmsSettings { key: key?.value, region, endpoint, profile, ca }))
}

/// Of provider `vault`; `None` where it is not whole.
fn transit(mut section: Section<'_>, files: &Files<'_>) -> Option<Keeper> {
    let address = section.required("address", VAULT);
    let mount = section.text("mount");
    let key = section.required("key", VAULT);
    let namespace = section.text("namespace").map(|text| text.value);
    let token = secret(&mut section, files, ("token", "token_file"), VAULT);
    let ca = section.text("ca").map(|text| files.dir.join(text.value));
    section.finish();
    for (text, may_have_slashes) in [(&mount, true), (&key, false)] {
        if let Some(text) = text.as_ref().filter(|text| !vault::is_name(&text.value, may_have_slashes)) {
            let message = format!("{} is not the name of a mount or key", text.spelling);
            files.document.mistake(
                &text.span,
                message,
                "Letters, digits, '-', '_' and '.'; a mount may have '/' inside.",
            );
        }
    }
    Some(Keeper::Vault(VaultSettings {
        address: base(files, &address?)?,
        mount: mount.map_or_else(|| "transit".to_owned(), |text| text.value),
        key: key?.value,
        namespace,
        token: token?,
        ca,
    }))
}
