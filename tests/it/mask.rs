//! Masks twice: as the proxy makes them of sealed cells, and as PostgreSQL makes them of guarded clear columns. The two
//! must not differ, or one column would show two masks before and after it is sealed.

use crate::postgres;
use crate::value::{Texts, quoted};
use pgveil::crypto::MaskKey;
use pgveil::policy::{Form, Mask, QUICK_BYTES};
use pgveil::value::{DataType, Format, Style};
use proptest::prelude::*;

fn key() -> MaskKey {
    MaskKey::new(b"a key for masks in tests", "people")
}

pub fn mask(name: &str) -> Mask {
    match Form::parse(&format!("mask:{name}")) {
        Some(Form::Masked(mask)) => mask,
        other => panic!("{name}: {other:?}"),
    }
}

fn style() -> Style {
    Style { time_zone: "Europe/Berlin".to_owned(), ..Style::default() }
}

/// One line of `golden/mask.md`.
pub struct Line {
    pub mask: Mask,
    pub data_type: DataType,
    pub value: String,
    pub shown: String,
    text: String,
}

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/mask.md");

/// The lines of the table.
pub fn lines() -> Vec<Line> {
    let table = std::fs::read_to_string(TABLE).unwrap();
    let line = |line: &str| {
        let cells: Vec<String> =
            line.trim_matches('|').split('|').map(|cell| cell.trim().replace('·', " ")).collect();
        let [name, data_type, value, shown, _why] = cells.as_slice() else { panic!("{line}") };
        let data_type = DataType::parse(data_type).unwrap();
        Line {
            mask: mask(name),
            data_type,
            value: value.clone(),
            shown: shown.clone(),
            text: line.to_owned(),
        }
    };
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| mask "));
    rows.map(line).collect()
}

/// The masked value's text form; `None` for text that the type refuses.
fn by_proxy(mask: Mask, data_type: &DataType, text: &str) -> Option<String> {
    let (mut canonical, mut masked, mut shown) = (vec![], vec![], vec![]);
    data_type.read(data_type, Format::Text, text.as_bytes(), &style(), &mut canonical).ok()?;
    mask.apply(data_type, &canonical, &key(), &mut masked).expect("the mask fits the type");
    let mut room = [0; QUICK_BYTES];
    match mask.quickly(data_type, &canonical, &mut room) {
        Some(length) => assert_eq!(room[..length], masked, "{mask:?} of {text:?}, quickly"),
        None => assert_eq!(room, [0; QUICK_BYTES], "{mask:?} of {text:?}"),
    }
    let (mut binary, mut again) = (vec![], vec![]);
    data_type.write(&masked, Format::Binary, &style(), &mut binary).expect("a mask is a value of the type");
    data_type.read(data_type, Format::Binary, &binary, &style(), &mut again).expect("and so in binary");
    assert_eq!(again, masked, "{mask:?} of {data_type:?}");
    data_type.write(&masked, Format::Text, &style(), &mut shown).expect("a mask is a value of the type");
    Some(String::from_utf8(shown).expect("text"))
}

proptest! {
    #[test]
    fn what_is_masked_quickly_is_masked_alike(
        text in prop_oneof![
            "[a-zé.@]{0,20}@?[a-zé.]{0,6}[@.]{0,2}[a-zA-Z1é]{0,10}",
            "[0-9]{0,20}",
            "[0-9 é-]{0,24}",
            "\\PC{0,12}",
        ]
    ) {
        for name in ["redact", "partial", "email", "card", "phone"] {
            by_proxy(mask(name), &DataType::Text, &text);
        }
    }
}

/// The same by the server, for each text; a last row of NULL must stay NULL.
fn by_server(url: &str, mask: Mask, data_type: &DataType, texts: &[String]) -> Vec<String> {
    let own = data_type.sql();
    let values: Vec<String> =
        texts.iter().enumerate().map(|(n, text)| format!("({n}, {}::{own})", quoted(text))).collect();
    let expression = mask.sql(data_type, "\"the column\"").expect("SQL can express the mask");
    let sql = format!(
        "set timezone = 'Europe/Berlin'; \
         select {expression}, pg_typeof({expression})::text from (values {}, ({}, null::{own})) t(n, \"the column\") order by n",
        values.join(","),
        texts.len(),
    );
    let mut rows = postgres::query(url, &sql);
    assert_eq!(rows.pop().map(|row| row[0].clone()), Some(None), "{own}: NULL stays NULL");
    let family = DataType::parse(&own).map(|data_type| match data_type {
        DataType::Varchar(_) => "character varying".to_owned(),
        DataType::Numeric(_) => "numeric".to_owned(),
        other => other.sql(),
    });
    rows.into_iter()
        .map(|row| {
            assert_eq!(row[1], family, "the mask keeps the type");
            row[0].clone().expect("a value stays a value")
        })
        .collect()
}

