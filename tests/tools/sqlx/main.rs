//! What an application does with sqlx, unchanged: pgveil-tools-sqlx URL
//!
//! Its schema is made and changed by sqlx's migrations (one text each, without files). Prints what it is answered, one line
//! each; the tests compare what it prints over PostgreSQL itself and through pgveil. Needs a database without the tables
//! person and _sqlx_migrations. Deliberately not: judging the answers.

use std::borrow::Cow;

use futures_util::TryStreamExt;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolCopyExt, PgPoolOptions, PgRow};
use sqlx::types::chrono::NaiveDate;
use sqlx::types::{BigDecimal, Json};
use sqlx::{Column, Connection, Either, Executor, PgPool, QueryBuilder, Row, TypeInfo};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CREATE: &str =
    "create table person (id serial primary key, email varchar(120) not null unique, name text, born date, \
    salary numeric(12,2), profile jsonb, phone varchar(40), note text not null default 'none');
    create index person_salary on person (salary);";

const CHANGE: &str = "alter table person add column age integer not null default 3;
    update person set name = 'Migrated' where email = 'p2@example.org';
    create index person_note on person (note);";

/// id, email, name, born, salary, profile, phone.
type Person = (
    i32,
    String,
    Option<String>,
    Option<NaiveDate>,
    Option<BigDecimal>,
    Option<Json<serde_json::Value>>,
    Option<String>,
);

const INSERT: &str = "insert into person (email, name, born, salary, profile, phone) values ($1, $2, $3, $4, $5, $6) returning *";

fn say(name: &str, value: impl std::fmt::Debug) {
    println!("{name}: {value:?}");
}

fn wrong<T>(name: &str, result: std::result::Result<T, sqlx::Error>) {
    let Err(sqlx::Error::Database(error)) = result else { return say(name, "done") };
    say(name, (error.code(), error.constraint(), error.table()));
}

fn migrator(texts: &[(&'static str, &'static str)]) -> Migrator {
    let migrations = texts.iter().zip(1..).map(|((name, sql), version)| {
        Migration::new(version, Cow::Borrowed(*name), MigrationType::Simple, Cow::Borrowed(*sql), false)
    });
    Migrator { migrations: Cow::Owned(migrations.collect()), ..Migrator::DEFAULT }
}

async fn write(pool: &PgPool) -> Result<()> {
    for n in 1..=4 {
        let person: Person = sqlx::query_as(INSERT)
            .bind(format!("p{n}@example.org"))
            .bind((n != 3).then(|| format!("Person {n}")))
            .bind(NaiveDate::from_ymd_opt(1960 + n, 2, 3))
            .bind(BigDecimal::from(n) / BigDecimal::from(4))
            .bind(Json(serde_json::json!({ "n": n })))
            .bind(format!("+49 151 {n}"))
            .fetch_one(pool)
            .await?;
        say("inserted", person);
    }
    let mut many = QueryBuilder::new("insert into person (email, name, born) ");
    many.push_values(5..8, |mut row, n: i32| {
        row.push_bind(format!("p{n}@example.org"))
            .push_bind("Many")
            .push_bind(NaiveDate::from_ymd_opt(2000, 2, n as u32));
    });
    say("many", many.build().execute(pool).await?.rows_affected());
    let unnested =
        sqlx::query("insert into person (email, note) select * from unnest($1::text[], $2::text[])")
            .bind(vec!["u1@example.org", "u2@example.org"])
            .bind(vec!["one", "two"])
            .execute(pool)
            .await;
    say("unnested", unnested.map(|done| done.rows_affected()).map_err(|error| error.to_string()));
    let mut copy = pool.copy_in_raw("copy person (email, name, salary) from stdin with (format csv)").await?;
    copy.send(&b"c1@example.org,\"Copied, One\",1.50\n"[..]).await?;
    copy.send(&b"c2@example.org,,\n"[..]).await?;
    say("copied", copy.finish().await?);
    Ok(())
}

fn columns(row: &PgRow) -> Vec<(String, String)> {
    row.columns()
        .iter()
        .map(|column| (column.name().to_owned(), column.type_info().name().to_owned()))
        .collect()
}

