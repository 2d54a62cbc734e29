//! Conditions and options of COPY … FROM, those of newer servers among them: what is copied is what a plain twin takes.

use crate::copy::{copy_in, twins};
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
