//! Conditions and options of COPY … FROM, those of newer servers among them, and how its data comes: what is copied is what a plain
//! twin takes.

use crate::copy::{copy_in, message, outcome, transcript, twins};
use crate::postgres;
use crate::raw::Raw;

/// The same copy into both tables, whose rows then must be the same.
fn copied_alike(options: &str, data: &str, rows: &str) {
    let proxy = twins();
    let default = "alter table {} alter email set default 'none@x.org', alter note set default 'nothing'";
    let mut shop = Raw::log_in(&proxy.url("shop"));
    assert_eq!(shop.query(&default.replace("{}", "twin")).errors, [""; 0]);
    postgres::execute(proxy.direct(), &default.replace("{}", "plain_twin"));
    let mut plain = Raw::log_in(&proxy.url_past("shop"));
    let copied = |raw: &mut Raw, table: &str| {
        let sql = format!("copy {table} (id, email, note) from stdin {options}");
        let copied = copy_in(raw, &sql, &[data.as_bytes()]);
        (copied, raw.query(&format!("select id, email, note from {table} order by id")).rows)
    };
    let sealed = copied(&mut shop, "twin");
    assert_eq!(sealed, copied(&mut plain, "plain_twin"), "{options}");
    assert_eq!(sealed.0, Ok(rows.to_owned()), "{options}");
}

#[test]
fn a_condition_filters_what_is_copied() {
    let data = "1\ta@x.org\tx\n2\tb@x.org\ty\n3\t\\N\tz\n4\ta@x.org\ty\n";
    copied_alike("where email = 'a@x.org'", data, "COPY 2");
    copied_alike(
        "where email is null or email in ('b@x.org', E'c\\x41@x.org') and note <> 'x'",
        data,
        "COPY 2",
    );
    copied_alike(
        "(format text)\n where\n  email <> 'ä@x.org' and (id, email) = (4, 'a@x.org');",
        data,
        "COPY 1",
    );
    copied_alike("where id not between symmetric 3 and 1", data, "COPY 1");
}

#[test]
fn options_of_newer_servers_mean_the_same() {
    if postgres::major() >= 16 {
        copied_alike("(default '\\D')", "1\t\\D\tx\n2\tb@x.org\t\\D\n3\t\\N\t\\\\D\n", "COPY 3");
        copied_alike("(format csv, default 'D')", "1,D,D\n2,\"D\",\"D\"\n3,,x\n", "COPY 3");
        copied_alike("(default '\\D') where email = 'none@x.org'", "1\t\\D\tx\n2\tb@x.org\ty\n", "COPY 1");
    }
    if postgres::major() >= 17 {
        let data = "1,a@x.org,x\nno,b@x.org,y\n3,c@x.org,z\n";
        copied_alike("(format csv, on_error ignore, log_verbosity verbose)", data, "COPY 2");
        copied_alike("(format csv, force_null *)", "1,\"\",\"\"\n2,,\n", "COPY 2");
    }
}

#[test]
fn messages_that_come_together_are_copied_together() {
    let proxy = twins();
    let mut shop = Raw::log_in(&proxy.url("shop"));
    let mut plain = Raw::log_in(&proxy.url_past("shop"));
    let together = |raw: &mut Raw, sql: &str, pieces: &[&[u8]]| {
        raw.say_query(sql);
        assert_eq!(raw.read().unwrap().0, 'G');
        let data = pieces.iter().map(|piece| message(b'd', piece));
        let all: Vec<u8> = data.chain([message(b'c', b"")]).flatten().collect();
        raw.send(&all);
        outcome(&transcript(raw)).map_err(|error| error[..5].to_owned())
    };
    let binary = [
        &b"PGCOPY\n\xff\r\n\0\0\0\0\0"[..],
        b"\0\0\0\0\0\x02\0\0\0\x04\0\0",
        b"\0\x07\xff\xff\xff\xff\xff\xff",
    ];
    let whole = (0..3000).map(|id| format!("{id}\tp{id}@x.org\\\\\n")).collect::<String>();
    let chunks: Vec<&[u8]> = whole.as_bytes().chunks(29).collect();
    for (columns, pieces, expected) in [
        ("(id, email)", &[&b"7\tx\\"[..], b"ty\n8\t", b"\\", b"N\n9", b"\tz\n"][..], Ok("COPY 3")),
        ("(id, email)", &[], Ok("COPY 0")),
        ("(id, email)", &[b"", b"", b"1\ta", b""], Ok("COPY 1")),
        ("(id, email)", &[b"1\ta\n\\.\n", b"2\tb\n", b"rest"], Ok("COPY 1")),
        // What comes after a wrong value goes nowhere, and nothing is stored.
        ("(id, badge)", &[b"1\t1\n2\t", b"x\n3\t3\n", b"4\t4\n"], Err("22P02")),
        ("(id, badge)", &[b"1\t1\n2\t2\t2\n3\tx\n", b"4\t4\n"], Err("22P04")),
        ("(id, email) (format csv)", &[b"1,\"a", b"\n\"\"", b"b\"\n2,", b"\"\"\n"], Ok("COPY 2")),
        ("(id, email) (format csv)", &[b"1,\"a", b"\n2,b\n"], Err("22P04")),
        ("(id, email) (format binary)", &binary, Ok("COPY 1")),
        ("(id, email)", &chunks, Ok("COPY 3000")),
    ] {
        // Where the options stand, after FROM.
        let (columns, options) =
            columns.split_once(") (").map_or((columns.to_owned(), String::new()), |(columns, options)| {
                (format!("{columns})"), format!("({options}"))
            });
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        let mut stored = vec![];
        for (raw, table) in [(&mut shop, "twin"), (&mut plain, "plain_twin")] {
            let copied = together(raw, &format!("copy {table} {columns} from stdin {options}"), pieces);
            assert_eq!(copied, expected, "{table} {columns} {options}");
            stored.push(raw.query(&format!("select id, email, badge from {table} order by id")).rows);
            assert_eq!(raw.query(&format!("truncate {table}")).errors, [""; 0]);
        }
        assert_eq!(stored[0], stored[1], "{columns} {options}");
    }
}
