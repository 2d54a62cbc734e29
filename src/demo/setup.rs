//! What the tour walks through: a server, the proxy in front of it, three users, and customers loaded through the proxy.

use super::people::{self, Person};
use super::postgres::PrivatePostgres;
use super::proxy::{self, Proxy};
use super::{CUSTOMERS, Demo, SEED, said};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Who logs in, and what they are.
pub(super) const USERS: [(&str, &str); 3] =
    [("shop", "the application"), ("alice", "the support desk"), ("ivan", "an intern")];

/// Rows of one INSERT.
const BATCH: usize = 100;

/// A demo's passwords are no secret: its server lives for minutes on the loopback.
pub(super) fn password(user: &str) -> String {
    format!("demo-{user}")
}

const SCHEMA: &str = "
    CREATE TABLE customers (
        id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE, phone text, address text, born date,
        password_hash text, api_token text UNIQUE, preferences jsonb, note text);
    CREATE TABLE payments (
        id bigint PRIMARY KEY, customer_id bigint NOT NULL REFERENCES customers, card_number text, iban text,
        amount numeric(12,2) NOT NULL);
    CREATE TABLE visits (customer_id bigint NOT NULL REFERENCES customers, page text, seen timestamptz NOT NULL);
    GRANT SELECT ON customers, payments, visits TO alice, ivan";

fn progress(quiet: bool, text: &str) {
    if !quiet {
        println!("{text}");
    }
}

pub(super) async fn start(quiet: bool) -> Result<Demo, String> {
    let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
    let folder = tempfile::Builder::new().prefix("pgveil-demo-").tempdir();
    let folder = folder.map_err(|error| failed("cannot make a temporary folder", error))?;
    progress(quiet, "starting a private PostgreSQL");
    let mut postgres = PrivatePostgres::start(folder.path(), "demo-postgres")?;
    let admin = postgres.ready().await?;
    let prepare = "CREATE DATABASE shop";
    admin.batch_execute(prepare).await.map_err(|error| said(&error))?;
    let config = folder.path().join("config");
    write_config(&config, postgres.port).map_err(|error| failed("cannot write the configuration", error))?;
    progress(quiet, "pgveil init, and three users");
    let url = postgres.url("shop");
    prepare_proxy(&config, folder.path(), &url)?;
    let shop = super::connect(&url).await.map_err(|error| said(&error))?;
    let grant = "GRANT CREATE, USAGE ON SCHEMA public TO shop";
    shop.batch_execute(grant).await.map_err(|error| said(&error))?;
    let proxy = Proxy::start(&config, &folder.path().join("pgveil.log"))?;
    let demo = Demo { proxy, postgres, folder, people: people::people(CUSTOMERS, SEED) };
    progress(quiet, &format!("loading {CUSTOMERS} customers through pgveil"));
    load(&demo).await?;
    Ok(demo)
}

fn write_config(config: &Path, port: u16) -> std::io::Result<()> {
    fs::create_dir(config)?;
    let proxy = format!(
        "[listen]\naddress = \"127.0.0.1:0\"\ntls = {{ mode = \"off\" }}\n\n\
         [database]\naddress = \"127.0.0.1:{port}\"\ntls = {{ mode = \"off\" }}\nservice_user = \"pgveil\"\n\
         service_password_file = \"service.password\"\nservice_database = \"shop\"\n\n\
         [keys]\nprovider = \"file\"\npath = \"keyring.json\"\nmaster_key_file = \"master.key\"\n\n\
         [audit]\npath = \"audit\"\n\n[admin]\naddress = \"127.0.0.1:0\"\n"
    );
    fs::write(config.join("proxy.toml"), proxy)?;
    fs::write(config.join("tags.toml"), include_str!("config/tags.toml"))?;
    fs::write(config.join("policy.toml"), include_str!("config/policy.toml"))
}

fn prepare_proxy(config: &Path, folder: &Path, url: &str) -> Result<(), String> {
    let config = config.to_str().ok_or("the temporary folder's name is not text")?;
    proxy::run(&["init", "--config", config], &[("PGVEIL_DATABASE_URL", url)])?;
    let file = folder.join("password");
    for (user, _) in USERS {
        let written = fs::write(&file, password(user))
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o600)));
        written.map_err(|error| format!("cannot write a password file: {error}"))?;
        let path = file.to_str().ok_or("the temporary folder's name is not text")?;
        let arguments = ["users", "add", user, "--config", config, "--password-file", path];
        proxy::run(&arguments, &[("PGVEIL_DATABASE_URL", url)])?;
    }
    fs::remove_file(&file).map_err(|error| format!("cannot remove a file: {error}"))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

async fn load(demo: &Demo) -> Result<(), String> {
    let client = demo.through("shop").await?;
    let failed = |error: tokio_postgres::Error| format!("cannot load the sample data: {}", said(&error));
    // One by one, as an application's migrations would.
    for statement in SCHEMA.split(';') {
        client.batch_execute(statement).await.map_err(failed)?;
    }
    client.batch_execute("BEGIN").await.map_err(failed)?;
    for batch in demo.people.chunks(BATCH) {
        for statement in statements(batch) {
            client.batch_execute(&statement).await.map_err(failed)?;
        }
    }
    client.batch_execute("COMMIT").await.map_err(failed)
}

/// The INSERTs of one batch, with literals as a simple application writes them.
fn statements(batch: &[Person]) -> [String; 3] {
    let mut customers = "INSERT INTO customers VALUES ".to_owned();
    let mut payments = "INSERT INTO payments VALUES ".to_owned();
    let mut visits = "INSERT INTO visits VALUES ".to_owned();
    for (index, person) in batch.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        let texts = [
            &person.name,
            &person.email,
            &person.phone,
            &person.address,
            &person.born,
            &person.password_hash,
            &person.api_token,
            &person.preferences,
        ];
        let texts: Vec<String> = texts.into_iter().map(|text| quoted(text)).collect();
        let id = person.id;
        // Writing to a String cannot fail.
        let _ = write!(customers, "{comma}({id}, {}, 'customer since 2024')", texts.join(", "));
        let _ = write!(
            payments,
            "{comma}({id}, {id}, {}, {}, {id}.95)",
            quoted(&person.card_number),
            quoted(&person.iban)
        );
        let _ = write!(visits, "{comma}({id}, {}, '2026-11-01 08:00:00+00')", quoted(&person.page));
    }
    [customers, payments, visits]
}
