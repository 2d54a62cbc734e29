//! The protocol's corners, and what else PostgreSQL users have in a session: each as PostgreSQL has it, or refused by name.

use crate::proxy::{self, Proxy};
use crate::raw::Raw;

fn customers() -> (Proxy, Raw) {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    done(&mut shop, "create table customers (id int primary key, email text, card text)");
    done(
        &mut shop,
        "insert into customers values (1, 'ann@example.com', '4111'), (2, 'bob@example.com', '4222'), \
         (3, 'cat@example.com', '4333')",
    );
    (proxy, shop)
}

fn done(raw: &mut Raw, sql: &str) {
    assert_eq!(raw.query(sql).errors, [""; 0], "{sql}");
}

fn text(cell: &Option<Vec<u8>>) -> String {
    cell.as_ref().map_or("NULL".into(), |bytes| String::from_utf8(bytes.clone()).unwrap())
}

#[test]
fn a_portal_outlives_what_failed_to_replace_or_close_it() {
    let (proxy, mut shop) = customers();
    shop.parse("emails", "select email from customers order by id", &[]);
    shop.parse("cards", "select card from customers order by id", &[]);
    shop.parse("plain", "select 1", &[]);
    shop.sync();
    assert_eq!(shop.reply().errors, [""; 0]);
    let next = |shop: &mut Raw| {
        shop.execute("c", 1);
        shop.sync();
        let reply = shop.reply();
        assert_eq!(reply.errors, [""; 0]);
        reply.rows.iter().map(|row| text(&row[0])).collect::<Vec<_>>()
    };
    done(&mut shop, "begin");
    shop.bind("c", "emails", &[], [0, 0]);
    assert_eq!(next(&mut shop), ["ann@example.com"]);
    done(&mut shop, "savepoint s");
    for other in ["cards", "plain"] {
        shop.bind("c", other, &[], [0, 0]);
        shop.execute("c", 1);
        shop.sync();
        assert_eq!(shop.reply().errors, ["42P03 cursor \"c\" already exists"]);
        done(&mut shop, "rollback to s");
    }
    assert_eq!(next(&mut shop), ["bob@example.com"]);
    shop.parse("", "select bogus", &[]);
    shop.close(b'P', "c");
    shop.sync();
    assert_eq!(shop.reply().order, "EZ");
    done(&mut shop, "rollback to s");
    assert_eq!(next(&mut shop), ["cat@example.com"]);
    shop.close(b'P', "c");
    shop.execute("c", 1);
    shop.sync();
    assert_eq!(shop.reply().errors, ["34000 portal \"c\" does not exist"]);
    done(&mut shop, "rollback");
    drop(shop);
    // One run, with one end, of all that it gave.
    let shown = proxy.must(&["audit", "show", &proxy.dir().join("audit").display().to_string(), "--json"]);
    let outcomes: Vec<_> =
        shown.lines().filter(|line| line.contains("\"outcome\"") && line.contains("\"rows\":3")).collect();
    assert_eq!(outcomes.len(), 1, "{shown}");
}

#[test]
fn a_declared_cursor_is_executed_as_it_is_fetched() {
    let (proxy, mut shop) = customers();
    done(&mut shop, "grant select on customers to alice");
    let mut alice = Raw::log_in(&proxy.url("alice"));
    for (raw, first) in [(&mut shop, "ann@example.com"), (&mut alice, "a***m")] {
        done(raw, "begin; declare c cursor for select email from customers order by id");
        raw.describe(b'P', "c");
        raw.execute("c", 1);
        raw.sync();
        let reply = raw.reply();
        assert_eq!((reply.errors, reply.types), (vec![], vec![25]));
        assert_eq!(text(&reply.rows[0][0]), first);
        done(raw, "rollback");
    }
}
