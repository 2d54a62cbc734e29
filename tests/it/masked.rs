//! What clients read under a mask: each line of `golden/mask.md` from a sealed column and from a guarded clear one, in text
//! and in binary; and that predicates see no more than the mask.

use crate::mask::{Line, lines};
use crate::postgres;
use crate::proxy::Proxy;
use crate::raw::{Raw, Reply};
use crate::value::quoted;
use pgveil::policy::{Form, Mask};
use pgveil::value::DataType;
use std::fmt::Write as _;

/// The lines of one mask in one type: two columns.
struct Group {
    mask: Mask,
    data_type: DataType,
    lines: Vec<Line>,
}

fn groups() -> Vec<Group> {
    let mut groups: Vec<Group> = vec![];
    for line in lines() {
        let known =
            groups.iter_mut().find(|group| group.mask == line.mask && group.data_type == line.data_type);
        match known {
            Some(group) => group.lines.push(line),
            None => groups.push(Group { mask: line.mask, data_type: line.data_type, lines: vec![line] }),
        }
    }
    groups
}

/// Of each group a sealed domain `s…`, and a clear one `c…` where the server can make the mask.
fn policy(groups: &[Group]) -> String {
    let mut text = String::from(
        "default = \"refuse\"\n[roles]\napp = [\"shop\"]\nsupport = [\"alice\"]\n\
         [[rule]]\nname = \"application\"\nroles = [\"app\"]\nlabels = [\"*\"]\n\
         allow = [\"read\", \"compare\", \"write\"]\nshow = \"clear\"\n",
    );
    for (index, Group { mask, data_type, .. }) in groups.iter().enumerate() {
        let (show, own) = (Form::Masked(*mask).name(), data_type.sql());
        for (state, seal) in [("s", "randomized"), ("c", "none")] {
            if state == "s" || !mask.is_keyed() {
                writeln!(
                    text,
                    "[domain.{state}{index}x]\nlabel = \"m.g{index}.{state}\"\ntype = \"{own}\"\nseal = \"{seal}\""
                )
                .unwrap();
            }
        }
        writeln!(
            text,
            "[[rule]]\nname = \"group {index}\"\nroles = [\"support\"]\nlabels = [\"m.g{index}.*\"]\n\
             allow = [\"read\"]\nshow = \"{show}\""
        )
        .unwrap();
    }
    text
}

