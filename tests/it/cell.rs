//! Carrying plans out: what is sealed at Bind comes back through the row opener as the ruling shows it.

use crate::golden::{Shop, shop};
use bytes::BytesMut;
use pgveil::catalog::Seal;
use pgveil::cell::seal::{literals, parameters};
use pgveil::cell::{FaultCause, RowOpener};
use pgveil::crypto::keyring::Keyring;
use pgveil::crypto::{Ciphers, Mode, Random};
use pgveil::plan::{Planned, Session, StatementPlan, plan};
use pgveil::policy::{Circumstances, Principal};
use pgveil::value::Style;
use pgveil::wire::Frame;
use pgveil::wire::backend::{DataRow, DataRowBuilder};
use pgveil::wire::frontend::Bind;
use std::sync::Arc;

struct Counter(u8);
impl Random for Counter {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0 = self.0.wrapping_add(1);
        bytes.fill(self.0);
    }
}

pub fn ciphers(shop: &Shop) -> Ciphers {
    let mut keyring = Keyring::create();
    keyring.ensure_key("default", 0, &mut Counter(9));
    let domains: Vec<_> =
        shop.policy.domains.iter().filter(|domain| domain.seal != Seal::None).cloned().collect();
    for domain in &domains {
        keyring.ensure_domain(&domain.name).unwrap();
    }
    let mode = |seal| if seal == Seal::Deterministic { Mode::Deterministic } else { Mode::Randomized };
    keyring.ciphers(domains.iter().map(|d| (d.name.as_str(), mode(d.seal), d.key.as_str()))).unwrap()
}

fn circumstances() -> Circumstances {
    Circumstances { now: 1_795_000_000, address: None, purpose: None, second_factor_at: None }
}

fn planned(shop: &Shop, user: &str, sql: &str) -> Arc<StatementPlan> {
    let principal = Principal::assumed(user.to_owned());
    let circumstances = circumstances();
    let path = ["public".to_owned()];
    let session = Session { principal: &principal, circumstances: &circumstances, search_path: &path };
    match plan(sql, &[], &shop.catalog, &shop.policy, &session).statements.pop() {
        Some(Planned::Plan(plan)) => plan,
        other => panic!("{other:?}"),
    }
}

fn bind<'a>(values: &[Option<&'a [u8]>]) -> Bind<'a> {
    Bind {
        portal: "",
        statement: "",
        parameter_formats: vec![],
        parameters: values.to_vec(),
        result_formats: vec![],
    }
}

fn row(values: &[Option<&[u8]>]) -> Frame {
    let mut out = BytesMut::new();
    let mut builder = DataRowBuilder::begin(&mut out);
    values.iter().for_each(|value| builder.column(*value));
    builder.end().unwrap();
    Frame::from_bytes(out.freeze())
}

fn values(bytes: &mut BytesMut) -> Vec<Vec<Option<String>>> {
    let limits = pgveil::wire::Limits { message_bytes_max: 1 << 20 };
    let mut rows = vec![];
    while let Some(frame) = pgveil::wire::split(bytes, &limits).unwrap() {
        let mut view = DataRow::view(&frame).unwrap();
        let text = |value: Option<&[u8]>| value.map(|value| String::from_utf8_lossy(value).into_owned());
        rows.push((0..view.columns()).map(|_| text(view.next().unwrap())).collect());
    }
    rows
}

fn hex(cell: &[u8]) -> Vec<u8> {
    let digits: String = cell.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\\x{digits}").into_bytes()
}

/// Seals (email, name, born) as the application would insert them.
fn customer(shop: &Shop, ciphers: &Ciphers, values: [&str; 3]) -> Vec<Vec<u8>> {
    let insert = planned(shop, "shop", "INSERT INTO customers (email, name, born) VALUES ($1, $2, $3)");
    let sent: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
    let sealed = parameters(&insert, &[], &bind(&sent), ciphers, &Style::default(), &mut Counter(0)).unwrap();
    assert_eq!(sealed.formats, [1, 1, 1]);
    sealed.values.into_iter().map(Option::unwrap).collect()
}

#[test]
fn what_is_sealed_comes_back_as_the_ruling_shows_it() {
    let shop = shop();
    let ciphers = ciphers(&shop);
    let cells = customer(&shop, &ciphers, ["ana@example.org", "Anabel", "1980-05-17"]);
    let texts: Vec<Vec<u8>> = cells.iter().map(|cell| hex(cell)).collect();
    let frames = [
        row(&[Some(&texts[0]), Some(b"7"), Some(&texts[1]), Some(&texts[2])]),
        row(&[None, Some(b"8"), None, Some(&texts[2])]),
    ];
    let shown = |user: &str| {
        let plan = planned(&shop, user, "SELECT email, id, name, born FROM customers");
        let judgement = plan.judge(&shop.policy, &Principal::assumed(user.into()), &circumstances()).unwrap();
        let mut opener = RowOpener::new(plan.columns.as_ref().unwrap(), &judgement, &[], &ciphers);
        let mut out = BytesMut::new();
        let released = opener.rows(&frames, &Style::default(), None, &mut out).unwrap();
        assert_eq!((released.frames, released.tally.rows), (2, 2));
        values(&mut out)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        shown("shop"),
        [
            vec![some("ana@example.org"), some("7"), some("Anabel"), some("1980-05-17")],
            vec![None, some("8"), None, some("1980-05-17")]
        ]
    );
    assert_eq!(
        shown("alice"),
        [
            vec![some("a***g"), some("7"), some("A***l"), some("1980-01-01")],
            vec![None, some("8"), None, some("1980-01-01")]
        ]
    );
}