async fn read(pool: &PgPool) -> Result<()> {
    let all: Vec<Person> = sqlx::query_as("select * from person order by id").fetch_all(pool).await?;
    for person in all {
        say("row", person);
    }
    let one = sqlx::query("select email, born, salary, profile from person where email = $1")
        .bind("p1@example.org")
        .fetch_one(pool)
        .await?;
    say("described", columns(&one));
    let some = sqlx::query("select id from person where email = any($1) or salary = $2 order by id")
        .bind(vec!["p2@example.org".to_owned(), "nobody".to_owned()])
        .bind(BigDecimal::from(1));
    say("any", some.map(|row: PgRow| row.get::<i32, _>(0)).fetch_all(pool).await?);
    let mut stream = sqlx::query_as::<_, (String, Option<String>)>(
        "select email, phone from person where phone like '+49%' order by id",
    )
    .fetch(pool);
    while let Some(row) = stream.try_next().await? {
        say("streamed", row);
    }
    say(
        "counted",
        sqlx::query_as::<_, (i64, i64)>("select count(*), count(distinct email) from person")
            .fetch_one(pool)
            .await?,
    );
    // The simple protocol: what is not bound.
    let simple = sqlx::raw_sql(
        "select email from person where email = 'p1@example.org'; select count(name)::text from person",
    )
    .fetch_all(pool)
    .await?;
    say("simple", simple.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>());
    let chunks: Vec<_> = pool
        .copy_out_raw("copy (select email, name, salary from person order by id) to stdout")
        .await?
        .try_collect()
        .await?;
    say("copied out", String::from_utf8(chunks.concat())?);
    Ok(())
}

async fn change(pool: &PgPool) -> Result<()> {
    let mut transaction = pool.begin().await?;
    say(
        "updated",
        sqlx::query("update person set name = $1, profile = $2 where email = $3")
            .bind("Never")
            .bind(Json(vec![1]))
            .bind("p1@example.org")
            .execute(&mut *transaction)
            .await?
            .rows_affected(),
    );
    let mut savepoint = transaction.begin().await?;
    wrong(
        "duplicate",
        sqlx::query("insert into person (email) values ('p2@example.org')").execute(&mut *savepoint).await,
    );
    wrong("aborted", sqlx::query("select 1").execute(&mut *savepoint).await);
    savepoint.rollback().await?;
    say(
        "inside",
        sqlx::query_scalar::<_, String>("select name from person where email = $1")
            .bind("p1@example.org")
            .fetch_one(&mut *transaction)
            .await?,
    );
    transaction.rollback().await?;
    say(
        "kept",
        sqlx::query_scalar::<_, String>("select name from person where email = $1")
            .bind("p1@example.org")
            .fetch_one(pool)
            .await?,
    );
    let upsert = "insert into person (email, name) values ($1, $2) on conflict (email) do update set name = excluded.name returning id, name";
    say(
        "upsert",
        sqlx::query_as::<_, (i32, String)>(upsert)
            .bind("p3@example.org")
            .bind("Third")
            .fetch_one(pool)
            .await?,
    );
    say(
        "deleted",
        sqlx::query("delete from person where email = $1")
            .bind("p4@example.org")
            .execute(pool)
            .await?
            .rows_affected(),
    );
    wrong(
        "too long",
        sqlx::query("insert into person (email) values ($1)").bind("x".repeat(121)).execute(pool).await,
    );
    wrong("missing", sqlx::query("insert into person (name) values ('x')").execute(pool).await);
    Ok(())
}

/// What `query!` asks while a program is compiled: types, and which columns may be NULL, for which it explains the
/// statement by its name.
async fn describe(pool: &PgPool) -> Result<()> {
    for sql in [
        "select id, email, name, born, salary, profile from person where email = $1 and salary = $2",
        "select p.email, q.email as other, count(*) from person p left join person q on q.id = p.id + 1 group by 1, 2",
        "insert into person (email, name) values ($1, $2) returning email, note",
        "select 1 as one, $1::text as given",
    ] {
        let described = pool.describe(sql).await?;
        let columns = described.columns().iter().zip(0..).map(|(column, at)| {
            (column.name(), column.type_info().name().to_owned(), described.nullable(at))
        });
        say("columns", columns.collect::<Vec<_>>());
        if let Some(Either::Left(types)) = described.parameters() {
            say("parameters", types.iter().map(|one| one.name().to_owned()).collect::<Vec<_>>());
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options: PgConnectOptions = std::env::args().nth(1).ok_or("a URL is missing")?.parse()?;
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await?;
    migrator(&[("create", CREATE)]).run(&pool).await?;
    write(&pool).await?;
    read(&pool).await?;
    change(&pool).await?;
    describe(&pool).await?;
    let both = migrator(&[("create", CREATE), ("change", CHANGE)]);
    both.run(&pool).await?;
    both.run(&pool).await?;
    let run: Vec<(i64, String, bool)> =
        sqlx::query_as("select version, description, success from _sqlx_migrations order by version")
            .fetch_all(&pool)
            .await?;
    say("migrations", run);
    say(
        "migrated",
        sqlx::query_as::<_, (String, Option<String>, i32)>(
            "select email, name, age from person where email = $1",
        )
        .bind("p2@example.org")
        .fetch_all(&pool)
        .await?,
    );
    pool.close().await;
    Ok(())
}
