//! `[audit]` of `proxy.toml`: the log's folder, its segments, and where its records go on to.

use super::{Files, remote};
use crate::audit::sink::Form;
use crate::audit::writer::SegmentSettings;
use crate::config::document::Section;
use crate::server::settings::{AuditSettings, RemoteAddress, SinkKind, SinkSettings};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use zeroize::Zeroizing;

const KINDS: &str = "A sink's kind is stdout, http, syslog or postgres.";

pub(super) fn read(mut section: Section<'_>, files: &Files<'_>) -> AuditSettings {
    let folder = files.dir.join(section.text("path").map_or_else(|| "audit".to_owned(), |path| path.value));
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let given = SegmentSettings::default();
    let segments = SegmentSettings {
        bytes: section.number("segment_megabytes", 1..=4096).map_or(given.bytes, |megabytes| megabytes << 20),
        age: section.number("segment_hours", 1..=8784).map_or(given.age, hours),
        compress: section.boolean("compress").unwrap_or(given.compress),
        retention: section.number("retention_days", 1..=36_600).map(|days| hours(days * 24)),
    };
    let mut names = BTreeSet::new();
    let mut sinks = vec![];
    for sink_section in section.sections("sink") {
        sinks.extend(sink(sink_section, files, &mut names));
    }
    section.finish();
    AuditSettings { folder, segments, sinks }
}

/// `None` after a mistake.
fn sink(mut section: Section<'_>, files: &Files<'_>, names: &mut BTreeSet<String>) -> Option<SinkSettings> {
    let name = section.required("name", "A sink needs a name: its place in the log is kept under it.");
    let kind = section.required("kind", KINDS);
    let form = section.text("form");
    let form = match form.as_ref().map(|form| form.value.as_str()) {
        None | Some("ocsf") => Form::Ocsf,
        Some("record") => Form::Record,
        Some(other) => {
            section.mistake(format!("\"{other}\" is no form"), "A sink's form is ocsf or record.");
            return None;
        }
    };
    let kind = match kind.as_ref()?.value.as_str() {
        "stdout" => Some(SinkKind::Stdout),
        "http" => http(&mut section, files),
        "syslog" => syslog(&mut section, files).map(SinkKind::Syslog),
        "postgres" => postgres(&mut section, files),
        other => {
            section.mistake(format!("\"{other}\" is no kind of sink"), KINDS);
            None
        }
    };
    let name = name?.value;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        section.mistake("a sink's name names a file", "Use letters, digits, - and _ in it.");
        return None;
    }
    if !names.insert(name.clone()) {
        section.mistake(format!("there are two sinks {name}"), "Each sink needs a name of its own.");
        return None;
    }
    section.finish();
    Some(SinkSettings { name, form, kind: kind? })
}

fn http(section: &mut Section<'_>, files: &Files<'_>) -> Option<SinkKind> {
    let url = section.required("url", "Say where to POST: url = \"https://siem.example.org/ingest\".")?.value;
    let headers = section.texts("headers").unwrap_or_default();
    let (address, path) = remote::http(section, files, "the sink", &url)?;
    let headers = headers.into_iter().map(|header| {
        let (name, value) = header.value.split_once(':')?;
        let value = Zeroizing::new(value.trim().to_owned());
        (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()))
            .then(|| (name.to_owned(), value))
    });
    let Some(headers) = headers.collect::<Option<Vec<_>>>() else {
        section.mistake("a header of the sink has no name", "Write headers as \"Name: value\".");
        return None;
    };
    Some(SinkKind::Http { address, path, headers })
}

fn syslog(section: &mut Section<'_>, files: &Files<'_>) -> Option<RemoteAddress> {
    let hint = "Say where: address = \"tls://log.example.org:6514\" (or tcp://…).";
    let text = section.required("address", hint)?.value;
    let (tls, authority) = match (text.strip_prefix("tls://"), text.strip_prefix("tcp://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => {
            section.mistake("the sink's address has no protocol", hint);
            return None;
        }
    };
    remote::address(section, files, "the sink", authority, if tls { 6514 } else { 601 }, tls)
}

fn postgres(section: &mut Section<'_>, files: &Files<'_>) -> Option<SinkKind> {
    let hint = "Say where: url = \"postgresql://audit:${AUDIT_PASSWORD}@db.example.org/audit\".";
    let url = Zeroizing::new(section.required("url", hint)?.value);
    let ca = files.existing(section, "ca");
    let Some(address) = crate::server::service::address_of(&url) else {
        section.mistake("the sink's url names no database server", hint);
        return None;
    };
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    let near = host.starts_with('/')
        || host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if ca.is_none() && !near && !url.contains("sslmode=disable") {
        section.mistake(
            "a sink in a database elsewhere needs ca, the file with the authorities' certificates",
            "Its server is then verified in full. Or say in the url that it goes in clear: sslmode=disable.",
        );
        return None;
    }
    Some(SinkKind::Postgres { url, ca })
}
