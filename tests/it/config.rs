//! The folder of files: the examples hold, and each mistake is found with its file and line, all in one run.

use pgveil::catalog::{Action, Seal};
use pgveil::config::{self, Config, Mistake, Weight};
use pgveil::policy::Form;
use pgveil::server::settings::{AuthSource, DatabaseAddress, DatabaseTls, TlsMode};
use pgveil::value::DataType;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A folder with a small configuration that holds; tests break it.
pub struct Folder(tempfile::TempDir);

const PROXY: &str = "[database]\nservice_user = \"pgveil\"\n";
const TAGS: &str = "[columns]\n\"public.customers.email\" = \"email\"\n";
const POLICY: &str = "\
[domain.email]
label = \"pii.email\"
type = \"text\"
seal = \"deterministic\"

[roles]
app = [\"shop\"]

[[rule]]
name = \"application\"
roles = [\"app\"]
labels = [\"*\"]
allow = [\"read\", \"compare\", \"write\"]
show = \"clear\"
";

/// The key of RFC 8037, Appendix A.2.
const JWKS: &str = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";

impl Folder {
    pub fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("proxy.toml", PROXY).write("tags.toml", TAGS).write("policy.toml", POLICY);
        folder
    }
    pub fn path(&self) -> &Path {
        self.0.path()
    }
    pub fn write(&self, name: &str, text: &str) -> &Folder {
        fs::write(self.path().join(name), text).unwrap();
        self
    }
    fn load(&self) -> Config {
        config::load(self.path()).unwrap_or_else(|mistakes| panic!("{:#?}", lines(&mistakes)))
    }
    /// `file:line: message` of each mistake.
    fn mistakes(&self) -> Vec<String> {
        config::load(self.path()).err().map(|mistakes| lines(&mistakes)).unwrap_or_default()
    }
}

fn lines(mistakes: &[Mistake]) -> Vec<String> {
    mistakes
        .iter()
        .map(|mistake| {
            assert!(mistake.hint.len() > 10, "no remedy: {mistake}");
            let file = mistake.file.file_name().unwrap().to_string_lossy();
            format!("{file}:{}: {}", mistake.line, mistake.message)
        })
        .collect()
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

#[test]
fn the_examples_hold() {
    let config = config::load_unprepared(&examples()).unwrap_or_else(|m| panic!("{:#?}", lines(&m)));
    assert_eq!(config.remarks, [], "{:#?}", lines(&config.remarks));
    assert_eq!(config.policy.rules.len(), 5);
    assert_eq!(config.tags.tags.len(), 5);
    assert_eq!(config.users.len(), 0);
}

/// Every option that an example shows as a comment (`#key = value`) is one that is read.
#[test]
fn the_options_that_examples_show_are_known() {
    let folder = Folder::new();
    let mut shown = 0;
    for name in ["proxy.toml", "tags.toml", "policy.toml"] {
        let text = fs::read_to_string(examples().join(name)).unwrap();
        let option = |line: &str| {
            line.strip_prefix('#')
                .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
                .map(str::to_owned)
        };
        shown += text.lines().filter_map(option).count();
        let all: Vec<String> =
            text.lines().map(|line| option(line).unwrap_or_else(|| line.to_owned())).collect();
        folder.write(name, &all.join("\n"));
    }
    assert!(shown > 15, "{shown}");
    for name in
        ["server.crt", "server.key", "clients.crt", "clients.crl", "ca.crt", "service.password", "master.key"]
    {
        folder.write(name, "");
    }
    folder.write("jwks.json", JWKS);
    let unexpected: Vec<String> = folder
        .mistakes()
        .into_iter()
        .filter(|line| {
            // Alternatives, which the examples show beside each other.
            !line.contains("are set")
                && !line.contains("has no effect without provider")
                && !line.contains("is not set")
                && !line.contains("others than")
        })
        .collect();
    assert_eq!(unexpected, [""; 0]);
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = Folder::new().load();
    let (listen, database) = (&config.settings.listen, &config.settings.database);
    assert_eq!(listen.address.unwrap().to_string(), "127.0.0.1:6432");
    assert_eq!(
        (listen.tls, listen.connections_max, listen.message_bytes_max),
        (TlsMode::Off, 1000, 0x3fff_ffff)
    );
    assert_eq!(database.address, DatabaseAddress::Tcp("127.0.0.1".into(), 5432));
    assert_eq!((database.tls, config.settings.auth), (DatabaseTls::Prefer, AuthSource::File));
    assert_eq!(config.settings.audit.folder, config.dir.join("audit"));
    assert!(
        config.settings.admin.is_none() && !config.policy.default_null && config.policy.otp_minutes == 15
    );
    assert_eq!(config.tags.tags[0].data_type, DataType::Text);
    assert_eq!(config.tags.tags[0].domain.seal, Seal::Deterministic);
    assert_eq!(config.policy.rules[0].allow, [Action::Read, Action::Compare, Action::Write]);
    assert_eq!(config.policy.rules[0].show, Form::Clear);
    assert_eq!((config.places.tags[0].line, config.places.rules[0].line), (2, 9));
}

#[test]
fn every_mistake_of_all_files_comes_in_one_run() {
    let folder = Folder::new();
    folder
        .write(
            "proxy.toml",
            "[listen]\nadress = \"x\"\nconnections_max = 0\n[databse]\n[database]\naddress = 5\n",
        )
        .write("tags.toml", "[columns]\n\"customers.email\" = \"email\"\n\"public.c.x\" = \"emial\"\n")
        .write("users.toml", "[users]\nshop = \"md5abc\"\n");
    assert_eq!(
        folder.mistakes(),
        [
            "policy.toml:1: no column is tagged with domain \"email\"",
            "proxy.toml:2: unknown key listen.adress",
            "proxy.toml:3: listen.connections_max must be from 1 to 1000000",
            "proxy.toml:4: unknown key databse",
            "proxy.toml:6: database.address must be a string, not a whole number",
            "tags.toml:2: \"customers.email\" is not schema.table.column",
            "tags.toml:3: there is no domain \"emial\"",
            "users.toml:2: users.shop is not a SCRAM-SHA-256 verifier",
        ]
    );
}

/// One mistake each: (file, its whole text, the line that is reported).
#[test]
fn mistakes_of_proxy_and_tags() {
    for (file, text, expected) in [
        (
            "proxy.toml",
            "[listen]\naddress = \"localhost\"",
            "2: listen.address \"localhost\" is not an IP address and a port",
        ),
        (
            "proxy.toml",
            "[listen]\ntls = { mode = \"prefer\" }",
            "2: listen.tls needs a certificate and a key",
        ),
        ("proxy.toml", "[listen\n", "1: unclosed table, expected `]`"),
        (
            "proxy.toml",
            "[database]\naddress = \"db.example.com\"",
            "1: database.tls needs a ca to verify the server with",
        ),
        ("proxy.toml", "[database]\ntls = { mode = \"on\" }", "2: database.tls.mode cannot be \"on\""),
        (
            "proxy.toml",
            "[database]\naddress = \"a b:5432\"",
            "2: database.address \"a b:5432\" is not a host and a port",
        ),
        (
            "proxy.toml",
            "[auth]\nsource = \"${PGVEIL_TEST_UNSET}\"",
            "2: environment variable PGVEIL_TEST_UNSET is not set",
        ),
        ("proxy.toml", "[keys]\nprovider = \"drawer\"", "2: keys.provider cannot be \"drawer\""),
        (
            "proxy.toml",
            "[keys]\nmaster_key = \"a\"\nmaster_key_file = \"b\"",
            "3: both master_key and master_key_file are set",
        ),
        ("proxy.toml", "[admin]\n", "1: admin.address is missing"),
        (
            "tags.toml",
            "[columns]\n\"a.b.c\" = 1",
            "2: columns.a.b.c must be a domain's name, not a whole number",
        ),
        (
            "tags.toml",
            "[columns]\n\"a.b.c\" = { domain = \"email\", type = \"integer\" }",
            "2: integer is not a narrower type of domain email's text",
        ),
        (
            "tags.toml",
            "[columns]\n\"a.b.c\" = { domain = \"email\", type = \"texty\" }",
            "2: \"texty\" is not a type that a tagged column can have",
        ),
        (
            "tags.toml",
            "[columns]\n\"a.b.c\" = \"email\"\n\"a.B.c\" = \"email\"",
            "3: column \"a.B.c\" is tagged twice (line 2)",
        ),
        (
            "tags.toml",
            "[columns]\n\"a.b.c\" = \"email\"\n[database.x.columns]\n\"a.b.c\" = \"email\"",
            "4: column \"a.b.c\" is tagged twice (line 2)",
        ),
        (
            "tags.toml",
            "[columns]\n\"a.b.c\" = \"email\"\n[table.\"a.d\"]\nrecord_key = \"id\"",
            "4: table a.d has no tagged column: its record_key can never take effect",
        ),
        (
            "tags.toml",
            "[columns]\n\"a.b.c\" = \"email\"\n[table.\"a.b.c\"]\nrecord_key = \"id\"",
            "3: \"a.b.c\" is not schema.table",
        ),
        (
            "tags.toml",
            "[columns]\n\"a.b.c\" = \"email\"\n[table.\"a.b\"]\nrecord_key = \"b.id\"",
            "4: \"b.id\" is not a column's name",
        ),
        (
            "tags.toml",
            "[columns]\n\"a.b.c\" = \"email\"\n[table.\"a.b\"]\nrecord = \"id\"",
            "4: unknown key table.a.b.record",
        ),
        (
            "tags.toml",
            "[columns]\n\"a.b.c\" = \"email\"\n[table.\"a.b\"]\nrecord_key = \"id\"\n[table.\"A.b\"]\nrecord_key = \"x\"",
            "6: table \"A.b\" has a record_key already (line 4)",
        ),
    ] {
        let folder = Folder::new();
        folder.write(file, text);
        let expected = format!("{file}:{expected}");
        let found = folder.mistakes();
        assert!(found.contains(&expected), "{text}\n{found:#?}\n{expected}");
    }
}

/// One mistake each: (what of the small policy is replaced, by what, the line that is reported).
#[test]
fn mistakes_of_policy() {
    let rule = "\n[[rule]]\nname = \"second\"\nroles = [\"app\"]\nlabels = [\"*\"]\nallow = [\"read\"]\nshow = \"clear\"\n";
    for (from, to, expected) in [
        ("[domain.email]", "default = \"nothing\"\n[domain.email]", "1: default cannot be \"nothing\""),
        ("[domain.email]", "[domain.E-mail]", "1: \"E-mail\" cannot name a domain"),
        ("[domain.email]", "[domain.email_1]", "1: \"email_1\" cannot name a domain"),
        ("label = \"pii.email\"\n", "", "1: domain.email.label is missing"),
        ("\"text\"", "\"money\"", "3: \"money\" is not a type that a tagged column can have"),
        ("\"deterministic\"", "\"secret\"", "4: domain.email.seal cannot be \"secret\""),
        ("seal =", "sael = 1\nseal =", "4: unknown key domain.email.sael"),
        ("[\"app\"]", "[\"apps\"]", "11: role \"apps\" is not in [roles]"),
        ("[\"shop\"]", "[]", "9: rule \"application\" can never take effect: its roles have no members"),
        ("[\"*\"]", "[\"pii.mail\"]", "12: no domain has a label like \"pii.mail\""),
        ("[\"*\"]", "[\"pii*\"]", "12: \"pii*\" is neither a label nor a pattern"),
        ("[\"*\"]", "[]", "9: a rule without labels can never take effect"),
        ("\"write\"]", "\"delete\"]", "13: rule.allow cannot be \"delete\""),
        (
            "\"clear\"",
            "\"mask:email\"",
            "14: write with show = \"mask:email\": a masked value would be written back",
        ),
        ("\"clear\"", "\"mask:nose\"", "14: rule.show cannot be \"mask:nose\""),
        ("show = \"clear\"\n", "", "9: a rule that allows read needs show"),
        ("show =", "from = [\"10.0.0.0/33\"]\nshow =", "14: \"10.0.0.0/33\" is not a network"),
        ("show =", "purposes = []\nshow =", "9: rule.purposes is empty"),
        ("show =", "hours = \"mon 8-18 UTC\"\nshow =", "14: hours: \"8\" is not a time of day"),
        (
            "show =",
            "rows_per_hour = 0\nshow =",
            "14: rule.rows_per_hour must be from 1 to 18446744073709551615",
        ),
        (
            "show = \"clear\"\n",
            &format!("show = \"clear\"\n{rule}"),
            "16: rule \"second\" can never take effect: rule \"application\" always decides before it",
        ),
    ] {
        assert!(POLICY.contains(from), "{from}");
        let folder = Folder::new();
        folder.write("policy.toml", &POLICY.replacen(from, to, 1));
        let expected = format!("policy.toml:{expected}");
        let found = folder.mistakes();
        assert!(found.contains(&expected), "{to}\n{found:#?}\n{expected}");
    }
}

/// Log-in without a password: what of a proxy.toml that holds is replaced, by what, and the line that is reported.
#[test]
fn mistakes_of_log_in_without_a_password() {
    let good = "[database]\n[listen.tls]\nmode = \"require\"\ncertificate = \"s.crt\"\nkey = \"s.key\"\nclient_ca = \"ca.crt\"\n\
        [[auth.method]]\nby = \"certificate\"\nusers = [\"batch\"]\n\
        [[auth.method]]\nby = \"token\"\nroles = [\"app\"]\nupstream = \"desk\"\n\
        [auth.token]\nissuer = \"https://id\"\naudience = [\"pgveil\"]\nkeys_file = \"jwks.json\"\n";
    let folder = Folder::new();
    for (name, text) in [("s.crt", ""), ("s.key", ""), ("ca.crt", ""), ("jwks.json", JWKS), ("no.json", "{}")]
    {
        folder.write(name, text);
    }
    folder.write("proxy.toml", good);
    let config = folder.load();
    let said: Vec<String> = config
        .settings
        .log_ins
        .iter()
        .map(|(user, log_in)| format!("{user} {} {}", log_in.method.name(), log_in.upstream))
        .collect();
    assert_eq!(said, ["batch certificate batch", "shop token desk"]);
    assert_eq!(config.remarks, [], "{:#?}", lines(&config.remarks));
    for (from, to, expected) in [
        ("client_ca = \"ca.crt\"\n", "", "6: users log in by certificate, but listen.tls has no client_ca"),
        (
            "\"require\"",
            "\"prefer\"",
            "10: users log in by token, which anyone could read on its way without TLS",
        ),
        ("\"certificate\"\n", "\"smile\"\n", "8: auth.method.by cannot be \"smile\""),
        ("by = \"certificate\"\n", "", "7: auth.method.by is missing"),
        ("users = [\"batch\"]\n", "", "7: an auth.method means nobody"),
        ("[\"app\"]", "[\"apps\"]", "12: role \"apps\" is not in [roles] of policy.toml"),
        (
            "[\"batch\"]",
            "[\"shop\"]",
            "12: user \"shop\" has two ways to log in: by certificate as shop and by token as desk",
        ),
        ("\"desk\"", "\"pgveil\"", "10: user \"shop\" would become pgveil, the service user"),
        ("[\"batch\"]", "[\"pgveil\"]", "7: user \"pgveil\" would become pgveil, the service user"),
        ("users =", "pass = 1\nusers =", "9: unknown key auth.method.pass"),
        ("issuer = \"https://id\"\n", "", "14: auth.token.issuer is missing"),
        ("[\"pgveil\"]", "[]", "14: auth.token.audience names nobody"),
        ("issuer", "algorithms = [\"HS256\"]\nissuer", "15: auth.token.algorithms cannot have \"HS256\""),
        ("issuer", "algorithms = [\"none\"]\nissuer", "15: auth.token.algorithms cannot have \"none\""),
        ("issuer", "algorithms = []\nissuer", "14: auth.token.algorithms allows none"),
        ("issuer", "leeway_seconds = 601\nissuer", "15: auth.token.leeway_seconds must be from 0 to 600"),
        ("\"jwks.json\"", "\"gone.json\"", "17: auth.token.keys_file: gone.json cannot be read"),
        ("\"jwks.json\"", "\"no.json\"", "14: "),
        ("keys_file = \"jwks.json\"\n", "", "14: auth.token has neither keys_url nor keys_file"),
        ("keys_file", "keys_url = \"https://id/keys\"\nkeys_file", "14: both auth.token.keys_url and"),
        (
            "keys_file = \"jwks.json\"",
            "keys_url = \"http://id/keys\"",
            "17: auth.token.keys_url is not of HTTPS",
        ),
        (
            "keys_file = \"jwks.json\"",
            "keys_url = \"https://id/keys\"",
            "14: the token provider is reached over TLS",
        ),
        ("[auth.token]", "[auth.tokens]", "10: users log in by token, but no provider is named"),
        (
            "[auth.token]",
            "[auth.token]\nsuffix = \"@x\"\nmap = { a = \"b\" }",
            "15: both auth.token.suffix and",
        ),
        ("[auth.token]", "[auth.token]\nmap = { a = 1 }", "15: auth.token.map.a must be a user"),
        (
            "[auth.token]",
            "[auth.certificate]\nmap = { x = [1] }\n[auth.token]",
            "15: auth.certificate.map.x must be a user",
        ),
        (
            "[auth.token]",
            "[auth.certificate]\nmap = { x = [] }\n[auth.token]",
            "15: auth.certificate.map has an entry that",
        ),
        (
            "[auth.token]",
            "[auth.certificate]\nmap = { \"\" = \"batch\" }\n[auth.token]",
            "15: auth.certificate.map has an entry",
        ),
        (
            "[auth.token]",
            "[auth.certificate]\nsuffix = \"@x\"\nmap = { x = \"batch\" }\n[auth.token]",
            "15: both auth.certificate.suffix and auth.certificate.map are set",
        ),
        (
            "[auth.token]",
            "[auth.certificate]\nregexp = \"x\"\n[auth.token]",
            "15: unknown key auth.certificate.regexp",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        folder.write("proxy.toml", &good.replacen(from, to, 1));
        let expected = format!("proxy.toml:{expected}");
        let found = folder.mistakes();
        assert!(found.iter().any(|line| line.starts_with(&expected)), "{to}\n{found:#?}\n{expected}");
    }
    // What could never take effect.
    let token = good.find("[[auth.method]]\nby = \"token\"").unwrap()..good.find("[auth.token]").unwrap();
    let idle = format!("{}{}", &good[..token.start], &good[token.end..]);
    folder.write("proxy.toml", &idle.replace("client_ca", "client_certificate = \"optional\"\nclient_ca"));
    assert_eq!(
        lines(&folder.load().remarks),
        ["proxy.toml:11: auth.token has no effect: nobody logs in by a token"]
    );
    let map = "[auth.certificate]\nmap = { \"Ann Lee\" = [\"batch\", \"shop\"] }\n";
    folder.write("proxy.toml", &format!("{good}{map}"));
    assert_eq!(
        lines(&folder.load().remarks),
        ["proxy.toml:19: auth.certificate.map names \"shop\", who does not log in by certificate"]
    );
    folder.write("proxy.toml", &format!("{good}{}", map.replace("\"batch\", ", "")));
    assert_eq!(
        lines(&folder.load().remarks)[0],
        "proxy.toml:7: user \"batch\" can never log in: no certificate's name in auth.certificate.map is batch's"
    );
    let certificate = good.find("[[auth.method]]").unwrap()..token.start;
    let nobody = format!("{}{}{map}", &good[..certificate.start], &good[certificate.end..]);
    folder.write("proxy.toml", &nobody);
    assert!(
        lines(&folder.load().remarks)[0]
            .contains("auth.certificate has no effect: nobody logs in by a certificate")
    );
}

#[test]
fn types_that_do_not_fit_are_named() {
    let folder = Folder::new();
    folder.write("policy.toml", &POLICY.replace("\"text\"", "\"double precision\""));
    assert!(
        folder.mistakes()[0]
            .starts_with("policy.toml:4: double precision cannot be sealed deterministically: ")
    );
    let dates =
        POLICY.replace("\"text\"", "\"date\"").replace("\"clear\"", "\"mask:email\"\nwrite_blind = true");
    folder.write("policy.toml", &dates);
    assert_eq!(
        folder.mistakes(),
        ["policy.toml:14: mask:email cannot show domain email, whose type is date"]
    );
}

#[test]
fn a_narrower_rule_after_a_wider_one_is_fine_when_it_reveals_more() {
    let folder = Folder::new();
    let masked = POLICY.replace("\"clear\"", "\"mask:partial\"\nwrite_blind = true");
    let clear = "\n[[rule]]\nname = \"audit\"\nroles = [\"app\"]\nlabels = [\"pii.email\"]\nallow = [\"read\"]\nshow = \"clear\"\n\
                 purposes = [\"audit\"]\n";
    folder.write("policy.toml", &format!("{masked}{clear}"));
    assert_eq!(folder.load().policy.rules.len(), 2);
}

#[test]
fn values_come_from_the_environment_and_are_not_quoted() {
    let folder = Folder::new();
    // A variable that every test process has: setting one would race with other tests.
    folder.write(
        "proxy.toml",
        "[database]\nservice_user = \"pgveil\"\naddress = \"${CARGO_MANIFEST_DIR}/x y:z\"\n",
    );
    let found = folder.mistakes();
    assert_eq!(
        found,
        ["proxy.toml:3: database.address \"${CARGO_MANIFEST_DIR}/x y:z\" is not a host and a port"]
    );
}

#[test]
fn secrets_of_others_are_remarked() {
    let folder = Folder::new();
    folder.write("proxy.toml", "[database]\nservice_password_file = \"service.password\"\n");
    assert!(folder.mistakes()[0].starts_with("proxy.toml:2: service.password cannot be read"));
    assert!(config::load_unprepared(folder.path()).is_ok());
    folder.write("service.password", "open sesame\n");
    let file = folder.path().join("service.password");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let config = folder.load();
    assert_eq!(config.settings.database.service_password.as_ref().unwrap().as_str(), "open sesame");
    assert_eq!(config.remarks[0].weight, Weight::Advice);
    assert!(
        config.remarks[0].message.ends_with("(mode 0644)") && !config.remarks[0].message.contains("sesame")
    );
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(folder.load().remarks, []);
}

#[test]
fn a_change_is_another_digest() {
    let folder = Folder::new();
    let before = folder.load().digest;
    assert_eq!(before.len(), 64);
    assert_eq!(folder.load().digest, before);
    folder.write("tags.toml", &format!("# why\n{TAGS}"));
    assert_ne!(folder.load().digest, before);
}

#[test]
fn users_are_written_and_read_back() {
    let folder = Folder::new();
    let verifier = "SCRAM-SHA-256$4096:c2FsdA==$AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=:\
                    AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    folder.write(
        "users.toml",
        &format!(
            "[users]\n\"o'neil \\\"x\\\"\" = \"{verifier}\"\nshop = \"{verifier}\"\n[otp]\nshop = \"00ff\"\n"
        ),
    );
    let users = config::users::read_file(folder.path()).unwrap();
    assert!(
        config::users::change(folder.path(), |known| known.verifiers.len()).is_ok_and(|count| count == 2)
    );
    let text = fs::read_to_string(folder.path().join("users.toml")).unwrap();
    assert!(
        text.contains(&format!("shop = \"{verifier}\""))
            || text.contains(&format!("\"shop\" = \"{verifier}\""))
    );
    let mode = fs::metadata(folder.path().join("users.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(config::users::read_file(folder.path()).unwrap() == users && users.verifiers.len() == 2);
    assert_eq!(users.factors.get("shop").map(String::as_str), Some("00ff"));
}
