//! The forms in which records go on to other systems. The file is the truth; these are copies.
//!
//! Guarantees: each form has one line for a record, without line feeds in it, and no more than the record has. Deliberately absent:
//! sending (`server`).

use super::follow::Followed;
use super::{AuditRecord, Event, SUCCEEDED};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// How a record is written for a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As the line in the log.
    Record,
    /// A JSON object with the names of OCSF 1.3 (Open Cybersecurity Schema Framework), so that a SIEM understands it; what has no
    /// name there stands in `unmapped`.
    Ocsf,
}

impl Form {
    /// One line, without a line feed.
    pub fn write(self, followed: &Followed) -> String {
        match self {
            Form::Record => followed.line.clone(),
            Form::Ocsf => ocsf(followed).to_string(),
        }
    }
}

/// OCSF's classes: (class, category, activity, the activity's name).
fn class_of(event: &Event) -> (u64, u64, u64, &'static str) {
    match event {
        // Authentication; Identity & Access Management.
        Event::LoggedIn { .. } | Event::LogInFailed { .. } => (3002, 3, 1, "Logon"),
        Event::SecondFactor { .. } | Event::BreakGlass { .. } => (3002, 3, 99, "Other"),
        // Datastore Activity; Application Activity.
        Event::Intent { .. } | Event::Outcome { .. } | Event::Refused { .. } => (6005, 6, 8, "Query"),
        // Application Lifecycle.
        Event::Started { .. } => (6002, 6, 3, "Start"),
        Event::Stopped => (6002, 6, 4, "Stop"),
        Event::Reloaded { .. }
        | Event::ColumnChanged { .. }
        | Event::Recovered { .. }
        | Event::Removed { .. }
        | Event::PersonForgotten { .. }
        | Event::KeysExported { .. }
        | Event::DataKeyChanged { .. }
        | Event::KeyChanged { .. } => (6002, 6, 99, "Other"),
    }
}

/// OCSF's `status_id` and `severity_id`.
fn status_of(event: &Event) -> (u64, u64) {
    match event {
        Event::LogInFailed { .. } | Event::Refused { .. } => (2, 3),
        Event::Outcome { sqlstate, .. } if sqlstate != SUCCEEDED => (2, 2),
        Event::Recovered { .. } | Event::BreakGlass { .. } | Event::KeysExported { .. } => (99, 4),
        Event::SecondFactor { outcome } if outcome != "given" => (2, 3),
        _ => (1, 1),
    }
}

fn ocsf(followed: &Followed) -> Value {
    let record = &followed.record;
    let (class, category, activity, activity_name) = class_of(&record.event);
    let (status, severity) = status_of(&record.event);
    let mut out = json!({
        "activity_id": activity,
        "activity_name": activity_name,
        "category_uid": category,
        "class_uid": class,
        "type_uid": class * 100 + activity,
        "time": record.time.div_euclid(1000),
        "severity_id": severity,
        "status_id": status,
        "metadata": {
            "version": "1.3.0",
            "product": {"name": "pgveil", "vendor_name": "pgveil", "version": env!("CARGO_PKG_VERSION")},
            "sequence": followed.number,
            "event_code": record.event.name(),
        },
    });
    let Some(fields) = out.as_object_mut() else { return out };
    who(record, fields);
    if let Some(state) = record.event.sqlstate() {
        fields.insert("status_code".to_owned(), state.into());
    }
    let mut unmapped = serde_json::from_str::<Map<String, Value>>(&followed.line).unwrap_or_default();
    for named in ["time", "user", "database", "application", "address", "event", "sqlstate"] {
        unmapped.remove(named);
    }
    if let Some(shape) = unmapped.remove("shape") {
        fields.insert("query_info".to_owned(), json!({"query_string": shape}));
    }
    if let Some(reason) = unmapped.remove("reason") {
        fields.insert("status_detail".to_owned(), reason);
    }
    fields.insert("unmapped".to_owned(), Value::Object(unmapped));
    out
}

