//! What the server is told: validated by `config`, obeyed here.

use crate::audit::sink::Form;
use crate::audit::writer::SegmentSettings;
use crate::auth::{LogIns, Naming, token};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    Off,
    Prefer,
    Require,
}

/// What is asked of clients' certificates, where there is a `client_ca`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Only those must show one who log in by it.
    Optional,
    /// All must show one.
    VerifyCa,
    /// It must be in the name of the user that logs in.
    VerifyFull,
}

/// `[listen]`.
#[derive(Clone, Debug)]
pub struct ListenSettings {
    pub address: Option<SocketAddr>,
    /// A directory; the socket is `.s.PGSQL.<port>` in it, as PostgreSQL names it.
    pub unix_socket: Option<PathBuf>,
    pub tls: TlsMode,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub client_ca: Option<PathBuf>,
    /// Revoked ones among those that `client_ca` vouches for.
    pub client_crl: Option<PathBuf>,
    pub client_certificate: ClientCertificate,
    /// Default 1000.
    pub connections_max: usize,
    /// Default 30 s: from accept to ReadyForQuery.
    pub log_in_timeout: Duration,
    /// Default 30 s.
    pub drain: Duration,
    /// Default 1 GiB, PostgreSQL's own limit; 10 KiB before log-in is fixed.
    pub message_bytes_max: u64,
    /// Load balancers, which say where a client comes from (PROXY protocol, version 2).
    pub proxies: Vec<IpNet>,
    /// Log-ins of one user from one address that may fail in a minute before others are held off. Default 10.
    pub failures_per_minute: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseTls {
    Off,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseAddress {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// Directory and port.
    Unix(PathBuf, u16),
}

/// `[database]`.
#[derive(Clone)]
pub struct DatabaseSettings {
    pub address: DatabaseAddress,
    pub tls: DatabaseTls,
    pub ca: Option<PathBuf>,
    pub service_user: String,
    /// `None`: no password is needed (trust, peer).
    pub service_password: Option<zeroize::Zeroizing<String>>,
    /// Where it was read from, or where `init` writes it.
    pub service_password_file: Option<PathBuf>,
    /// Where `init`, `check` and `users` connect by default: `postgres` unless set.
    pub service_database: String,
    /// A pooler in session mode may stand between.
    pub session_pooler: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthSource {
    /// `users.toml`.
    File,
    /// The look-up function that `init` makes.
    Database,
}

/// `[auth.token]`: the OpenID provider whose tokens log in.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSettings {
    pub rules: token::Rules,
    pub keys: KeySource,
    /// Default 5 minutes: how often an address is asked for its keys. A file is looked at each second.
    pub refresh: Duration,
}

/// Where the provider's keys are.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    File(PathBuf),
    /// By HTTPS.
    Url {
        address: RemoteAddress,
        path: String,
    },
}

/// `[audit]`.
#[derive(Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// Of the log and its signing key.
    pub folder: PathBuf,
    pub segments: SegmentSettings,
    pub sinks: Vec<SinkSettings>,
}

/// `[[audit.sink]]`: where records go on to.
#[derive(Clone, PartialEq, Eq)]
pub struct SinkSettings {
    /// Names the file that keeps its place, and it in our own log.
    pub name: String,
    pub form: Form,
    pub kind: SinkKind,
}

#[derive(Clone, PartialEq, Eq)]
pub enum SinkKind {
    /// Lines on standard output.
    Stdout,
    Http {
        address: RemoteAddress,
        /// What is asked for, with its query.
        path: String,
        /// Name and value; a value may be a secret.
        headers: Vec<(String, Zeroizing<String>)>,
    },
    Syslog(RemoteAddress),
    /// A table, `pgveil.audit_record`, in the database of this URL.
    Postgres {
        url: Zeroizing<String>,
        /// The authorities that may vouch for it; `None` speaks no TLS.
        ca: Option<PathBuf>,
    },
}

/// A server that we speak to, besides the database.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteAddress {
    pub host: String,
    pub port: u16,
    /// The authorities that may vouch for it; `None` speaks no TLS.
    pub ca: Option<PathBuf>,
}

/// Everything `serve` needs besides policy, tags, keys and users.
#[derive(Clone)]
pub struct Settings {
    pub listen: ListenSettings,
    pub database: DatabaseSettings,
    pub auth: AuthSource,
    /// `[[auth.method]]`: for whom pgveil logs in to the database by a credential of its own.
    pub log_ins: Arc<LogIns>,
    /// `[auth.certificate]`: whom the common names of certificates name.
    pub certificate_names: Arc<Naming>,
    pub token: Option<TokenSettings>,
    /// `[admin] address`; `None` when the section is absent.
    pub admin: Option<SocketAddr>,
    pub audit: AuditSettings,
    /// Default 10,000 statements.
    pub plan_cache_entries: usize,
}

impl Settings {
    /// Puts into `new` what cannot change while running, and names what would have.
    pub fn keep(&self, new: &mut Settings) -> Vec<&'static str> {
        let mut kept = Vec::new();
        keep(&self.listen.address, &mut new.listen.address, "listen.address", &mut kept);
        keep(&self.listen.unix_socket, &mut new.listen.unix_socket, "listen.unix_socket", &mut kept);
        keep(
            &self.listen.connections_max,
            &mut new.listen.connections_max,
            "listen.connections_max",
            &mut kept,
        );
        keep(&self.database.address, &mut new.database.address, "database.address", &mut kept);
        keep(&self.admin, &mut new.admin, "admin.address", &mut kept);
        keep(&self.audit, &mut new.audit, "audit", &mut kept);
        keep(&self.plan_cache_entries, &mut new.plan_cache_entries, "plans.cache_entries", &mut kept);
        kept
    }
}

fn keep<T: Clone + PartialEq>(old: &T, new: &mut T, name: &'static str, kept: &mut Vec<&'static str>) {
    if old != new {
        new.clone_from(old);
        kept.push(name);
    }
}
