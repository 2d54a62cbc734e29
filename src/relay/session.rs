//! What the relay knows of the session: who speaks, under which circumstances, on which path, in which style.

use super::purpose::Purpose;
use super::{Now, Opening, World};
use crate::audit::{AuditRecord, Connection, Event, Said};
use crate::plan::{self, Known, NameKind, Named};
use crate::policy::budget::Budgets;
use crate::policy::{Circumstances, Principal};
use crate::value::Style;
use crate::wire::backend::TransactionStatus;
use std::net::IpAddr;
use std::sync::Arc;

pub(super) struct Session {
    pub(super) principal: Principal,
    connection: Said<Connection>,
    upstream: Option<String>,
    address: Option<IpAddr>,
    pub(super) budgets: Arc<Budgets>,
    pub(super) style: Style,
    pub(super) row_bytes_max: usize,
    /// 0 while it is not known.
    server_major: u32,
    pub(super) purpose: Purpose,
    pub(super) second_factor_at: Option<i64>,
    pub(super) glass_broken_at: Option<i64>,
    /// The one process that answers in this session, as far as it is known.
    pub(super) server_process: Option<i32>,
    /// `current_schemas(true)` when last asked.
    pub(super) path: Vec<String>,
    /// A setting of the server's that makes tagged columns unsafe to read through us.
    pub(super) unsafe_at_start: Option<&'static str>,
    /// As the newest ReadyForQuery said.
    pub(super) status: TransactionStatus,
    /// What it prepared and declared by SQL.
    pub(super) named: Arc<Named>,
}

impl Session {
    pub(super) fn new(opening: Opening) -> Session {
        let connection = Said::from(Connection {
            number: opening.connection,
            user: opening.principal.user().to_owned(),
            database: opening.database,
            application: opening.application,
            address: opening.address_text,
        });
        let mut session = Session {
            principal: opening.principal,
            connection,
            upstream: opening.upstream,
            address: opening.address,
            budgets: opening.budgets,
            style: Style::default(),
            row_bytes_max: opening.row_bytes_max,
            server_major: 0,
            purpose: Purpose::default(),
            second_factor_at: None,
            glass_broken_at: None,
            server_process: opening.server_process,
            path: Vec::new(),
            status: TransactionStatus::Idle,
            unsafe_at_start: None,
            named: Arc::default(),
        };
        for (name, value) in &opening.parameters {
            session.parameter(name, value);
            session.unsafe_at_start = session.unsafe_at_start.or(unsafe_setting(name, value));
        }
        session
    }

    /// Follows a ParameterStatus.
    pub(super) fn parameter(&mut self, name: &str, value: &str) {
        let value = value.to_owned();
        match name {
            "DateStyle" => self.style.date_style = value,
            "IntervalStyle" => self.style.interval_style = value,
            "TimeZone" => self.style.time_zone = value,
            "server_version" => {
                let major = value.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
                self.server_major = major.parse().unwrap_or(0);
            }
            "application_name" => {
                self.connection = self.connection.changed(|connection| connection.application = value);
            }
            _ => {}
        }
    }

    pub(super) fn circumstances(&self, now: Now) -> Circumstances {
        Circumstances {
            now: now.unix_seconds(),
            address: self.address,
            purpose: self.purpose.now().map(str::to_owned),
            second_factor_at: self.second_factor_at,
            glass_broken_at: self.glass_broken_at,
        }
    }

    /// Whether a line `\.` ends the data of a CSV copy: until PostgreSQL 17.
    pub(super) fn csv_has_marker(&self) -> bool {
        self.server_major < 18
    }

    /// What a name stands for from now on; `None`: nothing.
    pub(super) fn know(&mut self, kind: NameKind, name: &str, known: Option<Known>) {
        let named = Arc::make_mut(&mut self.named);
        let names = match kind {
            NameKind::Statement => &mut named.statements,
            NameKind::Cursor => &mut named.cursors,
        };
        match known {
            Some(known) => names.insert(name.to_owned(), known),
            None => names.remove(name),
        };
    }

    /// `DISCARD ALL`, `RESET ALL`.
    pub(super) fn reset(&mut self) {
        self.purpose.set(None, false, self.status);
        self.second_factor_at = None;
        self.glass_broken_at = None;
    }

    pub(super) fn record(&self, event: Event, now: Now) -> Box<AuditRecord> {
        Box::new(AuditRecord { time: now.unix_micros, connection: self.connection.clone(), event })
    }

    /// The connection's number.
    pub(super) fn number(&self) -> u64 {
        self.connection.number
    }

    /// What `SHOW pgveil.status` answers.
    pub(super) fn status_text(&self, world: &World, now: Now) -> String {
        let purpose = self.purpose.now().unwrap_or("none");
        let left = |minutes: u32, since: Option<i64>| {
            let seconds = since? + i64::from(minutes) * 60 - now.unix_seconds();
            (seconds > 0).then(|| format!("for {} min", (seconds + 59) / 60))
        };
        let factor = match left(world.policy.otp_minutes, self.second_factor_at) {
            Some(left) => format!("given {left}"),
            None => "not given".to_owned(),
        };
        let glass = match left(world.policy.break_glass_minutes, self.glass_broken_at) {
            Some(left) => format!("broken {left}"),
            None => "whole".to_owned(),
        };
        let role = self.upstream.as_ref().map(|role| format!(" as {role}")).unwrap_or_default();
        format!(
            "user {}{role}, purpose {purpose}, second factor {factor}, glass {glass}, generation {}",
            self.principal.user(),
            world.generation
        )
    }
}

/// A planning session borrows from this one; the circumstances and names are made once for each statement.
pub(super) fn planning<'a>(
    session: &'a Session,
    circumstances: &'a Circumstances,
    named: &'a Named,
) -> plan::Session<'a> {
    plan::Session { principal: &session.principal, circumstances, search_path: &session.path, named }
}

/// Why a setting that the proxy relies on makes going on unsafe, if it does.
pub(super) fn unsafe_setting(name: &str, value: &str) -> Option<&'static str> {
    match name {
        "standard_conforming_strings" if value != "on" => Some("standard_conforming_strings must stay on"),
        "client_encoding" if !value.eq_ignore_ascii_case("UTF8") => Some("client_encoding must be UTF8"),
        _ => None,
    }
}