#[test]
fn masks_show_what_their_table_says() {
    let url = postgres::database("masks");
    let mut table = std::fs::read_to_string(TABLE).unwrap();
    let mut wrong = vec![];
    for Line { mask, data_type, value, shown, text } in lines() {
        let own = by_proxy(mask, &data_type, &value).unwrap_or_else(|| panic!("no value: {text}"));
        if mask.is_keyed() {
            assert_eq!(mask.sql(&data_type, "x"), None, "no server has a key");
        } else {
            assert_eq!(by_server(&url, mask, &data_type, &[value])[0], shown, "server: {text}");
        }
        if own != shown {
            let cells: Vec<&str> = text.split('|').collect();
            let now = [&cells[..4], &[&*format!(" {own} ")], &cells[5..]].concat().join("|");
            table = table.replace(&text, &now);
            wrong.push(format!("{text}\n{now}"));
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(TABLE, table).unwrap();
        return;
    }
    assert!(wrong.is_empty(), "masks changed; look, and run with UPDATE=1 when right:\n{}", wrong.join("\n"));
}

/// Whoever adds a mask, or lets it fit another type, shows what it looks like.
#[test]
fn each_mask_is_in_the_table_in_each_type_that_it_fits() {
    let types = [
        "text",
        "varchar(9)",
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "numeric(12,2)",
        "numeric(12,0)",
        "real",
        "double precision",
        "boolean",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "interval",
        "uuid",
        "bytea",
        "json",
        "jsonb",
        "inet",
    ];
    let lines = lines();
    let mut missing = vec![];
    for form in Form::ALL {
        let Form::Masked(mask) = form else { continue };
        for data_type in types.map(|name| DataType::parse(name).unwrap()) {
            let same = |line: &Line| {
                std::mem::discriminant(&line.data_type) == std::mem::discriminant(&data_type)
                    && Form::Masked(line.mask).kind() == form.kind()
            };
            // A made-up value is text, whatever it is of.
            let shown = lines.iter().any(same) || matches!(mask, Mask::Fake(_));
            if mask.fits(&data_type) && !shown {
                missing.push(format!("{} of {}", form.name(), data_type.sql()));
            }
        }
        assert!(lines.iter().any(|line| Form::Masked(line.mask).kind() == form.kind()), "{}", form.name());
    }
    assert_eq!(missing, [""; 0]);
}

#[test]
fn proxy_and_server_mask_alike() {
    let url = postgres::database("masks");
    let mut texts = Texts::new(11);
    let types = ["text", "varchar(5)", "date", "timestamp", "timestamptz", "numeric(8,2)", "integer", "inet"];
    let names = [
        "redact",
        "zero",
        "partial",
        "partial(0,3)",
        "partial(2,1)",
        "email",
        "card",
        "card(6,4)",
        "card(4,0)",
        "iban",
        "phone",
        "year",
        "month",
        "bucket(7)",
        "bucket(1000)",
    ];
    for name in names {
        for type_name in types {
            let (mask, data_type) = (mask(name), DataType::parse(type_name).unwrap());
            if !mask.fits(&data_type) {
                assert_eq!(mask.sql(&data_type, "x"), None);
                continue;
            }
            let mut sample: Vec<String> = (0..60).map(|_| texts.of(type_name)).collect();
            if type_name == "text" {
                sample.extend((0..60).map(|_| texts.address_or_card()));
            }
            // What the type refuses has no mask; what is too long for varchar(5) would be cut by the cast below.
            sample.retain(|text| by_proxy(mask, &data_type, text).is_some());
            let server = by_server(&url, mask, &data_type, &sample);
            for (text, server) in sample.iter().zip(server) {
                assert_eq!(by_proxy(mask, &data_type, text), Some(server), "{name} of {type_name} {text:?}");
            }
        }
    }
}

#[test]
fn keyed_masks_say_equal_of_equal_values_in_one_domain() {
    let shown = |mask: Mask, key: &MaskKey, text: &str| {
        let mut out = vec![];
        mask.apply(&DataType::Text, text.as_bytes(), key, &mut out).expect("it fits");
        String::from_utf8(out).unwrap()
    };
    let (own, other) = (key(), MaskKey::new(b"a key for masks in tests", "others"));
    for form in Form::ALL {
        let Form::Masked(mask) = form else { continue };
        if !mask.fits(&DataType::Text) {
            continue;
        }
        let [one, same, elsewhere] =
            [(&own, "471108154711"), (&own, "471108154711"), (&other, "471108154711")]
                .map(|(key, text)| shown(mask, key, text));
        assert_eq!(one, same, "{mask:?}");
        assert_eq!(one != elsewhere, mask.is_keyed(), "{mask:?}: {one} {elsewhere}");
        if mask.is_keyed() {
            assert_ne!(one, shown(mask, &own, "471108154712"), "{mask:?}");
        }
    }
}

#[test]
fn what_is_made_up_is_nobodys() {
    for n in 0..300 {
        let of = |name: &str| by_proxy(mask(name), &DataType::Text, &format!("person {n}")).unwrap();
        let email = of("fake:email");
        let (local, domain) = email.split_once('@').unwrap();
        assert!(["example.com", "example.net", "example.org"].contains(&domain), "{email}");
        assert!(local.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.'), "{email}");
        let phone = of("fake:phone");
        assert!(phone.starts_with("+999 ") && phone.len() == 15, "{phone}");
        assert!(of("fake:name").contains(' '));
    }
}

#[test]
fn other_digits_are_as_many_and_no_two_are_alike() {
    let mut seen = std::collections::BTreeSet::new();
    for value in (-1000_i32..1000).map(|n| n * 1_000_003) {
        let shown = by_proxy(mask("ff1"), &DataType::Integer, &value.to_string()).unwrap();
        if value.unsigned_abs() < 100_000 {
            assert_eq!(shown, "0", "{value}");
            continue;
        }
        assert_eq!(shown.len(), value.to_string().len(), "{value} {shown}");
        assert!(seen.insert(shown.parse::<i32>().unwrap()), "{value} {shown}");
    }
}
