//! `proxy.toml`, the SRE's file: listening, the database, keys, audit and administration → [`Settings`].

mod audit;
mod auth;
mod keys;
mod remote;

use super::document::{Document, Section, Text};
use super::keys::KeySettings;
use super::{Missing, Weight};
use crate::server::settings::{
    ClientCertificate, DatabaseAddress, DatabaseSettings, DatabaseTls, ListenSettings, Settings, TlsMode,
};
pub(super) use auth::{CertificateEntry, MethodEntry, resolve};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// PostgreSQL's own limit of a message (`MaxAllocSize`, 1 GiB - 1).
const MESSAGE_BYTES_MAX: u64 = 0x3fff_ffff;
/// PostgreSQL's own limit of a start-up packet: fewer would cut log-ins off.
const MESSAGE_BYTES_MIN: u64 = 10_000;

/// What the file says, and where its two sections that others ask about stand.
pub(super) struct Proxy {
    /// `None` after a mistake without which there is no address.
    pub(super) settings: Option<Settings>,
    pub(super) keys: KeySettings,
    /// `[[auth.method]]`, in the order of the file.
    pub(super) methods: Vec<MethodEntry>,
    pub(super) certificates: CertificateEntry,
    pub(super) database_span: Range<usize>,
    pub(super) keys_span: Range<usize>,
}

pub(super) fn read(document: &Document, dir: &Path, missing: Missing) -> Proxy {
    let table = document.parse();
    let mut top = document.top(&table);
    let files = Files { document, dir, missing };
    let listen = listen(top.section("listen"), &files);
    let section = top.section("database");
    let database_span = section.span.clone();
    let database = database(section, &files);
    let auth = auth::read(top.section("auth"), &files, &listen);
    let section = top.section("keys");
    let keys_span = section.span.clone();
    let keys = keys::read(section, &files);
    let audit = audit::read(top.section("audit"), &files);
    let admin = admin(top.section("admin"));
    let mut section = top.section("plans");
    let plan_cache_entries = section.number("cache_entries", 1..=10_000_000).unwrap_or(10_000) as usize;
    section.finish();
    top.finish();
    let settings = database.map(|database| Settings {
        listen,
        database,
        auth: auth.source,
        log_ins: Arc::default(),
        certificate_names: Arc::new(auth.certificates.naming.clone()),
        token: auth.token,
        admin,
        audit,
        plan_cache_entries,
    });
    Proxy { settings, keys, methods: auth.methods, certificates: auth.certificates, database_span, keys_span }
}

/// Files that values name, relative to the folder.
struct Files<'d> {
    document: &'d Document,
    dir: &'d Path,
    missing: Missing,
}

impl Files<'_> {
    /// A file that must be there now.
    fn existing(&self, section: &mut Section<'_>, key: &str) -> Option<PathBuf> {
        let text = section.text(key)?;
        let path = self.dir.join(&text.value);
        if let Err(error) = std::fs::metadata(&path) {
            let message = format!("{}: {} cannot be read: {error}", section.full(key), text.spelling);
            self.document.mistake(&text.span, message, "Put the file there, or correct the path.");
        }
        Some(path)
    }

    /// The first line of a file that holds a secret; remarks when others may read it.
    fn secret(&self, text: &Text) -> Option<Zeroizing<String>> {
        let path = self.dir.join(&text.value);
        match std::fs::read_to_string(&path).map(Zeroizing::new) {
            Ok(content) => {
                self.warn_of_readers(text, &path);
                Some(Zeroizing::new(content.lines().next().unwrap_or_default().to_owned()))
            }
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && self.missing == Missing::Allowed =>
            {
                None
            }
            Err(error) => {
                self.document.mistake(
                    &text.span,
                    format!("{} cannot be read: {error}", text.spelling),
                    "Put the secret into that file (mode 0600); `pgveil init --database URL` makes one for the service user.",
                );
                None
            }
        }
    }

    /// Only a remark: secrets that an orchestrator mounts are often world-readable inside a container of one user.
    fn warn_of_readers(&self, text: &Text, path: &Path) {
        let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o077 != 0 {
            self.document.note(
                Weight::Advice,
                &text.span,
                format!("others than its owner may read {} (mode {:04o})", path.display(), mode & 0o7777),
                format!("Run: chmod 600 {}", path.display()),
            );
        }
    }

    /// A secret that stands in the file itself makes the whole file a secret.
    fn warn_of_inline(&self, text: &Text) {
        if !text.is_from_environment() {
            self.warn_of_readers(text, &self.document.path);
        }
    }
}

