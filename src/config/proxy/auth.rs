//! `[auth]`: who is asked about users, for whom pgveil logs in to the database by a credential of its own and how they show who they
//! are, whom certificates name, and the provider of tokens.
//!
//! Guarantees: each user has one way in, or the file does not hold; a way that could not work as the files stand (no authority for
//! certificates, no TLS under tokens, no provider) is a mistake, and so is every symmetric algorithm. Deliberately absent: whether
//! there are credentials for the roles that are named (`check` and `serve` look).

use super::{Files, choice, remote};
use crate::auth::token::{self, ALGORITHMS, ALGORITHMS_DEFAULT, KeySet};
use crate::auth::{LogIn, LogIns, Method, Naming};
use crate::config::Weight;
use crate::config::document::{At, Document, Section, Text};
use crate::policy::Policy;
use crate::server::settings::{
    AuthSource, ClientCertificate, KeySource, ListenSettings, TlsMode, TokenSettings,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

pub(super) struct Auth {
    pub(super) source: AuthSource,
    pub(super) methods: Vec<MethodEntry>,
    pub(super) token: Option<TokenSettings>,
    pub(super) certificates: CertificateEntry,
}

/// `[auth.certificate]`: whom it names is known when policy.toml is.
#[derive(Default)]
pub(in crate::config) struct CertificateEntry {
    pub(super) naming: Naming,
    /// The users of the map.
    named: Vec<At<String>>,
    span: Range<usize>,
    is_present: bool,
    /// Every certificate's name is compared, also where a password is proved.
    of_all: bool,
}

/// One `[[auth.method]]`: whom it means is known when policy.toml is.
pub(in crate::config) struct MethodEntry {
    span: Range<usize>,
    method: Method,
    /// `None`: each user's own name.
    upstream: Option<String>,
    users: Vec<At<String>>,
    roles: Vec<At<String>>,
}

pub(super) fn read(mut section: Section<'_>, files: &Files<'_>, listen: &ListenSettings) -> Auth {
    let source = section.text("source").and_then(|text| {
        choice(&section, "source", &text, &[("file", AuthSource::File), ("database", AuthSource::Database)])
    });
    let methods: Vec<MethodEntry> = section.sections("method").into_iter().filter_map(entry).collect();
    let own = section.section("token");
    let (has_token, token_span) = (own.is_present(), own.span.clone());
    let token = provider(own, files);
    let certificates = certificates(section.section("certificate"), listen);
    section.finish();
    let document = files.document;
    let has_names = certificates.is_present;
    let by = |method| methods.iter().find(|entry| entry.method == method);
    if let Some(entry) = by(Method::Certificate)
        && (listen.client_ca.is_none() || listen.tls == TlsMode::Off)
    {
        document.mistake(
            &entry.span,
            "users log in by certificate, but listen.tls has no client_ca that could vouch for one",
            "Name the authorities' certificates in listen.tls: client_ca = \"clients.crt\".",
        );
    }
    if by(Method::Certificate).is_none() && has_names && !certificates.of_all {
        let what = "auth.certificate has no effect: nobody logs in by a certificate, and no password needs one in the user's name";
        let hint = "Add an [[auth.method]] with by = \"certificate\", or set client_certificate = \"verify-full\", or remove it.";
        document.note(Weight::Idle, &certificates.span, what, hint);
    }
    if by(Method::Certificate).is_none() && listen.client_certificate == ClientCertificate::Optional {
        let what = "certificates are optional, but nobody logs in by one: they change nothing";
        let hint =
            "Add an [[auth.method]] with by = \"certificate\", or set client_certificate = \"verify-ca\".";
        document.note(Weight::Idle, &section_start(document, "[listen]"), what, hint);
    }
    match by(Method::Token) {
        Some(entry) => {
            if listen.tls != TlsMode::Require {
                document.mistake(
                    &entry.span,
                    "users log in by token, which anyone could read on its way without TLS",
                    "Set listen.tls = { mode = \"require\", … }.",
                );
            }
            if !has_token {
                document.mistake(
                    &entry.span,
                    "users log in by token, but no provider is named whose tokens hold",
                    "Add [auth.token] with issuer, audience and keys_url or keys_file.",
                );
            }
        }
        None if has_token => document.note(
            Weight::Idle,
            &token_span,
            "auth.token has no effect: nobody logs in by a token",
            "Add an [[auth.method]] with by = \"token\", or remove it.",
        ),
        None => {}
    }
    Auth { source: source.unwrap_or(AuthSource::File), methods, token, certificates }
}

fn certificates(mut section: Section<'_>, listen: &ListenSettings) -> CertificateEntry {
    let (is_present, span) = (section.is_present(), section.span.clone());
    let (naming, named) = naming(&mut section, "auth.certificate");
    section.finish();
    let of_all = listen.client_certificate == ClientCertificate::VerifyFull;
    CertificateEntry { naming, named, span, is_present, of_all }
}

/// Where a section begins, for a remark about it.
fn section_start(document: &Document, header: &str) -> Range<usize> {
    let at = document.text.find(header).unwrap_or(0);
    at..at
}

const METHOD: &str =
    "Write: by = \"certificate\" and users = [\"alice\"], or roles = [\"support\"] of policy.toml.";

fn entry(mut section: Section<'_>) -> Option<MethodEntry> {
    let by = section.required("by", METHOD);
    let choices =
        [Method::Password, Method::Certificate, Method::Token].map(|method| (method.name(), method));
    let method = by.and_then(|text| choice(&section, "by", &text, &choices));
    let upstream = section.text("upstream").map(|text| text.value);
    if upstream.as_deref() == Some("") {
        section.mistake("auth.method.upstream is empty", "Name a role of the database, or leave it out.");
    }
    let named = |texts: Option<Vec<Text>>| {
        let texts = texts.unwrap_or_default().into_iter();
        texts.map(|text| At { value: text.value, span: text.span }).collect::<Vec<_>>()
    };
    let (users, roles) = (named(section.texts("users")), named(section.texts("roles")));
    if users.is_empty() && roles.is_empty() {
        section.mistake("an auth.method means nobody", METHOD);
    }
    let span = section.span.clone();
    section.finish();
    Some(MethodEntry { span, method: method?, upstream, users, roles })
}

/// Who logs in how. Every user who is given two ways is a mistake, whoever would become the service user, and every role that policy.toml
/// does not have.
pub(in crate::config) fn resolve(
    document: &Document,
    methods: &[MethodEntry],
    certificates: &CertificateEntry,
    policy: &Policy,
    service_user: Option<&str>,
) -> LogIns {
    let mut found = LogIns::new();
    for entry in methods {
        let mut users: Vec<(&str, &Range<usize>)> =
            entry.users.iter().map(|user| (user.value.as_str(), &user.span)).collect();
        for role in &entry.roles {
            match policy.roles.get(&role.value) {
                Some(members) => users.extend(members.iter().map(|user| (user.as_str(), &role.span))),
                None => document.mistake(
                    &role.span,
                    format!("role \"{}\" is not in [roles] of policy.toml", role.value),
                    "Members that the database names are not known here: name the users, or add the role.",
                ),
            }
        }
        for (user, span) in users {
            let upstream = entry.upstream.clone().unwrap_or_else(|| user.to_owned());
            if Some(upstream.as_str()) == service_user {
                document.mistake(
                    &entry.span,
                    format!("user \"{user}\" would become {upstream}, the service user, who may change what pgveil counts"),
                    "Name a role that has what the user needs, and no more.",
                );
            }
            let log_in = LogIn { method: entry.method, upstream };
            let before = found.insert(user.to_owned(), log_in.clone());
            if let Some(before) = before.filter(|before| *before != log_in) {
                document.mistake(
                    span,
                    format!(
                        "user \"{user}\" has two ways to log in: {} and {}",
                        said(&before),
                        said(&log_in)
                    ),
                    "Leave one: nobody falls from one way into another.",
                );
            }
        }
    }
    certified(document, methods, certificates, &found);
    found
}

/// Whom the map of certificates' names leaves out, and whom it names in vain.
fn certified(
    document: &Document,
    methods: &[MethodEntry],
    certificates: &CertificateEntry,
    log_ins: &LogIns,
) {
    let Naming::Table(table) = &certificates.naming else { return };
    let by_certificate =
        |user: &str| log_ins.get(user).is_some_and(|log_in| log_in.method == Method::Certificate);
    let entry = methods.iter().find(|entry| entry.method == Method::Certificate);
    let named = |user: &&String| table.values().any(|users| users.contains(*user));
    for user in log_ins.keys().filter(|user| by_certificate(user) && !named(user)) {
        document.note(
            Weight::Idle,
            entry.map_or(&certificates.span, |entry| &entry.span),
            format!(
                "user \"{user}\" can never log in: no certificate's name in auth.certificate.map is {user}'s"
            ),
            format!("Add it: \"Common Name\" = \"{user}\"."),
        );
    }
    for user in certificates.named.iter().filter(|user| !certificates.of_all && !by_certificate(&user.value))
    {
        document.note(
            Weight::Idle,
            &user.span,
            format!("auth.certificate.map names \"{}\", who does not log in by certificate", user.value),
            "Correct the name, or name the user in an [[auth.method]] with by = \"certificate\".",
        );
    }
}

fn said(log_in: &LogIn) -> String {
    format!("by {} as {}", log_in.method.name(), log_in.upstream)
}

const PROVIDER: &str = "Write: [auth.token] with issuer = \"https://…\", audience = [\"…\"] and keys_url = \"https://…\" or keys_file = \"…\".";

/// `[auth.token]`; `None` where it is absent or not whole.
fn provider(mut section: Section<'_>, files: &Files<'_>) -> Option<TokenSettings> {
    if !section.is_present() {
        return None;
    }
    let issuer = section.required("issuer", PROVIDER);
    let audience = section.texts("audience").unwrap_or_default();
    if audience.is_empty() || audience.iter().any(|one| one.value.is_empty()) {
        section.mistake(
            "auth.token.audience names nobody",
            "Write: audience = [\"pgveil\"]; a token for any other is refused.",
        );
    }
    let algorithms = algorithms(&mut section);
    let claim = section.text("claim").map_or_else(|| "sub".to_owned(), |text| text.value);
    let (naming, _) = naming(&mut section, "auth.token");
    let leeway_seconds = section.number("leeway_seconds", 0..=600).unwrap_or(60);
    let refresh = Duration::from_secs(section.number("refresh_seconds", 1..=86_400).unwrap_or(300));
    let keys = keys(&mut section, files);
    section.finish();
    let rules = token::Rules {
        issuer: issuer?.value,
        audience: audience.into_iter().map(|one| one.value).collect(),
        algorithms,
        claim,
        naming,
        leeway_seconds,
    };
    Some(TokenSettings { rules, keys: keys?, refresh })
}

fn algorithms(section: &mut Section<'_>) -> Vec<token::Algorithm> {
    let Some(texts) = section.texts("algorithms") else { return ALGORITHMS_DEFAULT.to_vec() };
    if texts.is_empty() {
        section.mistake(
            "auth.token.algorithms allows none",
            "Leave it out, or name what the provider signs by.",
        );
    }
    let mut found = Vec::new();
    for text in texts {
        match ALGORITHMS.iter().find(|(name, _)| *name == text.value) {
            Some((_, algorithm)) => found.push(*algorithm),
            None => {
                let names: Vec<&str> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
                section.document.mistake(
                    &text.span,
                    format!("auth.token.algorithms cannot have \"{}\"", text.spelling),
                    format!("Signatures of a key pair only: {}.", names.join(", ")),
                );
            }
        }
    }
    found
}

/// `suffix` or `map` of a section of this name, and the users of the map.
fn naming(section: &mut Section<'_>, name: &str) -> (Naming, Vec<At<String>>) {
    let suffix = section.text("suffix");
    let mut map = section.section("map");
    if !map.is_present() {
        return (Naming::Suffix(suffix.map(|text| text.value).unwrap_or_default()), vec![]);
    }
    if let Some(text) = suffix {
        let hint = "Keep one: the map says whom each value names.";
        section.document.mistake(&text.span, format!("both {name}.suffix and {name}.map are set"), hint);
    }
    let (mut table, mut all) = (BTreeMap::new(), Vec::new());
    for (said, named) in map.named() {
        let users = named.text().map(|user| vec![user]).or_else(|| named.texts());
        let Some(users) = users else {
            named.wrong("a user, or an array of users", "Write: \"ann.lee@example.org\" = \"ann\".");
            continue;
        };
        if said.value.is_empty() || users.is_empty() || users.iter().any(|user| user.value.is_empty()) {
            let message = format!("{name}.map has an entry that names nobody");
            section.document.mistake(&said.span, message, "Name a user, or leave the entry out.");
        }
        all.extend(users.iter().map(|user| At { value: user.value.clone(), span: user.span.clone() }));
        table.insert(said.value, users.into_iter().map(|user| user.value).collect());
    }
    map.finish();
    (Naming::Table(table), all)
}

fn keys(section: &mut Section<'_>, files: &Files<'_>) -> Option<KeySource> {
    let url = section.text("keys_url");
    let file = files.existing(section, "keys_file");
    match (url, file) {
        (Some(url), None) if !url.value.starts_with("https://") => {
            let hint = "Whoever stands between could sign for anybody. Begin it with https://.";
            section.document.mistake(&url.span, "auth.token.keys_url is not of HTTPS", hint);
            None
        }
        (Some(url), None) => {
            let (address, path) = remote::http(section, files, "the token provider", &url.value)?;
            Some(KeySource::Url { address, path })
        }
        (None, Some(path)) => {
            if let Some(text) = section.text("ca") {
                let hint = "It says whom to trust at keys_url.";
                section.document.mistake(&text.span, "auth.token.ca has no effect with keys_file", hint);
            }
            // What cannot be read at all was said above.
            if let Ok(json) = std::fs::read(&path)
                && let Err(error) = KeySet::parse(&json)
            {
                let message = format!("{} holds no keys of a token provider: {error}", path.display());
                section.mistake(message, "Put the provider's JSON Web Key Set there (its jwks_uri).");
            }
            Some(KeySource::File(path))
        }
        (Some(_), Some(_)) => {
            section.text("ca");
            section.mistake("both auth.token.keys_url and auth.token.keys_file are set", "Keep one of them.");
            None
        }
        (None, None) => {
            section.mistake("auth.token has neither keys_url nor keys_file", PROVIDER);
            None
        }
    }
}
