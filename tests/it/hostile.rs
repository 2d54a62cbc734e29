//! The database's administrator as an enemy: a superuser without keys and without rules of the policy, who changes all that a superuser
//! can change, and looks through the proxy as himself and as others who shall profit. Nothing opens that the policy does not give: a
//! reply is a refusal, a mask, or sealed bytes.
//!
//! What holds by the cells themselves: one opens in columns of its own domain only, and what it is shown as is its label's. So cells
//! that are moved within their domain, or brought back from a backup, open where they lie: those who may read them read the wrong
//! row (`README.md` says so), and nobody reads more.

use crate::conditions::{App, at_a_steps_beginning};
use crate::postgres;
use crate::proxy::{Proxy, eventually, password};
use crate::raw::{self, Raw};
use std::time::Duration;

/// alice reads nicknames in clear and masks of addresses; ada three cards an hour; bob cards with a second factor. Nobody is a
/// manager, and nobody is the administrator.
const POLICY: &str = r#"
default = "refuse"
[domain.email]
label = "pii.email"
type = "text"
seal = "deterministic"
[domain.nick]
label = "public.nick"
type = "text"
seal = "deterministic"
[domain.card]
label = "payment.card"
type = "text"
seal = "randomized"
[domain.motto]
label = "public.motto"
type = "text"
seal = "randomized"
[domain.phone]
label = "pii.phone"
type = "text"
seal = "none"
[roles]
app = ["shop"]
support = ["alice"]
few = ["ada"]
careful = ["bob"]
managers = ["boss"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "public"
roles = ["support"]
labels = ["public.*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "desk"
roles = ["support"]
labels = ["pii.*"]
allow = ["read"]
show = "mask:partial"
[[rule]]
name = "three-an-hour"
roles = ["few"]
labels = ["payment.*"]
allow = ["read"]
show = "clear"
rows_per_hour = 3
[[rule]]
name = "stepped-up"
roles = ["careful"]
labels = ["payment.*"]
allow = ["read"]
show = "clear"
second_factor = true
[[rule]]
name = "on-call"
roles = ["support"]
labels = ["payment.*"]
allow = ["read"]
show = "clear"
purposes = ["fraud"]
[[rule]]
name = "managers"
roles = ["managers"]
labels = ["*"]
allow = ["read", "compare"]
show = "clear"
"#;

const TAGS: &str = r#"
[columns]
"public.customers.email" = "email"
"public.customers.nick" = "nick"
"public.customers.card" = "card"
"public.customers.motto" = "motto"
"public.customers.phone" = "phone"
"public.notes.nick" = "nick"
"public.notes.motto" = "motto"
"#;

/// What nobody but the application and the limited may read, however little of it is there.
const SECRET: &str = "kanarie";

/// Forty customers whose addresses, cards and phones are secret, and whose nicknames are not.
fn shop() -> Proxy {
    shop_of(TAGS, &format!("{SECRET}-555"))
}

/// As [`shop`], with these tags and telephone numbers.
fn shop_of(tags: &str, phone: &str) -> Proxy {
    shop_under(POLICY, tags, phone)
}

fn shop_under(policy: &str, tags: &str, phone: &str) -> Proxy {
    let proxy = Proxy::start(policy, tags);
    for user in ["dba", "ada", "bob"] {
        proxy.add_user(user);
    }
    postgres::execute(proxy.direct(), "alter role dba superuser");
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in [
        "create table customers (id int primary key, email text, nick text, card text, motto text, phone text)",
        "create table notes (id int primary key, nick text, motto text)",
        "insert into notes values (1, 'nick1', 'motto1')",
    ] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    for id in 1..=40 {
        let row = format!(
            "({id}, '{SECRET}{id}@x.org', 'nick{id}', '{SECRET}-4111-{id}', 'motto{id}', '{phone}-{id}')"
        );
        assert_eq!(shop.query(&format!("insert into customers values {row}")).errors, [""; 0]);
    }
    proxy
}

/// What a reply tells, whole: rows, and the texts of errors and notices.
fn told(raw: &mut Raw, sql: &str) -> String {
    raw.told.clear();
    let mut all = vec![];
    for format in [None, Some(1)] {
        let reply = match format {
            None => raw.query(sql),
            Some(format) => raw.extended(sql, &[], [format, format]),
        };
        all.extend(
            reply.rows.into_iter().flatten().flatten().flat_map(|cell| [cell, b" ".to_vec()].concat()),
        );
    }
    all.append(&mut raw.told);
    String::from_utf8_lossy(&all).into_owned()
}

/// Those who look: connections that are there all the time, and new ones.
struct Eyes<'p> {
    proxy: &'p Proxy,
    open: Vec<(&'static str, Raw)>,
    /// Where tables are made that are there to be noticed, and how many were.
    definer: Raw,
    marks: u32,
}

impl Eyes<'_> {
    fn of<'p>(proxy: &'p Proxy, users: &[&'static str]) -> Eyes<'p> {
        let open = users.iter().map(|user| (*user, Raw::log_in(&proxy.url(user)))).collect();
        Eyes { proxy, open, definer: Raw::log_in(&proxy.url("dba")), marks: 0 }
    }

    /// Nobody is told a secret by these statements, neither at once, when plans may be out of date, nor when the proxy has seen
    /// what changed.
    fn see_nothing(&mut self, why: &str, statements: &[&str]) {
        for round in 0..2 {
            if round == 1 {
                self.settled();
            }
            for (user, raw) in &mut self.open {
                for sql in statements {
                    let told = told(raw, sql);
                    let hex = told.contains("6b616e61726965");
                    assert!(!hex && !told.contains(SECRET), "{why}: {user}: {sql}: {told}");
                }
            }
        }
    }

    /// What one of them reads, as text, in a statement that gives one value.
    fn reads(&mut self, user: &str, sql: &str) -> String {
        let (_, raw) = self.open.iter_mut().find(|(own, _)| *own == user).unwrap();
        let reply = raw.query(sql);
        match reply.errors.first() {
            Some(error) => error.clone(),
            None => String::from_utf8_lossy(reply.rows[0][0].as_deref().unwrap_or(b"NULL")).into_owned(),
        }
    }

    /// Has the proxy look at the catalog again, as after any definition that it sees.
    fn settled(&mut self) {
        self.marks += 1;
        let sql = format!("create table mark_{} ()", self.marks);
        if !self.definer.query(&sql).errors.is_empty() {
            // It may define nothing now: the proxy looks by itself each second.
            std::thread::sleep(Duration::from_millis(1300));
        }
    }

    /// As the administrator, past the proxy.
    fn dba(&self, sql: &str) {
        postgres::execute(self.proxy.direct(), sql);
    }
}

/// The sealed types take any bytes.
const WITHOUT_CHECKS: &str = "\
    do $$ declare own record; begin \
      for own in select t.typname, c.conname from pg_constraint c join pg_type t on t.oid = c.contypid \
        where t.typnamespace = 'pgveil'::regnamespace \
      loop execute format('alter domain pgveil.%I drop constraint %I', own.typname, own.conname); end loop; \
    end $$";

const READS: &[&str] = &[
    "select * from customers",
    "select email, card, phone from customers where id = 1",
    "select c from customers c where id < 3",
    "select json_agg(c) from customers c",
    "select array_agg(card) from customers",
    "copy customers to stdout",
    "copy (select email, card, phone from customers) to stdout",
    "select nick, motto from customers order by id",
    "select nick, motto from notes order by id",
];

#[test]
fn grants_roles_passwords_and_settings_open_nothing() {
    let proxy = shop();
    let mut eyes = Eyes::of(&proxy, &["dba", "alice", "intern"]);
    eyes.see_nothing("as it was", READS);
    eyes.dba(
        "create role managers; grant managers, shop to alice, intern, dba; grant pg_read_all_data to intern; \
         alter role intern superuser; grant all on all tables in schema public, pgveil to alice, intern",
    );
    eyes.see_nothing("every role and every right", READS);
    let as_others =
        ["set role shop", "set role managers", "set local role shop", "set session authorization shop"];
    for sql in as_others {
        eyes.open.iter_mut().for_each(|(_, raw)| drop(raw.query(sql)));
        eyes.see_nothing(sql, &READS[..3]);
    }
    // What holds for a session is what it was asked for here, whatever PostgreSQL has of that name.
    eyes.dba(
        "alter role alice set pgveil.purpose = 'fraud'; alter database shop_placeholder set pgveil.purpose = 'fraud'; \
         alter role alice set role = 'shop'; alter role alice set search_path = evil, public"
            .replace("shop_placeholder", postgres::database_name(proxy.direct()))
            .as_str(),
    );
    let (alice, greeting) = Raw::start(&proxy.url("alice"));
    assert!(greeting.last().is_some_and(|(tag, _)| *tag == 'Z'), "{:?}", raw::errors(&greeting));
    let before = std::mem::replace(&mut eyes.open[1], ("alice", alice));
    eyes.see_nothing("settings of a role and a database", READS);
    assert!(eyes.reads("alice", "select card from public.customers").starts_with("42501"));
    eyes.open[1] = before;

    // Another password is one more that PostgreSQL knows, and none that is known here.
    eyes.dba("alter role shop password 'mine'");
    let database = postgres::database_name(proxy.direct());
    let with = |password: &str| {
        let url =
            format!("postgresql://shop:{password}@127.0.0.1:{}/{database}?sslmode=disable", proxy.port());
        let replies = Raw::start(&url).1;
        assert!(replies.iter().all(|(tag, _)| *tag != 'Z'), "{password} lets in");
        raw::errors(&replies)
    };
    for password in ["mine", &password("shop")] {
        assert_eq!(with(password), ["28P01 password authentication failed for user \"shop\""], "{password}");
    }
    // Nor is a role that takes the application's name the application.
    eyes.dba(
        "alter role shop rename to away; alter role dba rename to shop; alter role shop password 'mine'",
    );
    for password in ["mine", &password("dba"), &password("shop")] {
        assert!(with(password)[0].starts_with("28P01"), "{password}");
    }
    // What PostgreSQL's verifiers are does not become what is known here by being taken over once more.
    let again = proxy.run(&["users", "import", "--database", proxy.direct()]);
    assert!(again.1.contains("warning: shop has another password in PostgreSQL"), "{again:?}");
    proxy.reload("the new configuration holds");
    assert!(with("mine")[0].starts_with("28P01"));
}

#[test]
fn cells_open_in_columns_of_their_own_domain_only() {
    let proxy = shop();
    let mut eyes = Eyes::of(&proxy, &["dba", "alice", "intern"]);
    let look = "select nick, motto from notes";
    // Into columns of other domains, of this mode and the other, whose types' CHECKs are gone.
    eyes.dba(WITHOUT_CHECKS);
    for cell in [
        "c.email::bytea",
        "c.card::bytea",
        "overlay(c.email::bytea placing '\\x11' || substr(n.nick::bytea, 2, 4) from 1 for 5)",
        "overlay(c.card::bytea placing substr(n.motto::bytea, 1, 5) from 1 for 5)",
    ] {
        for column in ["nick", "motto"] {
            eyes.dba(&format!("update notes n set {column} = {cell} from customers c where c.id = 1"));
            eyes.see_nothing(cell, &[look, "select json_agg(n) from notes n"]);
            assert!(
                eyes.reads("alice", &format!("select {column} from notes")).starts_with("XX001"),
                "{cell} in {column}"
            );
        }
    }
    // Into columns of other types, new ones, arrays, rows, documents: what lies there is bytes.
    eyes.dba(
        "alter table notes add raw bytea, add spelled text, add list bytea[], add typed pgveil.nick_1, add many pgveil.card[], \
           add whole customers, add doc jsonb; \
         update notes n set nick = null, motto = null, raw = c.email, spelled = encode(c.card, 'escape') || c.email::text, list = array[c.card], \
           typed = c.email::bytea, many = array[c.card], whole = c, doc = to_jsonb(c) - 'phone' from customers c where c.id = 1; \
         update notes set whole.phone = null; \
         create table copies as select id, email as nick, card::bytea::pgveil.motto as motto from customers; \
         create table heirs () inherits (notes); \
         insert into heirs (id, nick, motto) select id, email::bytea, card::bytea from customers; \
         create unlogged table bare as select id, email::bytea as email, card::bytea as card from customers; \
         create table lists as select array_agg(email) as nick, array_agg(card::bytea) as motto from customers; \
         grant all on all tables in schema public to alice, intern",
    );
    let many = [
        "select * from notes",
        "select (whole).email, (whole).card from notes",
        "select unnest(list), unnest(many) from notes",
        "select * from copies",
        "select nick from copies",
        "select motto from copies",
        "select * from heirs",
        "select n from notes n",
        "select * from bare",
        "select email from bare",
        "select * from lists",
        "select nick[1], motto[1] from lists",
        "copy notes to stdout",
        "copy bare to stdout",
        "select unnest(nick) from lists",
        "select jsonb_each_text(doc) from notes",
    ];
    eyes.see_nothing("copies", &many);
    // A ready-made cell is no value of a client's.
    let cell = postgres::query(proxy.direct(), "select email::text from customers where id = 1")[0][0]
        .clone()
        .unwrap();
    for sql in [
        format!("update notes set nick = '{cell}'::bytea"),
        format!("insert into notes values (2, '{cell}'::pgveil.nick_1)"),
        "insert into notes select 3, raw from notes".to_owned(),
        format!("select id from customers where email = '{cell}'::pgveil.email_1"),
    ] {
        eyes.see_nothing(&sql, &[&sql, look]);
    }
}

#[test]
fn other_names_for_columns_tables_and_types_open_nothing() {
    let proxy = shop();
    let mut eyes = Eyes::of(&proxy, &["alice"]);
    eyes.dba(
        "comment on column customers.email is 'domain = nick'; comment on domain pgveil.email_1 is 'public.nick'",
    );
    // Each is taken back before the next.
    for (there, back) in [
        (
            "alter table customers rename email to x; alter table customers rename nick to email; alter table customers rename x to nick",
            "alter table customers rename email to x; alter table customers rename nick to email; alter table customers rename x to nick",
        ),
        (
            "alter table customers rename card to x; alter table customers rename motto to card; alter table customers rename x to motto",
            "alter table customers rename card to x; alter table customers rename motto to card; alter table customers rename x to motto",
        ),
        (
            "alter table customers rename phone to nothing; alter table customers rename nick to phone",
            "alter table customers rename phone to nick; alter table customers rename nothing to phone",
        ),
        ("alter table customers rename to other", "alter table other rename to customers"),
        (
            "alter table notes rename to x; alter table customers rename to notes; alter table x rename to customers",
            "alter table notes rename to x; alter table customers rename to notes; alter table x rename to customers",
        ),
        (
            "alter domain pgveil.card rename to x; alter domain pgveil.motto rename to card; alter domain pgveil.x rename to motto",
            "alter domain pgveil.card rename to x; alter domain pgveil.motto rename to card; alter domain pgveil.x rename to motto",
        ),
        (
            "alter domain pgveil.nick_1 rename to x; alter domain pgveil.email_1 rename to nick_1",
            "alter domain pgveil.nick_1 rename to email_1; alter domain pgveil.x rename to nick_1",
        ),
        ("alter domain pgveil.card set schema public", "alter domain card set schema pgveil"),
        ("alter schema pgveil rename to veil", "alter schema veil rename to pgveil"),
        ("alter table customers set schema pgveil", "alter table pgveil.customers set schema public"),
    ] {
        eyes.dba(there);
        eyes.see_nothing(
            there,
            &[
                READS[0],
                READS[1],
                READS[7],
                READS[8],
                "select * from other",
                "select * from pgveil.customers",
            ],
        );
        eyes.dba(back);
    }
    eyes.settled();
    assert_eq!(eyes.reads("alice", "select nick from customers where id = 1"), "nick1");
    eyes.dba(WITHOUT_CHECKS);
    // Other types under the old names: what is stored is bytes, and no value of the tag's type.
    eyes.dba(
        "alter table customers alter email type bytea, alter card type text using encode(card, 'escape'), alter phone type varchar(99); \
         alter table notes alter nick type text using 'x', alter motto type pgveil.nick_1 using motto::bytea",
    );
    eyes.see_nothing("other types", READS);
}

/// What the server does of itself: it works on what is stored.
#[test]
fn views_functions_triggers_rules_and_operators_open_nothing() {
    // With nothing tagged that is stored in clear, for which functions would be refused altogether.
    let proxy = shop_of(&TAGS.replace("\"public.customers.phone\" = \"phone\"\n", ""), "555");
    let mut eyes = Eyes::of(&proxy, &["dba", "alice", "intern"]);
    eyes.dba(
        "create table stolen (what text, cell bytea, clear text); create schema evil; \
         create view opened as select id, card as nick, email as motto from customers; \
         create view twice as select nick, motto::text from opened; \
         create materialized view kept as select id, email as nick, card as motto from customers; \
         create function opened(c customers) returns text language sql as 'select encode(c.card, ''escape'')'; \
         create function nick(c notes) returns bytea language sql security definer as 'select card::bytea from customers limit 1'; \
         create function rows() returns setof customers language sql security definer as 'select id, email, nick, card, motto, null::text from customers'; \
         create function evil.eq(bytea, bytea) returns boolean language plpgsql as \
           'begin insert into stolen values (''compared'', $1), (''compared'', $2); return true; end'; \
         create operator evil.= (leftarg = bytea, rightarg = bytea, function = evil.eq); \
         create operator pgveil.= (leftarg = bytea, rightarg = bytea, function = evil.eq); \
         create function evil.note() returns trigger language plpgsql as \
           'begin insert into stolen values (''written'', new.card, new::text); new.nick := new.email::bytea; return new; end'; \
         create trigger note before insert or update on customers for each row execute function evil.note(); \
         create function evil.card(pgveil.card) returns text language sql as 'select encode($1, ''escape'')'; \
         create rule also as on insert to notes do also insert into stolen values ('rule', new.motto); \
         create function evil.text(bytea) returns text language sql as 'select encode($1, ''escape'')'; \
         create cast (bytea as text) with function evil.text(bytea) as implicit; \
         alter table notes add computed text generated always as (encode(motto::bytea, 'escape')) stored; \
         grant all on all tables in schema public to alice, intern, shop; grant usage on schema evil, pgveil to alice, intern, shop",
    );
    eyes.dba(WITHOUT_CHECKS);
    // The application writes on, and alice what she may: what she writes beside secrets is hers.
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in [
        format!(
            "insert into customers values (99, '{SECRET}99@x.org', 'nick99', '{SECRET}-4111-99', 'motto99')"
        ),
        format!("update customers set card = '{SECRET}-4111-new' where email = '{SECRET}2@x.org'"),
        "insert into notes (id, nick, motto) values (5, 'nick5', 'motto5')".to_owned(),
    ] {
        shop.query(&sql);
    }
    let looks = [
        "select * from opened",
        "select nick from opened",
        "select * from twice",
        "select * from kept",
        "select c.opened from customers c",
        "select opened(c) from customers c",
        "select n.nick from notes n",
        "select nick(n) from notes n",
        "select * from rows()",
        "select (r).card from (select rows() as r) x",
        "select evil.card(card) from customers",
        "select card::text from customers",
        "select nick::text || email::text from customers",
        "select id from customers where nick operator(pgveil.=) 'nick1'",
        "select id from customers where nick = 'nick1'",
        "select nick from customers where id = 99",
        "select computed from notes",
        "select * from stolen",
        "update notes set nick = (select email from customers where id = 1)",
        "insert into notes (id, nick) select 100 + id, email from customers",
        "update notes set nick = c.email from customers c returning *",
    ];
    eyes.see_nothing("machinery", &[&looks, READS].concat());
    assert_eq!(eyes.reads("alice", "select nick from customers where id = 1"), "nick1");
    assert!(eyes.reads("alice", "select nick from customers where id = 99").starts_with("XX001"));
    eyes.see_nothing(
        "on the path",
        &["set search_path = evil, pgveil, public", looks[14], looks[0], "reset search_path"],
    );
    // What ran in the server has met no value.
    let stolen = postgres::query(proxy.direct(), "select what, encode(cell, 'escape'), clear from stolen");
    assert!(stolen.iter().any(|row| row[0].as_deref() == Some("written")), "{stolen:?}");
    assert!(!format!("{stolen:?}").contains(SECRET), "{stolen:?}");
}

/// What holds, and what no sealing can hold: within its domain a cell opens wherever it lies, whenever it was made.
#[test]
fn moved_and_replayed_cells_stay_what_their_label_is() {
    let proxy = shop();
    let mut eyes = Eyes::of(&proxy, &["shop", "dba", "alice", "intern"]);
    let (email, card) =
        ("select email from customers where id = 1", "select card from customers where id = 1");
    eyes.dba("create table backup as select id, email::bytea as email, card::bytea as card from customers");
    eyes.dba(
        "update customers c set email = o.email, card = o.card from customers o where c.id = 1 and o.id = 2",
    );
    assert_eq!(
        eyes.reads("shop", email),
        format!("{SECRET}2@x.org"),
        "a row's cell in another: nothing tells"
    );
    assert_eq!(eyes.reads("shop", card), format!("{SECRET}-4111-2"));
    let (_, shop) = &mut eyes.open[0];
    shop.query(&format!("update customers set email = '{SECRET}new@x.org' where id = 1"));
    eyes.dba("update customers c set email = b.email, card = b.card from backup b where b.id = c.id");
    assert_eq!(eyes.reads("shop", email), format!("{SECRET}1@x.org"), "an old cell: nothing tells");
    // An altered one opens for nobody, nor one that is cut.
    for altered in [
        "set_byte(email, octet_length(email) - 1, 255 - get_byte(email, octet_length(email) - 1))",
        "substr(email, 1, 24)",
    ] {
        eyes.dba(&format!("update customers set email = {altered} where id = 1"));
        for user in ["shop", "alice"] {
            assert!(eyes.reads(user, email).starts_with("XX001"), "{altered}: {user}");
        }
    }
    eyes.open.remove(0);
    eyes.see_nothing("moved cells", READS);
}

/// What is counted and tried stands in the database; each proxy remembers what it has seen itself.
#[test]
fn who_rewrites_the_ledger_gets_no_more_of_one_proxy() {
    let proxy = shop();
    let app = App::enrolled(&proxy, &["bob"]);
    let three = |sql: &str| {
        let reply = Raw::log_in(&proxy.url("ada")).query(sql);
        (reply.rows.len(), reply.errors.first().map(|error| error[..5].to_owned()))
    };
    let spent = Some("53400".to_owned());
    assert_eq!(three("select card from customers where id <= 2"), (2, None));
    postgres::execute(
        proxy.direct(),
        "drop function pgveil.lease; create function pgveil.lease(text, text, bigint, bigint, bigint, bigint, out leased bigint, out at_minute bigint, out short_of text) \
           language sql as 'select 1000000::bigint, 0::bigint, null::text'",
    );
    assert_eq!(three("select card from customers"), (1, spent.clone()));
    assert_eq!(three("select card from customers where id = 9"), (0, spent.clone()));
    // However it is laid out: columns side by side, of tables that nobody tagged.
    postgres::execute(
        proxy.direct(),
        "create table wide as select a.card as c1, b.card as c2, c.card as c3 from customers a, customers b, customers c \
           where a.id = 1 and b.id = 2 and c.id = 3; grant all on wide to ada",
    );
    assert_eq!(three("select * from wide"), (0, spent));

    // The code's judge raises where a code is wrong, and gives whatever is right.
    let judge = |wrong: &str, right: &str| {
        postgres::execute(
            proxy.direct(),
            &format!(
                "drop function pgveil.second_factor; create function pgveil.second_factor(person text, step bigint, out verdict text, out seconds bigint) \
                   language plpgsql as $$ begin seconds := 0; if step is null then {wrong}; end if; {right}; end $$"
            ),
        );
    };
    judge("raise 'no'", "verdict := 'given'");
    at_a_steps_beginning();
    let code = app.code(0);
    let set = |code: &str| {
        let sql = format!("set pgveil.otp = '{code}'");
        Raw::log_in(&proxy.url("bob")).query(&sql).errors.into_iter().next().unwrap_or_default()
    };
    assert_eq!(set(&code), "");
    assert_ne!(set(&code), "", "once");
    let wrong: Vec<String> = (0..1_000_000)
        .map(|code| format!("{code:06}"))
        .filter(|code| (-2..4).all(|off| app.code(off) != *code))
        .take(4)
        .collect();
    for (number, code) in wrong.iter().enumerate() {
        if number == 2 {
            judge("verdict := 'locked'; return", "verdict := 'given'");
        }
        assert_ne!(set(code), "");
    }
    assert_eq!(
        set(&app.code(1)),
        "28000 too many wrong one-time codes",
        "five were wrong, whatever the ledger says"
    );
}

/// A conversion's recipe stands in the database. What would be stored in clear says who has the keys.
#[test]
fn a_forged_recipe_is_not_carried_out() {
    let proxy = shop();
    let reseal = |arguments: &[&str]| {
        let all = [&["reseal"], arguments, &["--database", proxy.direct()]].concat();
        proxy.run(&all)
    };
    proxy.must(&["keys", "rotate", "default"]);
    proxy.reload("the new configuration holds");
    let (out, error, code) = reseal(&["start", "public.customers.card", "--prepare", "--max-lock", "120"]);
    assert_eq!(code, 0, "{out}{error}");
    // What it is to become is plain text now.
    postgres::execute(
        proxy.direct(),
        "update pgveil.reseal set spec = (jsonb_set(spec::jsonb, '{tables,0,columns,0,to}', \
           '{\"Plain\": {\"type_name\": \"text\", \"collation\": null}}'))::text; \
         update pgveil.reseal_table set cursor = null, filled = false; alter table pgveil.shadow_1_0 alter cell_1 type text using null",
    );
    for arguments in [&["start"][..], &["start", "public.customers.card"], &["verify"]] {
        let (_, error, code) = reseal(arguments);
        assert!(code == 1 && error.contains("was not written with this keyring"), "{arguments:?}: {error}");
    }
    let shadow = postgres::query(proxy.direct(), "select * from pgveil.shadow_1_0");
    assert!(!format!("{shadow:?}").contains(SECRET), "{shadow:?}");
    let (_, error, code) = reseal(&["cancel"]);
    assert_eq!(code, 0, "{error}");
    // Nor is one that was done once, and is to be done again: of another number, or against what is asked for now.
    let must = |arguments: &[&str]| {
        let (out, error, code) = reseal(&[arguments, &["--max-lock", "120"]].concat());
        assert_eq!(code, 0, "{out}{error}");
    };
    must(&["start", "public.customers.motto", "--to", "plain"]);
    must(&["start", "public.customers.motto"]);
    let replayed =
        "update pgveil.reseal set phase = 'filling' where id = (select min(id) from pgveil.reseal)";
    postgres::execute(proxy.direct(), replayed);
    let (_, error, code) = reseal(&["start", "public.customers.motto"]);
    assert!(code == 1 && error.contains("stores it in clear, which was not asked for"), "{error}");
    postgres::execute(
        proxy.direct(),
        "update pgveil.reseal set phase = 'done'; \
         insert into pgveil.reseal (phase, spec, rows_total, columns, proof) \
           select 'filling', spec, 1, columns, proof from pgveil.reseal order by id limit 1",
    );
    let (_, error, code) = reseal(&["start", "public.customers.motto", "--to", "plain"]);
    assert!(code == 1 && error.contains("was not written with this keyring"), "{error}");
    let (_, error, code) = reseal(&["undo", "public.customers.motto"]);
    assert_eq!(code, 1, "{error}");
}

/// A column that takes the place of a sealed one, and would be written in clear.
#[test]
fn nothing_is_written_where_a_sealed_column_was() {
    let policy = POLICY.replacen("default = \"refuse\"", "default = \"refuse\"\nunsealed = \"refuse\"", 1);
    let proxy = shop_under(&policy, TAGS, "555");
    let mut shop = Raw::log_in(&proxy.url("shop"));
    postgres::execute(
        proxy.direct(),
        "alter table customers rename email to was; alter table customers add email text; \
         alter table notes alter motto type text using null",
    );
    for sql in [
        format!("insert into customers (id, email) values (98, '{SECRET}98@x.org')"),
        format!("update customers set email = '{SECRET}1@x.org' where id = 1"),
        format!("insert into notes (id, motto) values (98, '{SECRET}')"),
        "select email from customers".to_owned(),
    ] {
        // A plan from before stores a cell there, as text.
        eventually(&sql, || shop.query(&sql).errors.iter().any(|error| error.starts_with("55000 ")));
    }
    assert!(String::from_utf8_lossy(&shop.told).contains("stored in clear, which the policy refuses"));
    let written =
        postgres::query(proxy.direct(), "select email from customers union all select motto from notes");
    assert!(!format!("{written:?}").contains(SECRET), "{written:?}");
    let (_, found, code) = proxy.run(&["check"]);
    assert!(code == 1 && found.contains("public.customers.email of database"), "{found}");
    // Its table comes back when it is sealed.
    let start =
        ["reseal", "start", "public.customers.email", "--max-lock", "120", "--database", proxy.direct()];
    proxy.must(&start);
    let sql = format!("insert into customers (id, email) values (97, '{SECRET}97@x.org')");
    eventually("the sealed column", || shop.query(&sql).errors.is_empty());
}