fn columns(groups: &[Group]) -> Vec<(String, &Group)> {
    let named = |(index, group): (usize, &'static str), of| (format!("{group}{index}"), of);
    let both = groups.iter().enumerate().flat_map(|(index, group)| {
        let clear = (!group.mask.is_keyed()).then(|| named((index, "c"), group));
        [named((index, "s"), group)].into_iter().chain(clear)
    });
    both.collect()
}

fn read(raw: &mut Raw, sql: &str, format: i16) -> Vec<Vec<Option<Vec<u8>>>> {
    let Reply { errors, rows, .. } = raw.extended(sql, &[], [0, format]);
    assert_eq!(errors, [""; 0], "{sql}");
    rows
}

#[test]
fn sealed_and_guarded_columns_show_the_same_mask_in_text_and_binary() {
    let groups = groups();
    let columns = columns(&groups);
    let mut tags = String::from("[columns]\n\"public.unsealed.v\" = \"hashed\"\n");
    for (name, _) in &columns {
        writeln!(tags, "\"public.masks.{name}\" = \"{name}x\"").unwrap();
    }
    let hashed = "[domain.hashed]\nlabel = \"h.v\"\ntype = \"text\"\nseal = \"randomized\"\n\
                  [[rule]]\nname = \"hashed\"\nroles = [\"support\"]\nlabels = [\"h.*\"]\nallow = [\"read\"]\nshow = \"mask:hash\"\n";
    let proxy = Proxy::start(&(policy(&groups) + hashed), &tags);
    let mut shop = Raw::log_in(&proxy.url("shop")).patient();
    let definitions: Vec<String> =
        columns.iter().map(|(name, group)| format!("{name} {}", group.data_type.sql())).collect();
    let must = |raw: &mut Raw, sql: &str| assert_eq!(raw.query(sql).errors, [""; 0], "{sql}");
    must(&mut shop, &format!("create table masks (id int, {})", definitions.join(", ")));
    let most = groups.iter().map(|group| group.lines.len()).max().unwrap();
    // One row more: all of it NULL.
    for row in 0..=most {
        let values: Vec<String> = columns
            .iter()
            .map(|(_, group)| group.lines.get(row).map_or("null".to_owned(), |line| quoted(&line.value)))
            .collect();
        must(&mut shop, &format!("insert into masks values ({row}, {})", values.join(", ")));
    }

    let mut alice = Raw::log_in(&proxy.url("alice")).patient();
    must(&mut alice, "set timezone = 'Europe/Berlin'");
    for (name, group) in &columns {
        let sql = format!("select {name} from masks order by id");
        let text = read(&mut alice, &sql, 0);
        for (row, line) in text.iter().zip(&group.lines) {
            let shown = String::from_utf8(row[0].clone().expect("a value stays a value")).unwrap();
            let spelled = (Form::Masked(group.mask).name(), group.data_type.sql(), &line.value);
            if group.mask.is_keyed() && line.shown != "***" && line.shown.len() > 1 {
                assert_ne!(shown, line.value, "{name} {spelled:?}");
            } else {
                assert_eq!(shown, line.shown, "{name} {spelled:?}");
            }
        }
        assert!(text[group.lines.len()..].iter().all(|row| row[0].is_none()), "{name}: NULL stays NULL");
        assert_eq!(read(&mut alice, &sql, 0), text, "the same each time");
        if let Some(index) = name.strip_prefix('c') {
            for format in [0, 1] {
                let sealed = read(&mut alice, &format!("select s{index} from masks order by id"), format);
                assert_eq!(read(&mut alice, &sql, format), sealed, "{name}, format {format}");
            }
        }
    }
    predicates_see_the_mask(&mut alice, &columns);
    a_mask_that_needs_a_key_is_not_shown_of_what_is_not_sealed(&proxy, &mut alice);
}

/// Whatever is asked of a guarded column is asked of its mask.
fn predicates_see_the_mask(alice: &mut Raw, columns: &[(String, &Group)]) {
    for (name, Group { mask, data_type, lines }) in columns.iter().filter(|(name, _)| name.starts_with('c')) {
        // JSON has no equality.
        if *data_type == DataType::Json {
            continue;
        }
        for Line { value, shown, .. } in lines {
            let count = |alice: &mut Raw, value: &str| {
                let own = data_type.sql();
                let sql = format!("select count(*) from masks where {name} = {}::{own}", quoted(value));
                read(alice, &sql, 0)[0][0].clone().unwrap()
            };
            assert_ne!(count(alice, shown), b"0", "{mask:?} {name} {shown}");
            if lines.iter().all(|line| line.shown != *value) && !same(data_type, value) {
                assert_eq!(count(alice, value), b"0", "{mask:?} {name} {value}");
            }
        }
    }
}

/// Values whose text is not the only one of theirs.
fn same(data_type: &DataType, value: &str) -> bool {
    matches!(data_type, DataType::Varchar(_) | DataType::Timestamptz | DataType::Jsonb) || value.is_empty()
}

fn a_mask_that_needs_a_key_is_not_shown_of_what_is_not_sealed(proxy: &Proxy, alice: &mut Raw) {
    postgres::execute(
        proxy.direct(),
        "create table unsealed (v text); insert into unsealed values ('secret'); grant all on unsealed to public",
    );
    // The catalog is looked at each second.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    for sql in ["select v from unsealed", "select count(*) from unsealed where v = 'secret'"] {
        let reply = alice.query(sql);
        assert!(reply.errors[0].starts_with("0A000"), "{sql}: {:?}", reply.errors);
        assert_eq!(reply.rows.len(), 0);
    }
}
