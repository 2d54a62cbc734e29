//! The tour: what each sees of one customer, and the claims that this makes.

use super::people::Person;
use super::{Demo, connect, proxy, said, setup};
use aho_corasick::AhoCorasick;
use comfy_table::{ContentArrangement, Table, presets};
use std::path::{Path, PathBuf};
use tokio_postgres::{Client, SimpleQueryMessage};

/// Which customer is shown.
const SHOWN: usize = 41;

/// What the tour says, and whether it held.
struct Claims {
    check: bool,
    /// Of a table, in characters, at most.
    width: Option<u16>,
    all_held: bool,
}

impl Claims {
    fn claim(&mut self, text: &str, held: bool) {
        self.all_held &= held;
        if self.check {
            println!("{:6} {text}", if held { "ok" } else { "FAILED" });
        } else if !held {
            println!("this does NOT hold: {text}");
        }
    }

    fn heading(&self, text: &str) {
        if !self.check {
            println!("\n{text}");
        }
    }

    fn table(&self, rows: &[(String, Option<String>)]) {
        if self.check {
            return;
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        if let Some(width) = self.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        for (name, value) in rows {
            table.add_row([name.as_str(), value.as_deref().unwrap_or("NULL")]);
        }
        println!("{table}");
    }
}

type Row = Vec<(String, Option<String>)>;

/// The first row, by column name, as text.
async fn row(client: &Client, sql: &str) -> Result<Row, String> {
    let messages = client.simple_query(sql).await.map_err(|error| said(&error))?;
    let first = messages.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let first = first.ok_or_else(|| format!("no row for {sql}"))?;
    let columns = first.columns().iter().enumerate();
    Ok(columns
        .map(|(index, column)| (column.name().to_owned(), first.get(index).map(str::to_owned)))
        .collect())
}

fn get<'a>(row: &'a Row, name: &str) -> &'a str {
    row.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref()).unwrap_or_default()
}

/// True when every claim held.
pub(super) async fn show(demo: &Demo, check: bool, width: Option<u16>) -> Result<bool, String> {
    let person = &demo.people[SHOWN];
    let mut claims = Claims { check, width, all_held: true };
    application(demo, person, &mut claims).await?;
    support(demo, person, &mut claims).await?;
    database_administrator(demo, person, &mut claims).await?;
    disk(demo, person, &mut claims).await?;
    refused(demo, person, &mut claims).await?;
    audit(demo, person, &mut claims)?;
    metrics(demo, &mut claims).await?;
    if !check {
        connections(demo);
    }
    Ok(claims.all_held)
}

async fn application(demo: &Demo, person: &Person, claims: &mut Claims) -> Result<(), String> {
    claims.heading("1. The application (user shop) sees its customer as ever:");
    let client = demo.through("shop").await?;
    let sql = format!(
        "SELECT c.*, p.card_number, p.iban FROM customers c JOIN payments p ON p.customer_id = c.id WHERE c.email = '{}'",
        person.email.replace('\'', "''")
    );
    let seen = row(&client, &sql).await?;
    claims.table(&seen);
    let expected = [
        ("name", &person.name),
        ("email", &person.email),
        ("phone", &person.phone),
        ("address", &person.address),
        ("born", &person.born),
        ("password_hash", &person.password_hash),
        ("api_token", &person.api_token),
        ("card_number", &person.card_number),
        ("iban", &person.iban),
    ];
    let clear = expected.iter().all(|(column, value)| get(&seen, column) == value.as_str());
    claims.claim("the application reads every value in clear, found by its e-mail address", clear);
    let page: String = client
        .query_one("SELECT page FROM visits WHERE customer_id = $1", &[&i64::from(person.id)])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| said(&error))?;
    claims.claim("a prepared statement in binary format reads it, too", page == person.page);
    Ok(())
}

