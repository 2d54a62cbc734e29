//! Masks twice: as the proxy makes them of sealed cells, and as PostgreSQL makes them of guarded clear columns. The two
//! must not differ, or one column would show two masks before and after it is sealed.

use crate::postgres;
use crate::value::{Texts, quoted};
use pgveil::policy::{Form, Mask};
use pgveil::value::{DataType, Format, Style};

const KEY: &[u8] = b"a key for fingerprints in tests";

fn mask(name: &str) -> Mask {
    match Form::parse(&format!("mask:{name}")) {
        Some(Form::Masked(mask)) => mask,
        other => panic!("{name}: {other:?}"),
    }
}

fn style() -> Style {
    Style { time_zone: "Europe/Berlin".to_owned(), ..Style::default() }
}

/// The masked value's text form; `None` for text that the type refuses.
fn by_proxy(mask: Mask, data_type: &DataType, text: &str) -> Option<String> {
    let (mut canonical, mut masked, mut shown) = (vec![], vec![], vec![]);
    data_type.read(data_type, Format::Text, text.as_bytes(), &style(), &mut canonical).ok()?;
    mask.apply(data_type, &canonical, KEY, &mut masked).expect("the mask fits the type");
    data_type.write(&masked, Format::Text, &style(), &mut shown).expect("a mask is a value of the type");
    Some(String::from_utf8(shown).expect("text"))
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
    let table = include_str!("../golden/mask.md");
    let mut rows = 0;
    for line in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| mask ")) {
        let cells: Vec<String> =
            line.trim_matches('|').split('|').map(|cell| cell.trim().replace('·', " ")).collect();
        let [name, data_type, value, shown, _why] = cells.as_slice() else { panic!("{line}") };
        let (mask, data_type) = (mask(name), DataType::parse(data_type).unwrap());
        assert_eq!(by_proxy(mask, &data_type, value).as_ref(), Some(shown), "proxy: {line}");
        assert_eq!(
            &by_server(&url, mask, &data_type, std::slice::from_ref(value))[0],
            shown,
            "server: {line}"
        );
        rows += 1;
    }
    assert!(rows > 40, "the table was read");
}

#[test]
fn proxy_and_server_mask_alike() {
    let url = postgres::database("masks");
    let mut texts = Texts::new(11);
    let types = ["text", "varchar(5)", "date", "timestamp", "timestamptz", "numeric(8,2)", "integer", "inet"];
    for name in ["redact", "partial", "email", "card", "year"] {
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
fn a_hash_says_equal_of_equal_values_and_nothing_else() {
    let hash = mask("hash");
    let shown = |data_type: DataType, text: &str| by_proxy(hash, &data_type, text).unwrap();
    assert_eq!(shown(DataType::Text, "anna").len(), 16);
    assert_eq!(shown(DataType::Text, "anna"), shown(DataType::Varchar(Some(40)), "anna"));
    assert_ne!(shown(DataType::Text, "anna"), shown(DataType::Text, "Anna"));
    assert_eq!(shown(DataType::Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11").len(), 36);
    assert_eq!(shown(DataType::Bytea, r"\x00").len(), 2 + 64);
    assert!(!hash.fits(&DataType::Integer));
    // SQL has no key: a guarded clear column cannot show it.
    assert_eq!(hash.sql(&DataType::Text, "x"), None);
}
