//! Whether those could get in who log in without a password: the credentials of their roles are tried, and the token provider is asked
//! for its keys.

use super::finding;
use crate::config::{Config, Mistake, PROXY, Place};
use crate::server::service;
use crate::server::settings::KeySource;
use crate::server::token_keys;

pub(super) async fn findings(config: &Config) -> Vec<Mistake> {
    let place = Place { file: config.dir.join(PROXY), line: 1 };
    let mut findings = Vec::new();
    let settings = &config.settings.database;
    // That they do not open was said without a database.
    let passwords = config.upstream_passwords().unwrap_or_default();
    let roles = config.settings.log_ins.values().map(|log_in| log_in.upstream.as_str());
    let roles: std::collections::BTreeSet<&str> = roles.collect();
    for (role, password) in passwords.iter().filter(|(role, _)| roles.contains(role.as_str())) {
        let tried = service::connect(settings, &settings.service_database, role, Some(password)).await;
        // Whoever may not connect to this database, but was asked for no other password, may well do so to another.
        if let Err(error) = tried
            && error.sqlstate.as_deref().is_some_and(|sqlstate| sqlstate.starts_with("28"))
        {
            let message =
                format!("the database does not take the credential of role {role}: {}", error.message);
            let hint = format!("Run: pgveil upstream set {role}, with the role's password of today.");
            findings.push(finding(&place, "unaccepted-credential", message, hint));
        }
    }
    if let Some(token) =
        config.settings.token.as_ref().filter(|token| matches!(token.keys, KeySource::Url { .. }))
        && let Err(error) = token_keys::read(&token.keys).await
    {
        let message = format!("the token provider's keys: {}: {error}", token_keys::unreadable(&token.keys));
        let hint =
            "Until they can, nobody logs in by a token: correct keys_url or ca, or have the provider answer.";
        findings.push(finding(&place, "unreadable-token-keys", message, hint));
    }
    findings
}
