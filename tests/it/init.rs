//! `init`, `check` and `users` as people run them, against a PostgreSQL of their own.

use crate::postgres::{self, Postgres};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

const POLICY: &str = "\
[domain.email]
label = \"pii.email\"
type = \"text\"
seal = \"deterministic\"

[domain.card]
label = \"payment.card\"
type = \"text\"
seal = \"randomized\"

[roles]
app = [\"shop\"]

[[rule]]
name = \"application\"
roles = [\"app\"]
labels = [\"*\"]
allow = [\"read\", \"compare\", \"write\"]
show = \"clear\"
";
const TAGS: &str =
    "[columns]\n\"public.customers.email\" = \"email\"\n\"public.customers.card\" = \"card\"\n";

/// A folder, and a database of a server of its own: roles are the whole server's.
struct Place {
    server: Postgres,
    url: String,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let server = Postgres::private();
        let url = server.database("init");
        let dir = tempfile::tempdir().unwrap();
        let place = Place { server, url, dir };
        place.write("policy.toml", POLICY).write("tags.toml", TAGS).write(
            "proxy.toml",
            &format!(
                "[database]\naddress = \"{}\"\nservice_password_file = \"service.password\"\nservice_database = \"{}\"\n",
                place.server.address(),
                postgres::database_name(&place.url)
            ),
        );
        place
    }
    fn write(&self, name: &str, text: &str) -> &Place {
        fs::write(self.dir.path().join(name), text).unwrap();
        self
    }
    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.dir.path().join(name)).unwrap().permissions().mode() & 0o777
    }
    fn must(&self, arguments: &[&str]) -> String {
        let (stdout, stderr, code) = run(self.dir.path(), arguments);
        assert_eq!(code, 0, "pgveil {arguments:?}\n{stdout}\n{stderr}");
        stdout
    }
    /// Standard error of a command that fails.
    fn fails(&self, arguments: &[&str]) -> String {
        let (stdout, stderr, code) = run(self.dir.path(), arguments);
        assert_eq!(code, 1, "pgveil {arguments:?}\n{stdout}\n{stderr}");
        stderr
    }
    fn init(&self) -> String {
        self.must(&["init", "--database", &self.url])
    }
    fn add(&self, user: &str) -> String {
        let file = self.dir.path().join("new.password");
        fs::write(&file, "horse staple\n").unwrap();
        self.must(&["users", "add", user, "--password-file", file.to_str().unwrap(), "--database", &self.url])
    }
}

fn run(dir: &Path, arguments: &[&str]) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_pgveil"))
        .args(arguments)
        .arg("--config")
        .arg(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

#[test]
fn init_makes_what_is_missing_and_nothing_twice() {
    let place = Place::new();
    let said = place.init();
    for what in [
        "keyring.json",
        "master.key",
        "audit",
        "service.password",
        "role pgveil",
        "pgveil.email_1",
        "pgveil.card",
    ] {
        assert!(said.contains(what), "{what}\n{said}");
    }
    for private in ["keyring.json", "master.key", "service.password", "users.toml"] {
        assert_eq!(place.mode(private), 0o600, "{private}");
    }
    let before = fs::read(place.dir.path().join("keyring.json")).unwrap();
    assert_eq!(place.init(), "nothing to do: everything is there\n");
    assert_eq!(place.must(&["init"]), "nothing to do: everything is there\n", "as the service user");
    assert_eq!(fs::read(place.dir.path().join("keyring.json")).unwrap(), before);

    // A domain more, later.
    place.write(
        "policy.toml",
        &format!("[domain.note]\nlabel = \"pii.note\"\ntype = \"text\"\nseal = \"randomized\"\n{POLICY}"),
    );
    place.write("tags.toml", &format!("{TAGS}\"public.customers.note\" = \"note\"\n"));
    assert!(place.fails(&["init"]).contains("hint: Name an administrator's connection"));
    assert_eq!(place.init(), "created type pgveil.note\n");
}

#[test]
fn an_empty_folder_gets_examples_that_hold() {
    let server = Postgres::private();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new");
    let (stdout, stderr, code) = run(&dir, &["init", "--database", &server.database("fresh")]);
    assert_eq!((stderr.as_str(), code), ("", 0), "{stdout}");
    let text = fs::read_to_string(dir.join("proxy.toml")).unwrap();
    assert!(
        text.contains(&format!("address = \"{}\"", server.address())) && text.contains("# 32 bytes in hex")
    );
    let (_, stderr, code) = run(&dir, &["check", "--offline"]);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn types_refuse_what_is_no_envelope_of_their_domain() {
    let place = Place::new();
    place.init();
    postgres::execute(&place.url, "create table customers (email pgveil.email_1, card pgveil.card)");
    let email = |header: &str, more: usize| {
        format!("insert into customers (email) values ('\\x{header}{}')", "00".repeat(more))
    };
    let card = |header: &str, more: usize| {
        format!("insert into customers (card) values ('\\x{header}{}')", "00".repeat(more))
    };
    // Domains get ids in the order of their names: card is 1, email 2.
    for good in
        [email("1100020001", 16), card("12000100ff", 28), "insert into customers values (null, null)".into()]
    {
        postgres::execute(&place.url, &good);
    }
    for bad in [
        "insert into customers (email) values ('a@example.com')".into(),
        email("1100020001", 15),
        email("1100020002", 16),
        email("1100010001", 16),
        email("1200020001", 28),
        card("1200010001", 27),
        card("1200020001", 28),
    ] {
        let error = postgres::try_query(&place.url, &bad).unwrap_err();
        assert!(error.starts_with("23514: "), "{bad}: {error}");
    }
}

#[test]
fn another_keyring_is_noticed() {
    let place = Place::new();
    place.init();
    fs::remove_file(place.dir.path().join("keyring.json")).unwrap();
    place.write(
        "policy.toml",
        &format!("[domain.aaa]\nlabel = \"pii.a\"\ntype = \"text\"\nseal = \"randomized\"\n{POLICY}"),
    );
    let error = place.fails(&["init", "--database", &place.url]);
    assert!(error.contains("type pgveil.card is there, but made for other keys"), "{error}");
    fs::remove_file(place.dir.path().join("master.key")).unwrap();
    assert!(place.fails(&["init", "--database", &place.url]).contains("but not its master key"));
}

#[test]
fn the_look_up_serves_the_service_user_alone() {
    let place = Place::new();
    let proxy = fs::read_to_string(place.dir.path().join("proxy.toml")).unwrap();
    place.write("proxy.toml", &format!("{proxy}[auth]\nsource = \"database\"\n"));
    place.init();
    place.add("shop");
    let password = fs::read_to_string(place.dir.path().join("service.password")).unwrap();
    let database = postgres::database_name(&place.url);
    let service = place.server.url_as("pgveil", password.trim(), database);
    let look_up =
        |name: &str| postgres::query(&service, &format!("select pgveil.verifier('{name}')"))[0][0].clone();
    assert!(look_up("shop").unwrap().starts_with("SCRAM-SHA-256$4096:"));
    assert_eq!(look_up("nobody"), None);
    let shop = place.server.url_as("shop", "horse staple", database);
    assert!(postgres::try_query(&shop, "select pgveil.verifier('shop')").unwrap_err().starts_with("42501"));
    assert_eq!(place.init(), "nothing to do: everything is there\n");
}

#[test]
fn users_are_added_imported_listed_and_removed() {
    let place = Place::new();
    place.init();
    assert!(place.add("shop").starts_with("created role shop"));
    let shop = place.server.url_as("shop", "horse staple", "postgres");
    postgres::execute(&shop, "select 1");
    let stored =
        &postgres::query(&place.url, "select rolpassword from pg_authid where rolname = 'shop'")[0][0];
    let file = fs::read_to_string(place.dir.path().join("users.toml")).unwrap();
    assert!(file.contains(stored.as_ref().unwrap()), "identical in both places");
    assert!(place.add("shop").starts_with("gave role a new password"));

    postgres::execute(&place.url, "create role \"Odd 'one'\" login password 'x'");
    assert!(place.must(&["users", "import", "--database", &place.url]).starts_with("imported 3 users"));
    let list = place.must(&["users", "list", "--json"]);
    assert_eq!(
        list.trim(),
        r#"[{"name":"Odd 'one'","roles":[]},{"name":"postgres","roles":[]},{"name":"shop","roles":["app"]}]"#
    );
    place.must(&["users", "remove", "Odd 'one'"]);
    assert!(place.fails(&["users", "remove", "Odd 'one'"]).contains("hint: pgveil users list"));
    assert!(!place.must(&["users", "list"]).contains("Odd"));
    assert!(place.fails(&["users", "add", "x"]).contains("--password-file"), "no terminal to ask at");
}

#[test]
fn check_holds_files_against_the_database() {
    let place = Place::new();
    assert!(place.fails(&["check"]).contains("proxy.toml:3: service.password cannot be read"));
    place.init();
    place.add("shop");
    postgres::execute(&place.url, "create table customers (id int, email pgveil.email_1, card pgveil.card)");
    assert!(place.must(&["check"]).ends_with("holds\n"));
    postgres::execute(&place.url, "create table orders (mail bytea); create table \"Users\" (email text)");
    place.write(
        "tags.toml",
        &format!(
            "{TAGS}\"public.orders.mail\" = \"email\"\n\"public.orders.mial\" = \"email\"\n\"public.users.email\" = \"email\"\n\
             \"public.later.email\" = \"email\"\n[database.nowhere.columns]\n\"a.b.c\" = \"card\"\n"
        ),
    );
    place.write("policy.toml", &POLICY.replace("[\"shop\"]", "[\"ship\"]"));
    let found = place.fails(&["check"]);
    for expected in [
        "error: ",
        "policy.toml:14: rule \"application\" can never take effect: nobody of its roles can log in",
        "tags.toml:4: column public.orders.mail of database ",
        "cannot be read: its type is bytea",
        "tags.toml:5: table public.orders has no column mial",
        "tags.toml:6: there is no table public.users, but there is public.Users",
        "tags.toml:7: there is no table public.later yet",
        "tags.toml:9: there is no database nowhere: the tag can never take effect",
        "tags.toml:1: column public.\"Users\".email of database ",
    ] {
        assert!(found.contains(expected), "{expected}\n{found}");
    }
    assert_eq!(found.matches("\nhint: ").count(), 7, "{found}");
    let (json, _, code) = run(place.dir.path(), &["check", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((list.as_array().unwrap().len(), code), (7, 1));
    assert_eq!(list[0]["severity"], "error");
}

#[test]
fn check_says_what_init_would_make() {
    let place = Place::new();
    place.init();
    place.add("shop");
    postgres::execute(&place.url, "drop domain pgveil.card");
    let found = place.fails(&["check"]);
    assert!(
        found.contains("has no sealed type for domain card\nhint: Run: pgveil init --database URL"),
        "{found}"
    );
    fs::set_permissions(place.dir.path().join("keyring.json"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(place.fails(&["check", "--offline"]).contains("group or world access"));
}

/// Log-ins to a database that cannot be read are refused; that is a mistake only where tags name one of its tables.
#[test]
fn check_warns_of_a_database_that_cannot_be_read_and_that_no_tag_names() {
    let place = Place::new();
    place.init();
    place.add("shop");
    postgres::execute(&place.url, "create table customers (email pgveil.email_1, card pgveil.card)");
    let other = place.server.database("other");
    let name = postgres::database_name(&other);
    postgres::execute(&other, &format!("revoke connect on database \"{name}\" from public"));
    let (stdout, stderr, code) = run(place.dir.path(), &["check"]);
    assert!(code == 0 && stdout.ends_with("holds\n"), "{stderr}");
    let told = format!("proxy.toml:1: database {name} cannot be read, so log-ins to it are refused: ");
    assert!(stderr.starts_with("warning: ") && stderr.contains(&told), "{stderr}");
    place.write(
        "tags.toml",
        &format!("{TAGS}[database.\"{name}\".columns]\n\"public.people.email\" = \"email\"\n"),
    );
    let stderr = place.fails(&["check"]);
    assert!(stderr.starts_with("error: ") && stderr.contains(&told), "{stderr}");
}

/// The database where proxies count may be another one than those that have tagged tables.
#[test]
fn a_database_with_the_ledger_alone_needs_no_types() {
    let place = Place::new();
    let ledger = postgres::database_name(&place.server.database("ledger")).to_owned();
    let settings = fs::read_to_string(place.dir.path().join("proxy.toml")).unwrap();
    let here = postgres::database_name(&place.url);
    place.write("proxy.toml", &settings.replace(&format!("\"{here}\""), &format!("\"{ledger}\"")));
    place.write("policy.toml", &POLICY.replace("show = \"clear\"", "show = \"clear\"\nrows_per_day = 1000"));
    place.init();
    place.add("shop");
    let schemas = "select count(*) from pg_namespace where nspname = 'pgveil'";
    let there = place.url.replace(&format!("/{here}"), &format!("/{ledger}"));
    assert_eq!(postgres::query(&there, schemas)[0][0].as_deref(), Some("1"), "the ledger is there");
    place.must(&["check"]);
}