fn listen(mut section: Section<'_>, files: &Files<'_>) -> ListenSettings {
    let address = section.text("address").and_then(|text| socket_address(&section, "address", &text));
    let unix_socket = section.text("unix_socket").map(|path| files.dir.join(path.value));
    let mut tls = section.section("tls");
    let certificate = files.existing(&mut tls, "certificate");
    let key = files.existing(&mut tls, "key");
    let client_ca = files.existing(&mut tls, "client_ca");
    let mode = match tls.text("mode") {
        Some(text) => choice(
            &tls,
            "mode",
            &text,
            &[("off", TlsMode::Off), ("prefer", TlsMode::Prefer), ("require", TlsMode::Require)],
        )
        .unwrap_or(TlsMode::Require),
        None if tls.is_present() => TlsMode::Prefer,
        None => TlsMode::Off,
    };
    if mode != TlsMode::Off && (certificate.is_none() || key.is_none()) {
        tls.mistake(
            "listen.tls needs a certificate and a key",
            "Name both, as PEM files, or set mode = \"off\".",
        );
    }
    let (client_crl, client_certificate) = certificates(&mut tls, files, mode, client_ca.is_some());
    tls.finish();
    let seconds = |number: Option<u64>, default| Duration::from_secs(number.unwrap_or(default));
    let settings = ListenSettings {
        address: address.or_else(|| {
            let default = || SocketAddr::from(([127, 0, 0, 1], 6432));
            unix_socket.is_none().then(default)
        }),
        unix_socket,
        tls: mode,
        certificate,
        key,
        client_ca,
        client_crl,
        client_certificate,
        connections_max: section.number("connections_max", 1..=1_000_000).unwrap_or(1000) as usize,
        log_in_timeout: seconds(section.number("log_in_seconds", 1..=3600), 30),
        drain: seconds(section.number("drain_seconds", 0..=86_400), 30),
        message_bytes_max: section
            .number("message_bytes_max", MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX)
            .unwrap_or(MESSAGE_BYTES_MAX),
        proxies: nets(&mut section),
        failures_per_minute: section.number("failures_per_minute", 1..=1_000_000).unwrap_or(10) as u32,
    };
    section.finish();
    settings
}

/// What is asked of clients' certificates, and which are revoked.
fn certificates(
    tls: &mut Section<'_>,
    files: &Files<'_>,
    mode: TlsMode,
    has_ca: bool,
) -> (Option<PathBuf>, ClientCertificate) {
    let client_crl = files.existing(tls, "client_crl");
    let names = tls.text("client_certificate");
    if !has_ca && (client_crl.is_some() || names.is_some()) {
        tls.mistake(
            "listen.tls has no client_ca, so clients show no certificate",
            "Name the authorities' certificates: client_ca = \"clients.crt\".",
        );
    }
    let client_certificate = names
        .and_then(|text| {
            choice(
                tls,
                "client_certificate",
                &text,
                &[
                    ("optional", ClientCertificate::Optional),
                    ("verify-ca", ClientCertificate::VerifyCa),
                    ("verify-full", ClientCertificate::VerifyFull),
                ],
            )
        })
        .unwrap_or(ClientCertificate::VerifyCa);
    if mode == TlsMode::Off && has_ca {
        tls.mistake("listen.tls.client_ca has no effect without TLS", "Set mode = \"require\".");
    }
    (client_crl, client_certificate)
}

/// `proxy_protocol_from`.
fn nets(section: &mut Section<'_>) -> Vec<IpNet> {
    let mut nets = vec![];
    for text in section.texts("proxy_protocol_from").unwrap_or_default() {
        let address = text.value.parse::<IpAddr>().map(IpNet::from).ok();
        match address.or_else(|| text.value.parse().ok()) {
            Some(net) => nets.push(net),
            None => section.mistake(
                format!("proxy_protocol_from: {} is no address", text.spelling),
                "Write addresses or networks, such as 10.0.0.7 or 10.0.0.0/24.",
            ),
        }
    }
    nets
}