async fn support(demo: &Demo, person: &Person, claims: &mut Claims) -> Result<(), String> {
    claims.heading("2. The support desk (user alice) sees masks:");
    let client = demo.through("alice").await?;
    let sql = format!(
        "SELECT c.id, c.name, c.email, c.phone, c.address, c.born, p.card_number \
         FROM customers c JOIN payments p ON p.customer_id = c.id WHERE c.id = {}",
        person.id
    );
    let seen = row(&client, &sql).await?;
    claims.table(&seen);
    let hidden =
        person.sensitive().iter().all(|value| seen.iter().all(|(_, shown)| shown.as_deref() != Some(value)));
    claims.claim("the support desk sees no sensitive value", hidden);
    let last_four: String = person.card_number.chars().skip(person.card_number.chars().count() - 4).collect();
    let masked = get(&seen, "card_number") == format!("**** **** **** {last_four}")
        && get(&seen, "name").contains("***")
        && get(&seen, "email").contains("***@")
        && get(&seen, "born") == format!("{}-01-01", &person.born[..4]);
    claims
        .claim("it sees the last four digits of the card, the year of birth, and shapes of the rest", masked);
    let all = client.simple_query("SELECT name FROM customers").await;
    let limited = all.err().and_then(|error| error.code().map(|code| code.code().to_owned()));
    claims.claim("its limit of 100 rows a statement holds (53400)", limited.as_deref() == Some("53400"));
    Ok(())
}

async fn database_administrator(demo: &Demo, person: &Person, claims: &mut Claims) -> Result<(), String> {
    claims.heading("3. The DBA, past pgveil and with every right, sees ciphertext:");
    let client = connect(&demo.postgres.url("shop")).await.map_err(|error| said(&error))?;
    let sql = format!(
        "SELECT c.id, c.name, c.email, c.born, c.preferences, p.card_number \
         FROM customers c JOIN payments p ON p.customer_id = c.id WHERE c.id = {}",
        person.id
    );
    let seen = row(&client, &sql).await?;
    let short =
        |value: &Option<String>| value.as_ref().map(|text| text.chars().take(60).collect::<String>() + "…");
    claims.table(&seen.iter().map(|(name, value)| (name.clone(), short(value))).collect::<Vec<_>>());
    let sealed = ["name", "email", "born", "preferences", "card_number"];
    let ciphertext = sealed.iter().all(|column| get(&seen, column).starts_with("\\x1"));
    claims.claim("the DBA sees envelopes of ciphertext only", ciphertext);
    let past = client.batch_execute("UPDATE customers SET email = 'plain@example.org' WHERE id = 1").await;
    let code = past.err().and_then(|error| error.code().map(|code| code.code().to_owned()));
    claims.claim(
        "plaintext written past pgveil is refused by the database (23514)",
        code.as_deref() == Some("23514"),
    );
    Ok(())
}

async fn disk(demo: &Demo, person: &Person, claims: &mut Claims) -> Result<(), String> {
    claims.heading(
        "4. The disk holds the same ciphertext; this is the table's file around the e-mail address:",
    );
    let client = connect(&demo.postgres.url("shop")).await.map_err(|error| said(&error))?;
    client.batch_execute("CHECKPOINT").await.map_err(|error| said(&error))?;
    let place = client
        .query_one(
            "SELECT pg_catalog.pg_relation_filepath('customers'), email::bytea FROM customers WHERE id = $1",
            &[&i64::from(person.id)],
        )
        .await
        .map_err(|error| said(&error))?;
    let (path, cell): (String, Vec<u8>) = (place.get(0), place.get(1));
    let bytes = std::fs::read(demo.postgres.data.join(path))
        .map_err(|error| format!("cannot read the table's file: {error}"))?;
    let at =
        AhoCorasick::new([&cell]).map_err(|error| error.to_string())?.find(&bytes).map(|found| found.start());
    if let (Some(at), false) = (at, claims.check) {
        hexdump(&bytes, at.saturating_sub(16), 96);
    }
    claims.claim("the table's file holds the sealed e-mail address", at.is_some());
    let mut files = vec![];
    files_below(&demo.postgres.data, &mut files);
    let found = demo.people.iter().step_by(50).chain([person]).flat_map(Person::sensitive);
    let needles: Vec<&str> = found.collect();
    let search = AhoCorasick::new(&needles).map_err(|error| format!("cannot search for values: {error}"))?;
    let leaks =
        files.iter().filter(|file| std::fs::read(file).is_ok_and(|bytes| search.is_match(&bytes))).count();
    claims.claim(
        &format!(
            "none of {} values of customers is in any of the server's {} files, WAL among them",
            needles.len(),
            files.len()
        ),
        leaks == 0,
    );
    Ok(())
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() { files_below(&path, files) } else { files.push(path) }
    }
}