#[test]
fn a_limit_is_exact_to_the_row() {
    let shop = shop();
    let ciphers = ciphers(&shop);
    let cell = hex(&customer(&shop, &ciphers, ["a@b.c", "n", "2000-01-01"])[0]);
    let frames = [row(&[Some(&cell)]), row(&[None]), row(&[Some(&cell)]), row(&[Some(&cell)])];
    let plan = planned(&shop, "alice", "SELECT email FROM customers");
    let judgement = plan.judge(&shop.policy, &Principal::assumed("alice".into()), &circumstances()).unwrap();
    assert_eq!(judgement.rows_per_statement(), Some(100));
    let mut opener = RowOpener::new(plan.columns.as_ref().unwrap(), &judgement, &[], &ciphers);
    let mut out = BytesMut::new();
    let released = opener.rows(&frames, &Style::default(), Some(2), &mut out).unwrap();
    assert_eq!((released.frames, released.tally.rows, values(&mut out).len()), (3, 2, 3));
}

#[test]
fn an_altered_cell_is_a_fault_and_shows_nothing() {
    let shop = shop();
    let ciphers = ciphers(&shop);
    let mut cell = customer(&shop, &ciphers, ["a@b.c", "n", "2000-01-01"])[0].clone();
    let good = row(&[Some(&hex(&cell))]);
    *cell.last_mut().unwrap() ^= 1;
    let plan = planned(&shop, "shop", "SELECT email FROM customers");
    let judgement = plan.judge(&shop.policy, &Principal::assumed("shop".into()), &circumstances()).unwrap();
    let mut opener = RowOpener::new(plan.columns.as_ref().unwrap(), &judgement, &[], &ciphers);
    let mut out = BytesMut::new();
    let frames = [good, row(&[Some(&hex(&cell))])];
    let fault = opener.rows(&frames, &Style::default(), None, &mut out).unwrap_err();
    assert!(matches!(fault.cause, FaultCause::NotOpened(_)), "{fault:?}");
    assert_eq!(fault.column, "public.customers.email");
    assert!(out.is_empty());
    let plaintext = opener.rows(&[row(&[Some(b"ana@example.org")])], &Style::default(), None, &mut out);
    assert!(plaintext.is_err(), "what is not an envelope is never shown");
}

#[test]
fn literals_and_parameters_of_one_value_give_one_cell() {
    let shop = shop();
    let ciphers = ciphers(&shop);
    let style = Style::default();
    let text = "SELECT id FROM customers WHERE badge IN (-42, '-42', $1, $2) OR email = E'it\\'s' OR email = $$it's$$";
    let plan = planned(&shop, "shop", text);
    let rendered = literals(&plan, text, &ciphers, &style, &mut Counter(0)).unwrap();
    assert_eq!(rendered.compared, [("staff.badge".to_owned(), 2), ("pii.email".to_owned(), 2)]);
    let cells: Vec<&str> =
        rendered.sql.split("'\\x").skip(1).map(|rest| rest.split('\'').next().unwrap()).collect();
    assert_eq!(cells[0], cells[1], "a number and its text");
    assert_eq!(cells[2], cells[3], "two spellings of a string");
    let binary = (-42i16).to_be_bytes();
    let mut sent = bind(&[Some(b"-42"), Some(&binary)]);
    sent.parameter_formats = vec![0, 1];
    let sealed = parameters(&plan, &[0, 21], &sent, &ciphers, &style, &mut Counter(0)).unwrap();
    let hexed: Vec<String> = sealed
        .values
        .iter()
        .map(|v| String::from_utf8(hex(v.as_ref().unwrap())[2..].to_vec()).unwrap())
        .collect();
    assert_eq!(hexed, [cells[0], cells[0]], "text and binary");
}

#[test]
fn values_that_do_not_fit_give_postgresqls_errors_without_the_value() {
    let shop = shop();
    let ciphers = ciphers(&shop);
    let insert = planned(&shop, "shop", "INSERT INTO customers (badge, born, email) VALUES ($1, $2, $3)");
    let refused = |declared: &[u32], values: [&str; 3]| {
        let sent: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
        let refusal =
            parameters(&insert, declared, &bind(&sent), &ciphers, &Style::default(), &mut Counter(0))
                .err()
                .unwrap();
        let said = format!("{refusal:?}");
        assert!(!said.contains("canary"), "{said}");
        refusal.sqlstate
    };
    assert_eq!(refused(&[], ["canary", "2000-01-01", ""]), "22P02");
    assert_eq!(refused(&[], ["99999999999", "2000-01-01", ""]), "22003");
    assert_eq!(refused(&[], ["1", "canary", ""]), "22007");
    assert_eq!(refused(&[25, 25, 25], ["canary", "2000-01-01", ""]), "42804");
    assert_eq!(refused(&[], ["1", "2000-01-01", &"x".repeat(2601)]), "54000");
}