fn who(record: &AuditRecord, fields: &mut Map<String, Value>) {
    if record.connection.user.is_empty() {
        return;
    }
    let user = json!({"name": record.connection.user});
    fields.insert("actor".to_owned(), json!({"user": user, "app_name": record.connection.application}));
    if matches!(record.event, Event::LoggedIn { .. } | Event::LogInFailed { .. }) {
        fields.insert("user".to_owned(), user);
    }
    let endpoint = match record.connection.address.rsplit_once(':') {
        Some((ip, port)) => json!({
            "ip": ip.trim_start_matches('[').trim_end_matches(']'),
            "port": port.parse::<u16>().ok(),
        }),
        None => json!({"name": record.connection.address}),
    };
    fields.insert("src_endpoint".to_owned(), endpoint);
    if !record.connection.database.is_empty() {
        fields.insert("database".to_owned(), json!({"name": record.connection.database, "type_id": 1}));
    }
}

/// A message of syslog (RFC 5424) with its length before it (RFC 6587's octet counting, as RFC 5425 wants it for TLS).
pub fn syslog(followed: &Followed, form: Form, host: &str) -> Vec<u8> {
    // Facility 13 is "log audit"; what failed is a warning, the rest a notice.
    let (status, _) = status_of(&followed.record.event);
    let priority = 13 * 8 + if status == 1 { 5 } else { 4 };
    let time = Timestamp::from_microsecond(followed.record.time)
        .map_or_else(|_| "-".to_owned(), |time| time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string());
    let printable = |c: char| c.is_ascii_graphic();
    let host: String = host.chars().filter(|c| printable(*c)).take(255).collect();
    let host = if host.is_empty() { "-".to_owned() } else { host };
    let name = followed.record.event.name();
    let message = format!("<{priority}>1 {time} {host} pgveil - {name} - {}", form.write(followed));
    let mut out = format!("{} ", message.len()).into_bytes();
    out.extend_from_slice(message.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::super::canonical::tests::samples;
    use super::super::canonical::write_record;
    use super::super::chain::Chain;
    use super::*;

    fn followed(index: usize) -> Followed {
        let record = samples().swap_remove(index);
        let mut line = vec![];
        write_record(Chain::EMPTY, &record, &mut line);
        Followed { number: 7, line: String::from_utf8(line).unwrap(), record: Box::new(record) }
    }

    #[test]
    fn ocsf_names_what_it_has_names_for_and_loses_nothing() {
        let value: Value = serde_json::from_str(&Form::Ocsf.write(&followed(6))).unwrap();
        for (pointer, expected) in [
            ("/class_uid", json!(6005)),
            ("/type_uid", json!(600_508)),
            ("/time", json!(1_764_000_000_000_u64)),
            ("/status_id", json!(2)),
            ("/status_code", json!("42501")),
            ("/status_detail", json!("denied")),
            ("/actor/user/name", json!("alice")),
            ("/src_endpoint/ip", json!("10.0.0.7")),
            ("/src_endpoint/port", json!(5123)),
            ("/query_info/query_string", json!("select card_number from customers")),
            ("/metadata/sequence", json!(7)),
            ("/unmapped/uses/0/rule", json!("support-desk")),
            ("/unmapped/kind", json!("select")),
        ] {
            assert_eq!(value.pointer(pointer), Some(&expected), "{pointer} of {value}");
        }
        for index in 0..samples().len() {
            let line = Form::Ocsf.write(&followed(index));
            assert!(!line.contains('\n') && serde_json::from_str::<Value>(&line).is_ok());
            assert_eq!(Form::Record.write(&followed(index)), followed(index).line);
        }
    }

    #[test]
    fn syslog_counts_its_octets() {
        let message = syslog(&followed(3), Form::Record, "proxy 1\n");
        let text = String::from_utf8(message).unwrap();
        let (length, rest) = text.split_once(' ').unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), rest.len());
        assert!(
            rest.starts_with("<108>1 2025-11-24T16:00:00.000003Z proxy1 pgveil - log_in_failed - {"),
            "{rest}"
        );
    }
}