fn hexdump(bytes: &[u8], from: usize, count: usize) {
    for (line, chunk) in bytes.iter().skip(from).take(count).collect::<Vec<_>>().chunks(16).enumerate() {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            chunk.iter().map(|byte| if byte.is_ascii_graphic() { char::from(**byte) } else { '.' }).collect();
        println!("  {:08x}  {:47}  {text}", from + line * 16, hex.join(" "));
    }
}

async fn refused(demo: &Demo, person: &Person, claims: &mut Claims) -> Result<(), String> {
    claims.heading("5. An intern (user ivan), who has every grant of the database but no rule:");
    let client = demo.through("ivan").await?;
    let sql = format!("SELECT email FROM customers WHERE id = {}", person.id);
    let answer = client.simple_query(&sql).await;
    let error = answer.err();
    let answer = error.as_ref().and_then(|error| error.as_db_error());
    if let (Some(answer), false) = (answer, claims.check) {
        println!(
            "  shop=> {sql};\n  ERROR:  {}\n  DETAIL:  {}",
            answer.message(),
            answer.detail().unwrap_or_default()
        );
    }
    let denied = answer.is_some_and(|answer| {
        answer.code().code() == "42501"
            && answer.message() == "permission denied for column email of table customers"
    });
    claims.claim("the intern is refused by name (42501)", denied);
    let counted = row(&client, "SELECT count(*) AS customers FROM customers WHERE phone IS NOT NULL").await?;
    claims.claim("and may still count", get(&counted, "customers") == demo.people.len().to_string());
    Ok(())
}

fn audit(demo: &Demo, person: &Person, claims: &mut Claims) -> Result<(), String> {
    claims.heading("6. The auditor reads what happened, and verifies it with the public key alone:");
    let folder = demo.folder.path().join("config/audit");
    let log = folder.to_str().ok_or("the temporary folder's name is not text")?;
    let key = folder.join("audit.pub");
    let key = key.to_str().ok_or("the temporary folder's name is not text")?;
    let mut seen = String::new();
    let width = claims.width.map(|width| width.to_string()).unwrap_or_default();
    for user in ["alice", "ivan"] {
        let shown = proxy::run(&["audit", "show", log, "--user", user], &[("COLUMNS", &width)])?;
        if !claims.check {
            println!("{shown}");
        }
        seen.push_str(&proxy::run(&["audit", "show", log, "--user", user, "--json"], &[])?);
    }
    let recorded = seen.contains("support-email") && seen.contains("mask:card") && seen.contains("42501");
    claims.claim(
        "the audit log has the support desk's reads with their rules, and the intern's refusal",
        recorded,
    );
    let everything = proxy::run(&["audit", "show", log, "--json"], &[])?;
    let silent = person.sensitive().iter().all(|value| !everything.contains(value));
    claims.claim("and holds no value", silent);
    let verified = proxy::run(&["audit", "verify", "--public-key", key, log], &[]);
    if let (Ok(text), false) = (&verified, claims.check) {
        println!("{}", text.trim());
    }
    claims.claim("the audit log verifies with the public key alone", verified.is_ok());
    Ok(())
}

async fn metrics(demo: &Demo, claims: &mut Claims) -> Result<(), String> {
    let text = scrape(&demo.proxy.admin).await.map_err(|error| format!("cannot read /metrics: {error}"))?;
    let counted = [
        "pgveil_cells_opened_total{",
        "pgveil_cells_sealed_total{",
        "pgveil_refusals_total{",
        "pgveil_statements_total{",
    ];
    claims.claim("Prometheus counts it all", counted.iter().all(|name| text.contains(name)));
    Ok(())
}

/// A GET by hand: one page from our own loopback needs no client library.
async fn scrape(address: &str) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn connections(demo: &Demo) {
    println!("\nConnect and look for yourself:");
    for (user, what) in setup::USERS {
        println!("  psql \"{}\"   # {what}", demo.url(user));
    }
    println!("  psql \"{}\"   # the DBA, past pgveil", demo.postgres.url("shop"));
    println!("  curl http://{}/metrics", demo.proxy.admin);
    println!("  configuration, keys and audit log: {}\n", demo.folder.path().join("config").display());
}
