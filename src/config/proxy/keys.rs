//! `[keys]`: the keyring's place, and where its master key comes from.
//!
//! Guarantees: a setting of a provider that is not chosen is a mistake, since whoever wrote it believes that it holds; no message
//! quotes a master key or PIN. Deliberately absent: whether a token is there, which changes without the file.

use super::super::document::Section;
use super::super::keys::{KeySettings, MasterKeySource, Memory, PinSource, TokenSettings};
use super::{Files, choice};
use crate::crypto::keyring::MasterKey;
use std::time::Duration;
use zeroize::Zeroizing;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Provider {
    File,
    Pkcs11,
}

pub(super) fn read(mut section: Section<'_>, files: &Files<'_>) -> KeySettings {
    let provider = section.text("provider").and_then(|text| {
        choice(&section, "provider", &text, &[("file", Provider::File), ("pkcs11", Provider::Pkcs11)])
    });
    let path = section.text("path").map_or_else(|| "keyring.json".to_owned(), |text| text.value);
    let check_seconds = section.number("check_seconds", 1..=86_400).unwrap_or(60);
    let own = file(&mut section, files, provider);
    let token = token(section.section("pkcs11"), files, provider);
    section.finish();
    KeySettings {
        path: files.dir.join(path),
        master_key: token.unwrap_or(own),
        check_every: Duration::from_secs(check_seconds),
        memory: Memory::default(),
    }
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
    if let (Some(text), Some(Provider::Pkcs11)) = (inline.as_ref().or(file.as_ref()), provider) {
        files.document.mistake(
            &text.span,
            "a master key has no effect with provider = \"pkcs11\": it stands in the keyring, wrapped",
            "Remove it here; pgveil keys rewrap --old-master-key-file FILE takes a keyring from it to the token.",
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

const EXAMPLE: &str = "Write: pkcs11 = { module = \"/usr/lib/….so\", token = \"label\", key = \"label\", pin_file = \"token.pin\" }.";

/// Of provider `pkcs11`; `None` where it is not chosen or not whole.
fn token(mut section: Section<'_>, files: &Files<'_>, provider: Option<Provider>) -> Option<MasterKeySource> {
    if !section.is_present() {
        if provider == Some(Provider::Pkcs11) {
            section.mistake("keys.pkcs11 is missing", EXAMPLE);
        }
        return None;
    }
    if provider != Some(Provider::Pkcs11) {
        section.mistake(
            "keys.pkcs11 has no effect without provider = \"pkcs11\"",
            "Set the provider; or remove it.",
        );
    }
    let module = section.required("module", EXAMPLE);
    let token = section.required("token", EXAMPLE);
    let key = section.required("key", EXAMPLE);
    let inline = section.text("pin");
    let file = section.text("pin_file");
    let pin = match (inline, file) {
        (Some(_), Some(file)) => {
            let hint = "Keep one: pin = \"${NAME}\" from the environment, or the file.";
            files.document.mistake(&file.span, "both pin and pin_file are set", hint);
            None
        }
        (Some(inline), None) => {
            files.warn_of_inline(&inline);
            Some(PinSource::Text(Zeroizing::new(inline.value)))
        }
        (None, Some(file)) => Some(PinSource::File(files.dir.join(file.value))),
        (None, None) => {
            section.mistake("keys.pkcs11 has neither pin nor pin_file", EXAMPLE);
            None
        }
    };
    section.finish();
    Some(MasterKeySource::Pkcs11(TokenSettings {
        module: files.dir.join(module?.value),
        token: token?.value,
        key: key?.value,
        pin: pin?,
    }))
}
