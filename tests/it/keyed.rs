//! DISTINCT and GROUP BY over cells that cannot be compared: answered as a plain twin answers where the table's primary key is
//! among them, refused where it is not, or is no key (any more).

use crate::foreign;
use crate::postgres;
use crate::proxy::{Proxy, eventually};
use crate::raw::Raw;

const TABLES: &str = "create table person (id int primary key, email varchar(120), name text, born date);
    create table visit (id int, email varchar(120), person_id int);
    insert into person values (1, 'a@x', 'Ann', '1961-02-03'), (2, 'b@x', 'Ann', null), (3, 'c@x', null, null);
    insert into visit values (1, 'a@x', 1), (2, 'a@x', 1), (3, 'b@x', 2), (4, null, 9)";

const ANSWERED: [&str; 6] = [
    "select distinct p.* from person p join visit v on v.person_id = p.id",
    "select distinct name, v.email, p.id from visit v left join person p on v.person_id = p.id",
    "select p.name, count(*) from person p join visit v on v.email = p.email group by p.name, (p.id)",
    "select distinct a.id, a.name, b.id, b.born from person a, person b",
    "select distinct p.name as id, p.id as name from person p join visit v on v.person_id = p.id",
    "select count(*) from (select distinct id, name from person) as one",
];

const REFUSED: [&str; 8] = [
    "select distinct name from person",
    "select distinct email, name from person",
    "select distinct v.id, name from person p join visit v on v.person_id = p.id",
    "select distinct a.id, b.name from person a, person b",
    "select distinct -id as id, name from person",
    "select distinct id, coalesce(name, 'nobody') from person",
    "select distinct id, name from (select id % 2 as id, name from person) as p",
    "select name from person group by grouping sets ((id), (name))",
];

#[test]
fn a_primary_key_tells_rows_apart() {
    let proxy = Proxy::start(foreign::POLICY, foreign::TAGS);
    let mut sealed = Raw::log_in(&proxy.url("shop"));
    let mut plain = Raw::log_in(&foreign::plain_twin(&proxy));
    for raw in [&mut sealed, &mut plain] {
        assert_eq!(raw.query(TABLES).errors, [""; 0]);
    }
    for sql in ANSWERED {
        let [mut ours, mut theirs] = [sealed.query(sql), plain.query(sql)];
        assert_eq!(ours.errors, [""; 0], "{sql}");
        ours.rows.sort();
        theirs.rows.sort();
        assert_eq!(ours, theirs, "{sql}");
    }
    for sql in REFUSED {
        let errors = sealed.query(sql).errors;
        assert!(errors.len() == 1 && errors[0].starts_with("0A000 "), "{sql}: {errors:?}");
    }
    // No longer a key: at once where it is seen, else with the next look at the catalog.
    let distinct = "select distinct id, name from person";
    let refused =
        |raw: &mut Raw| raw.query(distinct).errors.first().is_some_and(|error| error.starts_with("0A000"));
    sealed.query("begin");
    sealed.query("alter table person drop constraint person_pkey");
    assert!(refused(&mut sealed), "in the transaction that drops it");
    sealed.query("rollback");
    assert!(!refused(&mut sealed));
    sealed.query("create table half () inherits (person)");
    assert!(refused(&mut sealed), "a child may repeat its parent's key");
    sealed.query("drop table half");
    postgres::execute(
        proxy.direct(),
        "alter table person drop constraint person_pkey, add primary key (id) deferrable",
    );
    eventually("the key that may be broken for a while is seen", || refused(&mut sealed));
}
