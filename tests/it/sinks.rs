//! Records go on: to HTTP and syslog over TLS, to a PostgreSQL table, to standard output; each once it is there, none lost while a
//! sink is down or the proxy restarts.

use crate::postgres;
use crate::proxy::{Proxy, eventually};
use crate::raw::Raw;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

const POLICY: &str = r#"
default = "refuse"
[domain.email]
label = "pii.email"
type = "text"
seal = "deterministic"
[roles]
app = ["shop"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
"#;

/// A server of another program; killed when it goes.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(kind: &str, port: u16, out: &Path, certificate: &(PathBuf, PathBuf)) -> Server {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/sink_server.py");
    let mut command = Command::new(crate::python::interpreter());
    command.arg(script).args([kind, &port.to_string()]).arg(out).arg(&certificate.0).arg(&certificate.1);
    Server(command.spawn().unwrap())
}

/// A certificate for localhost that vouches for itself, and its key.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let paths = (folder.join("sink.crt"), folder.join("sink.key"));
    fs::write(&paths.0, certificate.pem()).unwrap();
    fs::write(&paths.1, key.serialize_pem()).unwrap();
    paths
}

/// Numbers of the records in a file that a sink filled, in its order.
fn numbers(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let object = |line: &str| {
        let json = &line[line.find('{').unwrap()..];
        serde_json::from_str::<Value>(json).unwrap()
    };
    text.lines().map(|line| object(line)["metadata"]["sequence"].as_u64().unwrap()).collect()
}

/// Numbers of all records in the log.
fn logged(proxy: &Proxy) -> Vec<u64> {
    let text = fs::read_to_string(proxy.dir().join("audit/log.jsonl")).unwrap();
    text.lines().zip(0..).filter(|(line, _)| line.starts_with("{\"sequence\"")).map(|(_, n)| n).collect()
}

fn restart(proxy: &mut Proxy) {
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    proxy.serve();
}

fn query(proxy: &Proxy, times: usize) {
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for _ in 0..times {
        assert_eq!(shop.query("select email from customers").errors, [""; 0]);
    }
}

