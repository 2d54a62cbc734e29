//! Carrying plans out: what is sealed at Bind comes back through the row opener as the ruling shows it.

use crate::golden::{Shop, shop};
use bytes::BytesMut;
use pgveil::catalog::Seal;
use pgveil::cell::seal::{literals, parameters};
use pgveil::cell::{FaultCause, Formats, Released, RowOpener};
use pgveil::crypto::keyring::Keyring;
use pgveil::crypto::{Cells, Ciphers, Mode, OpenCause, Random};
use pgveil::plan::{NO_NAMES, Planned, Session, StatementPlan, plan};
use pgveil::policy::{Circumstances, Disclosure, Principal};
use pgveil::value::Style;
use pgveil::wire::Frame;
use pgveil::wire::backend::{DataRow, DataRowBuilder};
use pgveil::wire::frontend::Bind;
use std::sync::Arc;

struct Counter(u8);
impl Random for Counter {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
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

pub fn circumstances() -> Circumstances {
    Circumstances {
        now: 1_795_000_000,
        address: None,
        purpose: None,
        second_factor_at: None,
        glass_broken_at: None,
    }
}

pub fn planned(shop: &Shop, user: &str, sql: &str) -> Arc<StatementPlan> {
    let principal = Principal::assumed(user.to_owned());
    let circumstances = circumstances();
    let path = ["public".to_owned()];
    let session = Session {
        principal: &principal,
        circumstances: &circumstances,
        search_path: &path,
        named: &NO_NAMES,
    };
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

pub fn row(values: &[Option<&[u8]>]) -> Frame {
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

pub fn hex(cell: &[u8]) -> Vec<u8> {
    let digits: String = cell.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\\x{digits}").into_bytes()
}

/// Seals (email, name, born) as the application would insert them.
pub fn customer(shop: &Shop, ciphers: &Ciphers, values: [&str; 3]) -> Vec<Vec<u8>> {
    let insert = planned(shop, "shop", "INSERT INTO customers (email, name, born) VALUES ($1, $2, $3)");
    let sent: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
    let sealed = parameters(&insert, &[], &bind(&sent), ciphers, &Style::default(), &mut Counter(0)).unwrap();
    assert_eq!(sealed.formats, [1, 1, 1]);
    sealed.values().map(|value| value.unwrap().to_vec()).collect()
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
        let mut opener =
            RowOpener::new(plan.columns.as_ref().unwrap(), &judgement, &Formats::same(&[]), &ciphers);
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

/// Rows with and without cells, one after the other: what stands between the cells keeps its bytes, and a batch is its
/// rows one by one.
#[test]
fn rows_that_follow_each_other_keep_what_is_not_a_cell() {
    let shop = shop();
    let ciphers = ciphers(&shop);
    for format in [0, 1] {
        let cell = |value: &[u8]| if format == 1 { value.to_vec() } else { hex(value) };
        let long = "x".repeat(700);
        let mut frames = vec![];
        for number in 0..60_usize {
            let email = format!("{}@example.org", &long[..number * 11]);
            let cells = customer(&shop, &ciphers, [&email, &long[..number % 5], "1980-05-17"]);
            let note = long.as_bytes().get(..number * 7 % 300);
            let of = |at: usize| Some(cell(&cells[at])).filter(|_| number % (at + 3) != 0 && number % 7 != 6);
            let (email, name, born) = (of(0), of(1), of(2));
            frames.push(row(&[note, email.as_deref(), Some(b""), name.as_deref(), born.as_deref(), None]));
        }
        let plan = planned(&shop, "shop", "SELECT note, email, id, name, born, note FROM customers");
        let judgement =
            plan.judge(&shop.policy, &Principal::assumed("shop".into()), &circumstances()).unwrap();
        let mut opener =
            RowOpener::new(plan.columns.as_ref().unwrap(), &judgement, &Formats::same(&[format]), &ciphers);
        let (mut whole, mut single, mut joined) = (BytesMut::new(), BytesMut::new(), vec![]);
        for frame in &frames {
            let one = std::slice::from_ref(frame);
            opener.rows(one, &Style::default(), None, &mut single).unwrap();
            joined.extend_from_slice(frame.bytes());
        }
        let released = opener.rows(&frames, &Style::default(), None, &mut whole).unwrap();
        assert_eq!((released.frames, released.bytes, &whole), (60, joined.len(), &single));
        let mut again = BytesMut::from(&b"before"[..]);
        opener.rows_in(&joined, &Style::default(), None, &mut again).unwrap();
        assert_eq!(again, [b"before", whole.as_ref()].concat());
        for (number, shown) in values(&mut whole).iter().enumerate() {
            let own = |at: usize| number % (at + 3) != 0 && number % 7 != 6;
            let email = format!("{}@example.org", &long[..number * 11]);
            assert_eq!(shown[0].as_deref(), long.get(..number * 7 % 300), "{number}");
            assert_eq!(shown[1], Some(email).filter(|_| own(0)), "{number}");
            assert_eq!((shown[2].as_deref(), shown[5].as_deref()), (Some(""), None));
            assert_eq!(shown[3].as_deref(), long.get(..number % 5).filter(|_| own(1)));
        }
        // Cut anywhere, it is a fault, and nothing is written.
        for end in (1..joined.len()).step_by(37) {
            let mut out = BytesMut::new();
            let cut = opener.rows_in(&joined[..end], &Style::default(), None, &mut out);
            let is_whole = values_end_at(&frames, end);
            assert_eq!((cut.is_ok(), out.is_empty()), (is_whole, !is_whole), "{end}");
        }
    }
}

fn values_end_at(frames: &[Frame], end: usize) -> bool {
    let mut at = 0;
    frames.iter().any(|frame| {
        at += frame.bytes().len();
        at == end
    })
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
    let mut opener =
        RowOpener::new(plan.columns.as_ref().unwrap(), &judgement, &Formats::same(&[]), &ciphers);
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
    let mut opener =
        RowOpener::new(plan.columns.as_ref().unwrap(), &judgement, &Formats::same(&[]), &ciphers);
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
    assert_eq!(rendered.compared, [("staff.badge".into(), 2), ("pii.email".into(), 2)]);
    let cells: Vec<&str> =
        rendered.sql.split("'\\x").skip(1).map(|rest| rest.split('\'').next().unwrap()).collect();
    assert_eq!(cells[0], cells[1], "a number and its text");
    assert_eq!(cells[2], cells[3], "two spellings of a string");
    let binary = (-42i16).to_be_bytes();
    let mut sent = bind(&[Some(b"-42"), Some(&binary)]);
    sent.parameter_formats = vec![0, 1];
    let sealed = parameters(&plan, &[0, 21], &sent, &ciphers, &style, &mut Counter(0)).unwrap();
    let hexed: Vec<String> =
        sealed.values().map(|value| String::from_utf8(hex(value.unwrap())[2..].to_vec()).unwrap()).collect();
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

/// The cell of `email` for a value, as a literal of a statement seals it.
fn email_cell(shop: &Shop, ciphers: &Ciphers, literal: &str) -> String {
    let text = format!("INSERT INTO customers (email) VALUES ({literal})");
    let plan = planned(shop, "shop", &text);
    let rendered = literals(&plan, &text, ciphers, &Style::default(), &mut Counter(0)).unwrap();
    assert_eq!(rendered.sealed, [("pii.email".into(), 1)]);
    rendered.sql.split("'\\x").nth(1).unwrap().split('\'').next().unwrap().to_owned()
}

#[test]
fn constants_are_assigned_to_text_as_postgresql_prints_them() {
    let shop = shop();
    let ciphers = ciphers(&shop);
    let same = [("007", "'7'"), ("-0", "'0'"), ("1.50", "'1.50'"), ("1e2", "'100'"), ("TRUE", "'true'")];
    for (constant, text) in same {
        assert_eq!(email_cell(&shop, &ciphers, constant), email_cell(&shop, &ciphers, text), "{constant}");
    }
    let big = "99999999999999999999";
    assert_eq!(email_cell(&shop, &ciphers, big), email_cell(&shop, &ciphers, &format!("'{big}'")));
}

#[test]
fn an_array_is_sealed_element_by_element() {
    let shop = shop();
    let ciphers = ciphers(&shop);
    let plan = planned(&shop, "shop", "SELECT id FROM customers WHERE email = ANY($1)");
    let cell = |text: &str| format!("\"\\\\x{}\"", email_cell(&shop, &ciphers, &format!("'{text}'")));
    let expected = format!("{{{},NULL,{}}}", cell("a"), cell("b, \"c\""));
    let mut binary = vec![];
    // One dimension, with NULLs, of text; three elements from 1.
    for word in [1, 1, 25, 3, 1] {
        binary.extend_from_slice(&i32::to_be_bytes(word));
    }
    for element in [Some("a"), None, Some("b, \"c\"")] {
        let length = element.map_or(-1, |text| i32::try_from(text.len()).unwrap());
        binary.extend_from_slice(&length.to_be_bytes());
        binary.extend_from_slice(element.unwrap_or_default().as_bytes());
    }
    let text = br#"{a, NULL ,"b, \"c\""}"#;
    for (format, declared, wire) in [(0, 0, text.as_slice()), (0, 1009, text), (1, 1009, &binary)] {
        let mut sent = bind(&[Some(wire)]);
        sent.parameter_formats = vec![format];
        let sealed =
            parameters(&plan, &[declared], &sent, &ciphers, &Style::default(), &mut Counter(0)).unwrap();
        assert_eq!(sealed.formats, [0]);
        assert_eq!(String::from_utf8(sealed.values().next().unwrap().unwrap().to_vec()).unwrap(), expected);
        assert_eq!(sealed.compared, [("pii.email".into(), 2)], "NULL is compared with nothing");
    }
    let refused = |declared: u32, wire: &[u8]| {
        let sent = bind(&[Some(wire)]);
        let sealed = parameters(&plan, &[declared], &sent, &ciphers, &Style::default(), &mut Counter(0));
        sealed.err().unwrap().sqlstate
    };
    assert_eq!(refused(0, b"{a"), "22P02");
    assert_eq!(refused(0, b"{{a},{b}}"), "0A000");
    assert_eq!(refused(25, b"a"), "42804");
    assert_eq!(refused(1007, b"{1}"), "42883");
    let empty =
        parameters(&plan, &[], &bind(&[Some(b"{}")]), &ciphers, &Style::default(), &mut Counter(0)).unwrap();
    assert!(empty.values().eq([Some(b"{}".as_slice())]));
}

#[test]
fn a_comparison_converts_nothing() {
    let shop = shop();
    let ciphers = ciphers(&shop);
    let plan = planned(&shop, "shop", "SELECT id FROM customers WHERE badge = $1 OR email = $2");
    let seal = |declared: [u32; 2], badge: &str, email: &str| {
        let sent = bind(&[Some(badge.as_bytes()), Some(email.as_bytes())]);
        parameters(&plan, &declared, &sent, &ciphers, &Style::default(), &mut Counter(0))
            .map(|sealed| sealed.values().map(|value| value.map(<[u8]>::to_vec)).collect::<Vec<_>>())
    };
    let refused = |declared, badge, email| {
        let refusal = seal(declared, badge, email).unwrap_err();
        (refusal.sqlstate, refusal.message)
    };
    let (sqlstate, message) = refused([1700, 25], "4.5", "a");
    assert_eq!(sqlstate, "0A000");
    assert_eq!(
        message,
        "comparison of sealed column public.customers.badge with a value of type numeric is not supported"
    );
    assert_eq!(refused([25, 25], "4", "a"), ("42883", "operator does not exist: integer = text".to_owned()));
    // bigint is of the column's family, and character(n) is text without its padding.
    assert_eq!(seal([20, 1042], "4", "a  ").unwrap(), seal([0, 0], "4", "a").unwrap());
    assert_ne!(seal([20, 25], "4", "a  ").unwrap(), seal([0, 0], "4", "a").unwrap());
}

/// The rows of `frames` as `user` reads email and born, all columns in one format.
fn read(
    shop: &Shop,
    ciphers: &Ciphers,
    user: &str,
    disclosure: Option<Disclosure>,
    format: i16,
    frames: &[Frame],
) -> (Released, Vec<Vec<Option<Vec<u8>>>>) {
    let plan = planned(shop, user, "SELECT email, id, born FROM customers");
    let mut judgement = plan.judge(&shop.policy, &Principal::assumed(user.into()), &circumstances()).unwrap();
    for ruling in std::sync::Arc::make_mut(&mut judgement.rulings) {
        ruling.disclosure = disclosure.unwrap_or(ruling.disclosure);
    }
    let mut opener =
        RowOpener::new(plan.columns.as_ref().unwrap(), &judgement, &Formats::same(&[format]), ciphers);
    let mut out = BytesMut::new();
    let released = opener.rows(frames, &Style::default(), None, &mut out).unwrap();
    let mut once_more = BytesMut::new();
    assert_eq!(opener.rows(frames, &Style::default(), None, &mut once_more).unwrap(), released);
    assert_eq!(once_more, out, "nothing of a batch stays for the next one");
    (released, raw(&mut out))
}

fn raw(bytes: &mut BytesMut) -> Vec<Vec<Option<Vec<u8>>>> {
    let limits = pgveil::wire::Limits { message_bytes_max: 1 << 20 };
    let mut rows = vec![];
    while let Some(frame) = pgveil::wire::split(bytes, &limits).unwrap() {
        let mut view = DataRow::view(&frame).unwrap();
        rows.push((0..view.columns()).map(|_| view.next().unwrap().map(<[u8]>::to_vec)).collect());
    }
    rows
}

#[test]
fn binary_rows_open_to_binary_values() {
    let shop = shop();
    let ciphers = ciphers(&shop);
    let cells = customer(&shop, &ciphers, ["ana@example.org", "Ana", "2000-05-17"]);
    let id = 7_i64.to_be_bytes();
    let frames = [
        row(&[Some(&cells[0]), Some(&id), Some(&cells[2])]),
        row(&[None, Some(&id), None]),
        row(&[Some(&cells[0]), None, None]),
    ];
    // Days after 2000-01-01.
    let days = |days: i32| Some(days.to_be_bytes().to_vec());
    let email = |text: &str| Some(text.as_bytes().to_vec());
    let (released, rows) = read(&shop, &ciphers, "shop", None, 1, &frames);
    assert_eq!(rows[0], [email("ana@example.org"), Some(id.to_vec()), days(137)]);
    assert_eq!(rows[1], [None, Some(id.to_vec()), None]);
    assert_eq!(rows[2], [email("ana@example.org"), None, None]);
    assert_eq!(released.tally.rows, 2, "a row of NULLs discloses nothing");
    let by_label = [("pii.email".into(), 2), ("pii.birth".into(), 1)];
    assert_eq!(released.tally.rows_by_label, by_label, "and each row counts where it shows something");
    let cells =
        |disclosure, birth| [("pii.email".into(), disclosure, 2), ("pii.birth".into(), birth, 1)].to_vec();
    assert_eq!(released.tally.cells, cells("clear", "clear"));
    let (released, rows) = read(&shop, &ciphers, "alice", None, 1, &frames);
    assert_eq!(rows[0], [email("a***g"), Some(id.to_vec()), days(0)]);
    assert_eq!(released.tally.cells, cells("mask:partial", "mask:year"));
}

#[test]
fn what_is_withheld_is_null_and_never_opened() {
    let shop = shop();
    let ciphers = ciphers(&shop);
    let altered = row(&[Some(b"not a cell"), Some(b"7"), Some(b"\\x11")]);
    let (released, rows) = read(&shop, &ciphers, "shop", Some(Disclosure::withheld()), 0, &[altered]);
    assert_eq!(rows, [[None, Some(b"7".to_vec()), None]]);
    assert_eq!((released.frames, released.tally.rows, released.tally.cells), (1, 0, vec![]));
}

#[test]
fn faults_name_the_column_and_never_what_was_in_the_cell() {
    let shop = shop();
    let ciphers = ciphers(&shop);
    let (mut plain, mut sealed) = (Cells::new(), Cells::new());
    plain.push(b"canary: sealed for an integer");
    let badge = &ciphers.by_domain["badge"];
    badge.seal(badge.current(), &plain, &mut Counter(0), &mut sealed).unwrap();
    let other_type = hex(sealed.get(0));
    let other_domain = hex(&customer(&shop, &ciphers, ["canary", "n", "2000-01-01"])[0]);
    let mut odd = other_type.clone();
    odd.pop();
    let plan = planned(&shop, "shop", "SELECT badge FROM customers");
    let judgement = plan.judge(&shop.policy, &Principal::assumed("shop".into()), &circumstances()).unwrap();
    let fault = |wire: &[u8], ciphers: &Ciphers| {
        let mut opener =
            RowOpener::new(plan.columns.as_ref().unwrap(), &judgement, &Formats::same(&[]), ciphers);
        let mut out = BytesMut::new();
        let fault = opener.rows(&[row(&[Some(wire)])], &Style::default(), None, &mut out).unwrap_err();
        assert_eq!(fault.column, "public.customers.badge");
        assert!(!format!("{fault:?}").contains("canary") && out.is_empty());
        fault.cause
    };
    assert_eq!(fault(&other_type, &ciphers), FaultCause::Malformed);
    assert_eq!(fault(&other_domain, &ciphers), FaultCause::NotOpened(OpenCause::OtherDomain));
    assert_eq!(fault(&other_type, &Ciphers::default()), FaultCause::NoKey);
    for wire in [&odd[..], b"canary", b"\\x", b""] {
        assert_eq!(fault(wire, &ciphers), FaultCause::NotOpened(OpenCause::NotAnEnvelope), "{wire:?}");
    }
    let mut opener =
        RowOpener::new(plan.columns.as_ref().unwrap(), &judgement, &Formats::same(&[]), &ciphers);
    let wide = row(&[Some(b"1"), Some(b"2")]);
    let fault = opener.rows(&[wide], &Style::default(), None, &mut BytesMut::new()).unwrap_err();
    assert!(matches!(fault.cause, FaultCause::Row(_)), "another row than was described");
}