fn database(mut section: Section<'_>, files: &Files<'_>) -> Option<DatabaseSettings> {
    let text = section.text("address");
    let address = match &text {
        Some(text) => database_address(&section, text),
        None => Some(DatabaseAddress::Tcp("127.0.0.1".to_owned(), 5432)),
    };
    let near = address.as_ref().is_none_or(is_near);
    let mut tls = section.section("tls");
    let ca = files.existing(&mut tls, "ca");
    let chosen = tls.text("mode").and_then(|text| {
        choice(
            &tls,
            "mode",
            &text,
            &[
                ("off", DatabaseTls::Off),
                ("prefer", DatabaseTls::Prefer),
                ("require", DatabaseTls::Require),
                ("verify-ca", DatabaseTls::VerifyCa),
                ("verify-full", DatabaseTls::VerifyFull),
            ],
        )
    });
    let default = if near && ca.is_none() { DatabaseTls::Prefer } else { DatabaseTls::VerifyFull };
    let mode = chosen.unwrap_or(default);
    if matches!(mode, DatabaseTls::VerifyCa | DatabaseTls::VerifyFull) && ca.is_none() {
        tls.mistake(
            "database.tls needs a ca to verify the server with",
            "Write: tls = { mode = \"verify-full\", ca = \"ca.crt\" }; or choose a mode that verifies nothing.",
        );
    }
    tls.finish();
    let service_user = section.text("service_user").map_or_else(|| "pgveil".to_owned(), |text| text.value);
    let inline = section.text("service_password");
    let file = section.text("service_password_file");
    if let (Some(_), Some(file)) = (&inline, &file) {
        files.document.mistake(
            &file.span,
            "both service_password and service_password_file are set",
            "Keep one of them; the file is the usual way.",
        );
    }
    let service_password_file = file.as_ref().map(|text| files.dir.join(&text.value));
    let service_password = match (inline, file) {
        (Some(inline), _) => {
            files.warn_of_inline(&inline);
            Some(Zeroizing::new(inline.value))
        }
        (None, Some(file)) => files.secret(&file),
        (None, None) => None,
    };
    let service_database =
        section.text("service_database").map_or_else(|| "postgres".to_owned(), |text| text.value);
    let pooler = section
        .text("pooler")
        .and_then(|text| choice(&section, "pooler", &text, &[("none", false), ("session", true)]));
    section.finish();
    Some(DatabaseSettings {
        address: address?,
        tls: mode,
        ca,
        service_user,
        service_password,
        service_password_file,
        service_database,
        session_pooler: pooler.unwrap_or(false),
    })
}

fn admin(mut section: Section<'_>) -> Option<SocketAddr> {
    let text = section.required("address", "Write: address = \"127.0.0.1:9432\".");
    let address = text.and_then(|text| socket_address(&section, "address", &text));
    section.finish();
    address
}

/// One of a closed set of words.
pub(super) fn choice<T: Copy>(
    section: &Section<'_>,
    key: &str,
    text: &Text,
    choices: &[(&str, T)],
) -> Option<T> {
    let found = choices.iter().find(|(word, _)| *word == text.value).map(|(_, value)| *value);
    if found.is_none() {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        section.document.mistake(
            &text.span,
            format!("{} cannot be \"{}\"", section.full(key), text.spelling),
            format!("One of: {}.", words.join(", ")),
        );
    }
    found
}

fn socket_address(section: &Section<'_>, key: &str, text: &Text) -> Option<SocketAddr> {
    let address = text.value.parse().ok();
    if address.is_none() {
        section.document.mistake(
            &text.span,
            format!("{} \"{}\" is not an IP address and a port", section.full(key), text.spelling),
            "Write it like 127.0.0.1:6432, or 0.0.0.0:6432 for every interface.",
        );
    }
    address
}

/// `host:port`, `host`, `[::1]:port`, or a socket's directory (`/run/postgresql`, `/run/postgresql:5433`).
fn database_address(section: &Section<'_>, text: &Text) -> Option<DatabaseAddress> {
    let value = text.value.as_str();
    let (host, port) = match value.rsplit_once(':') {
        Some((host, port)) if !value.ends_with(']') => {
            (host, port.parse::<u16>().ok().filter(|port| *port > 0))
        }
        _ => (value, Some(5432)),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match port {
        Some(port) if host.starts_with('/') => Some(DatabaseAddress::Unix(PathBuf::from(host), port)),
        Some(port) if !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/') => {
            Some(DatabaseAddress::Tcp(host.to_owned(), port))
        }
        _ => {
            section.document.mistake(
                &text.span,
                format!("database.address \"{}\" is not a host and a port", text.spelling),
                "Write it like db.example.com:5432, [::1]:5432, or /run/postgresql for a socket.",
            );
            None
        }
    }
}

/// Loopback and sockets, where nobody stands between.
fn is_near(address: &DatabaseAddress) -> bool {
    match address {
        DatabaseAddress::Unix(..) => true,
        DatabaseAddress::Tcp(host, _) => {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}
