//! Addresses of other servers in `proxy.toml`: where audit sinks are, and the provider of tokens.
//!
//! Guarantees: TLS always says whom it trusts. Deliberately absent: whether anyone answers there.

use super::Files;
use crate::config::document::Section;
use crate::server::settings::RemoteAddress;

/// The server of an HTTP address, and what is asked for there. `whose` begins messages.
pub(super) fn http(
    section: &mut Section<'_>,
    files: &Files<'_>,
    whose: &str,
    url: &str,
) -> Option<(RemoteAddress, String)> {
    let (tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => {
            section.mistake(format!("{whose}'s url is not of HTTP"), "Begin it with https:// or http://.");
            return None;
        }
    };
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
    let address = address(section, files, whose, authority, if tls { 443 } else { 80 }, tls)?;
    Some((address, path))
}

/// `host:port`, of the section's `ca`.
pub(super) fn address(
    section: &mut Section<'_>,
    files: &Files<'_>,
    whose: &str,
    authority: &str,
    port: u16,
    tls: bool,
) -> Option<RemoteAddress> {
    let ca = files.existing(section, "ca");
    let (host, digits) = match authority.rsplit_once(':') {
        Some((host, digits)) if !digits.ends_with(']') => (host, Some(digits)),
        _ => (authority, None),
    };
    let port = match digits.map(str::parse) {
        None => port,
        Some(Ok(port)) => port,
        Some(Err(_)) => {
            section.mistake(format!("{whose}'s port is not a number"), "Write host:port.");
            return None;
        }
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() || host.contains(['@', '/', ' ']) {
        section
            .mistake(format!("{whose}'s address has no host"), "Write host:port; secrets go into headers.");
        return None;
    }
    match (tls, &ca) {
        (true, None) => {
            section.mistake(
                format!(
                    "{whose} is reached over TLS and needs ca, the file with the authorities' certificates"
                ),
                "The system's are often in /etc/ssl/certs/ca-certificates.crt.",
            );
            None
        }
        (false, Some(_)) => {
            section.mistake(
                format!("ca says whom to trust in TLS, which {whose} does not speak"),
                "Use https:// or tls://.",
            );
            None
        }
        _ => Some(RemoteAddress { host, port, ca }),
    }
}
