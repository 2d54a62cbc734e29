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

const PEOPLE: &str = r#"
default = "refuse"
[domain.phone]
label = "pii.phone"
type = "text"
seal = "none"
[roles]
app = ["shop"]
support = ["alice"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "support"
roles = ["support"]
labels = ["*"]
allow = ["read"]
show = "mask:partial(3,1)"
"#;

/// The relations that stand here as `{p}` and `{v}` are a table and a view over it.
const OVER_PEOPLE: &[&str] = &[
    "select * from {v} order by id",
    "select v from {v} v order by id",
    "select v, w.id from {v} v full join (values (2), (9)) w (id) on w.id = v.id order by w.id, v.id",
    "select row_to_json(v) from {v} v order by id",
    "select v is null from {v} v right join (values (1), (9)) w (id) on w.id = v.id order by w.id",
    "select count(*), count(distinct phone), min(phone) from {v}",
    "select id from {v} where phone like '%2' order by 1",
    "select a.id, b.id from {p} a join {p} b using (phone) order by 1, 2",
    "select a.id, b.id, phone from {p} a join {v} b using (phone) order by 1, 2",
    "select phone, a.phone, b.phone, a.id, b.id from {p} a full join {v} b using (phone) order by 4, 5",
    "select * from {p} natural join {v} order by id",
    "select * from {p} a natural left join {v} b order by id",
    "select * from {p} natural join (select phone from {v} where id = 1) n order by id",
    "select * from {p} a (nr, number, note) join (select '+49***2' as number) n using (number) order by nr",
    "select * from {p} natural join (values ('+49***2'), ('+49***3')) n (phone) order by id, phone",
    "select * from {p} natural join unnest(array['+49***2', '+49***3']) phone order by id, phone",
    "select j.* from ({p} a join {v} b using (phone)) as j (number, x, y, z) order by x, z",
    "select id, n.note from {p} p join notes n using (id) natural join (select phone, id from {v}) v order by id",
    "select id from {p} where exists (select from {p} q natural join {v} where q.id = id + 1) order by 1",
    "with x as (select * from {p} join notes using (id)) select x.phone from x order by 1",
    "select p.phone, q.phone from {p} p join {v} q using (id) order by 1",
    "select phone, count(*) from {p} natural join {v} group by phone order by 1",
    "select distinct phone from {v} union select phone from {p} order by 1",
];

#[test]
fn views_and_joins_mean_what_is_shown() {
    let proxy = Proxy::start(PEOPLE, "[columns]\n\"public.people.phone\" = \"phone\"\n");
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in [
        "create table people (id int, phone text, note text)",
        "insert into people values (1, '+49-151-7712', 'a'), (2, '+49-170-9922', 'b'), (3, '+49-151-0003', 'c'), (4, null, 'd')",
        "create view inner_book as select id, phone from people where id < 4",
        "create view book as select b.id, b.phone from inner_book b",
        "create table notes (id int, note text)",
        "insert into notes values (1, 'x'), (3, 'z')",
        "grant select on people, book, notes to alice",
    ] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    // What alice may see, as tables of its own.
    for sql in [
        "create table seen (id int, phone text, note text)",
        "insert into seen values (1, '+49***2', 'a'), (2, '+49***2', 'b'), (3, '+49***3', 'c'), (4, null, 'd')",
        "create view seen_book as select id, phone from seen where id < 4",
    ] {
        postgres::execute(proxy.direct(), sql);
    }
    let mut alice = Raw::log_in(&proxy.url("alice"));
    let mut direct = Raw::log_in(proxy.direct());
    for sql in OVER_PEOPLE {
        let text = |table: &str, view: &str| sql.replace("{p}", table).replace("{v}", view);
        let (shown, meant) = (alice.query(&text("people", "book")), direct.query(&text("seen", "seen_book")));
        assert_eq!(shown.errors, [""; 0], "{sql}");
        assert_eq!(meant.errors, [""; 0], "{sql}");
        assert_eq!(shown.rows, meant.rows, "{sql}");
        let (shown, meant) = (
            alice.extended(&text("people", "book"), &[], [0, 0]),
            direct.extended(&text("seen", "seen_book"), &[], [0, 0]),
        );
        assert_eq!(shown.rows, meant.rows, "{sql}");
        assert_eq!(shown.names, meant.names, "{sql}");
    }
}