#[test]
fn every_record_reaches_every_sink() {
    let mut proxy = Proxy::start(POLICY, "[columns]\n\"public.customers.email\" = \"email\"\n");
    let certificate = certificate(proxy.dir());
    let (http, syslog) = (postgres::free_port(), postgres::free_port());
    let elsewhere = proxy.postgres.database("siem");
    let sinks = format!(
        "[[audit.sink]]\nname = \"siem\"\nkind = \"http\"\nurl = \"https://localhost:{http}/in?x=1\"\n\
         headers = [\"Authorization: Bearer ${{SINK_TOKEN}}\"]\nca = \"sink.crt\"\n\
         [[audit.sink]]\nname = \"loghost\"\nkind = \"syslog\"\naddress = \"tls://localhost:{syslog}\"\nca = \"sink.crt\"\n\
         [[audit.sink]]\nname = \"table\"\nkind = \"postgres\"\nform = \"record\"\nurl = \"{elsewhere}\"\n\
         [[audit.sink]]\nname = \"out\"\nkind = \"stdout\"\n"
    );
    let file = proxy.dir().join("proxy.toml");
    let before = fs::read_to_string(&file).unwrap();
    fs::write(&file, before.replace("[admin]", &format!("{sinks}[admin]"))).unwrap();
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in ["create table customers (id int, email text)", "insert into customers values (1, 'a@x.org')"]
    {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    drop(shop);
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    proxy.serve_with(|mut serve| {
        serve.env("SINK_TOKEN", "sesame");
        serve
    });

    // HTTP and syslog are down yet: the others have all, and the metric says what those lack.
    query(&proxy, 20);
    let behind = |proxy: &Proxy| {
        let (_, text) = proxy.get("/metrics").unwrap();
        let line =
            text.lines().find(|line| line.starts_with("pgveil_audit_behind_records ")).unwrap().to_owned();
        line.split(' ').nth(1).unwrap().parse::<f64>().unwrap()
    };
    eventually("the sinks' lag to show", || behind(&proxy) > 20.0);
    let rows = || postgres::query(&elsewhere, "select line from pgveil.audit_record order by line");
    let in_table =
        || -> Vec<u64> { rows().iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect() };
    eventually("the table to have all", || in_table() == logged(&proxy));

    let (to_http, to_syslog) = (proxy.dir().join("http.out"), proxy.dir().join("syslog.out"));
    let _http = serve("http", http, &to_http, &certificate);
    let running = serve("syslog", syslog, &to_syslog, &certificate);
    eventually("HTTP to have all", || numbers(&to_http) == logged(&proxy));
    eventually("syslog to have all", || numbers(&to_syslog) == logged(&proxy));
    eventually("nothing to be behind", || behind(&proxy) == 0.0);

    // One goes away and comes back; the proxy restarts meanwhile.
    drop(running);
    query(&proxy, 5);
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    proxy.serve_with(|mut serve| {
        serve.env("SINK_TOKEN", "sesame");
        serve
    });
    query(&proxy, 5);
    let _syslog = serve("syslog", syslog, &to_syslog, &certificate);
    let all = |path: &Path| {
        let mut seen = numbers(path);
        seen.dedup();
        seen.sort_unstable();
        seen.dedup();
        seen == logged(&proxy)
    };
    eventually("syslog to have all again", || all(&to_syslog));
    eventually("HTTP to have all again", || all(&to_http));
    eventually("the table to have all again", || in_table() == logged(&proxy));
    let printed = proxy.log().lines().filter(|line| line.contains("\"class_uid\"")).count();
    assert!(printed >= logged(&proxy).len(), "{printed}");
    for text in [fs::read_to_string(&to_http).unwrap(), fs::read_to_string(&to_syslog).unwrap(), proxy.log()]
    {
        assert!(!text.contains("a@x.org") && !text.contains("sesame"));
    }
    a_lost_place_is_told(&mut proxy);
}

/// A real rsyslogd, as an ordinary program that writes what it understands into a file.
fn rsyslogd(folder: &Path, port: u16, out: &Path, certificate: &(PathBuf, PathBuf)) -> Server {
    let root = crate::foreign::needed("need_rsyslog", "PGVEIL_RSYSLOG");
    // Where Debian and others have libraries.
    let libraries: Vec<String> = ["x86_64-linux-gnu", "aarch64-linux-gnu", "."]
        .iter()
        .flat_map(|place| [format!("{root}/usr/lib/{place}"), format!("{root}/usr/lib64/{place}")])
        .filter(|place| Path::new(place).join("rsyslog/lmnsd_gtls.so").is_file())
        .collect();
    let own = libraries.first().expect("need_rsyslog looked");
    let configuration = folder.join("rsyslog.conf");
    let (certificate, key) = (certificate.0.display(), certificate.1.display());
    let text = format!(
        "global(workDirectory=\"{}\" maxMessageSize=\"64k\" defaultNetstreamDriver=\"gtls\" \
         defaultNetstreamDriverCAFile=\"{certificate}\" defaultNetstreamDriverCertFile=\"{certificate}\" \
         defaultNetstreamDriverKeyFile=\"{key}\")\n\
         module(load=\"imtcp\" StreamDriver.Name=\"gtls\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\")\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
         template(name=\"whole\" type=\"string\" string=\"%protocol-version%|%app-name%|%syslogfacility-text%|%msg%\\n\")\n\
         action(type=\"omfile\" file=\"{}\" template=\"whole\")\n",
        folder.display(),
        out.display()
    );
    fs::write(&configuration, text).unwrap();
    let mut command = Command::new(format!("{root}/usr/sbin/rsyslogd"));
    command.arg("-n").arg("-f").arg(configuration).arg("-i").arg(folder.join("rsyslogd.pid"));
    command.arg("-M").arg(format!("{own}/rsyslog")).env("LD_LIBRARY_PATH", own);
    let log = fs::File::create(folder.join("rsyslogd.log")).unwrap();
    Server(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
}

#[test]
fn rsyslog_takes_every_record() {
    let mut proxy = Proxy::start(POLICY, "[columns]\n\"public.customers.email\" = \"email\"\n");
    let certificate = certificate(proxy.dir());
    let port = postgres::free_port();
    let sink = format!(
        "[[audit.sink]]\nname = \"loghost\"\nkind = \"syslog\"\naddress = \"tls://localhost:{port}\"\nca = \"sink.crt\"\n"
    );
    let file = proxy.dir().join("proxy.toml");
    let before = fs::read_to_string(&file).unwrap();
    fs::write(&file, before.replace("[admin]", &format!("{sink}[admin]"))).unwrap();
    let mut shop = Raw::log_in(&proxy.url("shop"));
    assert_eq!(shop.query("create table customers (id int, email text)").errors, [""; 0]);
    restart(&mut proxy);
    query(&proxy, 5);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("received");
    let running = rsyslogd(folder.path(), port, &out, &certificate);
    let said = || fs::read_to_string(folder.path().join("rsyslogd.log")).unwrap_or_default();
    let all = || {
        let mut seen = numbers(&out);
        seen.dedup();
        seen == logged(&proxy)
    };
    eventually(&format!("rsyslog to have all: {}", said()), all);
    query(&proxy, 3);
    eventually("rsyslog to have the rest", all);
    let received = fs::read_to_string(&out).unwrap();
    let understood = |line: &str| line.starts_with("1|pgveil|") && line.contains("|{");
    assert!(received.lines().all(understood), "{received}");
    drop(running);
}

/// A place that cannot be read is said, and all is sent again.
fn a_lost_place_is_told(proxy: &mut Proxy) {
    let place = proxy.dir().join("audit/sink-table.place");
    fs::write(&place, "nonsense").unwrap();
    let file = proxy.dir().join("proxy.toml");
    let text = fs::read_to_string(&file).unwrap().replace("Bearer ${SINK_TOKEN}", "Bearer none");
    fs::write(&file, text).unwrap();
    restart(proxy);
    eventually("the lost place to be told", || proxy.log().contains("it gets all of it"));
}
