//! What `init` makes of the ledger in the service database: tables that nobody may touch, and functions over them that only
//! the service user may call.
//!
//! Guarantees: one transaction; run again, it changes nothing that is kept. Deliberately absent: what is done with the answers
//! (`ledger`).

use super::prepare::{begin, make_schema, quoted};
use super::service::ServiceError;
use crate::catalog::build::SCHEMA;
use tokio_postgres::Client;

/// One row a person: the newest step of time whose code counted, wrong codes since, and until when none is looked at.
const SECOND_FACTORS: &str = "\
CREATE TABLE pgveil.second_factors (
  person text PRIMARY KEY,
  last_step bigint NOT NULL DEFAULT -1,
  wrong int NOT NULL DEFAULT 0,
  locks int NOT NULL DEFAULT 0,
  locked_until timestamptz NOT NULL DEFAULT '-infinity');
REVOKE ALL ON pgveil.second_factors FROM PUBLIC";

/// Says of a code whether it counts, and writes that down. `step` is NULL for a wrong one. The row is locked first, so that of
/// two proxies one waits for the other's commit.
const SECOND_FACTOR: &str = "\
CREATE FUNCTION pgveil.second_factor(person text, step bigint, OUT verdict text, OUT seconds bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = '' AS $body$
DECLARE
  known pgveil.second_factors;
BEGIN
  INSERT INTO pgveil.second_factors (person) VALUES ($1) ON CONFLICT DO NOTHING;
  SELECT f.* INTO STRICT known FROM pgveil.second_factors f WHERE f.person = $1 FOR UPDATE;
  seconds := 0;
  IF known.locked_until > clock_timestamp() THEN
    verdict := 'locked';
    seconds := ceil(extract(epoch FROM known.locked_until - clock_timestamp()));
  ELSIF $2 > known.last_step THEN
    verdict := 'given';
    UPDATE pgveil.second_factors f SET last_step = $2, wrong = 0, locks = 0 WHERE f.person = $1;
  ELSE
    verdict := CASE WHEN $2 IS NULL THEN 'wrong' ELSE 'used' END;
    IF known.wrong + 1 < 5 THEN
      UPDATE pgveil.second_factors f SET wrong = f.wrong + 1 WHERE f.person = $1;
    ELSE
      UPDATE pgveil.second_factors f SET wrong = 0, locks = least(f.locks + 1, 6),
        locked_until = clock_timestamp() + interval '15 minutes' * (1 << f.locks) WHERE f.person = $1;
    END IF;
  END IF;
END $body$";

/// One row a person and rule: the newest minute that was counted in, and what leases wait for each other by.
const BUDGETS: &str = "\
CREATE TABLE pgveil.budgets (person text, rule text, minute bigint NOT NULL, PRIMARY KEY (person, rule));
REVOKE ALL ON pgveil.budgets FROM PUBLIC";

/// Rows that were leased in a minute (of Unix time, by the database's clock), less those that were returned.
const LEASES: &str = "\
CREATE TABLE pgveil.leases (
  person text, rule text, minute bigint, rows bigint NOT NULL, PRIMARY KEY (person, rule, minute));
REVOKE ALL ON pgveil.leases FROM PUBLIC";

/// Leases up to `wanted` rows, and up to `block` where an eighth of what is left is so many. A minute counts until all that was
/// leased in it was used an hour (or a day) ago, though a proxy holds a lease for some seconds; a clock that is set back
/// frees nothing.
const LEASE: &str = "\
CREATE FUNCTION pgveil.lease(who text, by_rule text, per_hour bigint, per_day bigint, wanted bigint, block bigint,
  OUT leased bigint, OUT at_minute bigint, OUT short_of text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = '' AS $body$
DECLARE
  left_hour bigint;
  left_day bigint;
  room bigint;
BEGIN
  at_minute := floor(extract(epoch FROM clock_timestamp()) / 60);
  INSERT INTO pgveil.budgets AS b (person, rule, minute) VALUES (who, by_rule, at_minute)
    ON CONFLICT (person, rule) DO UPDATE SET minute = greatest(b.minute, EXCLUDED.minute)
    RETURNING b.minute INTO at_minute;
  DELETE FROM pgveil.leases l WHERE l.person = who AND l.rule = by_rule AND l.minute <= at_minute - 1442;
  SELECT per_hour - coalesce(sum(l.rows) FILTER (WHERE l.minute > at_minute - 62), 0), per_day - coalesce(sum(l.rows), 0)
    INTO left_hour, left_day FROM pgveil.leases l WHERE l.person = who AND l.rule = by_rule;
  room := greatest(0, least(left_hour, left_day));
  leased := least(room, greatest(wanted, least(block, room / 8)));
  IF leased < wanted THEN
    short_of := CASE WHEN left_day IS NULL OR left_hour <= left_day THEN 'hour' ELSE 'day' END;
  END IF;
  IF leased > 0 THEN
    INSERT INTO pgveil.leases AS l (person, rule, minute, rows) VALUES (who, by_rule, at_minute, leased)
      ON CONFLICT (person, rule, minute) DO UPDATE SET rows = l.rows + EXCLUDED.rows;
  END IF;
END $body$";

const GIVE_BACK: &str = "\
CREATE FUNCTION pgveil.give_back(who text, by_rule text, of_minute bigint, unused bigint) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = '' AS $body$
  UPDATE pgveil.leases l SET rows = l.rows - least(l.rows, greatest(0, $4))
    WHERE l.person = $1 AND l.rule = $2 AND l.minute = $3
$body$";

/// A table or function of the ledger: what it is called, how it is asked for, how it is made.
struct Piece {
    /// As `regclass` or `regprocedure` spells it.
    name: &'static str,
    create: &'static str,
    /// The service user may call it.
    called: bool,
}

const PIECES: [Piece; 6] = [
    Piece { name: "pgveil.second_factors", create: SECOND_FACTORS, called: false },
    Piece { name: "pgveil.second_factor(text,bigint)", create: SECOND_FACTOR, called: true },
    Piece { name: "pgveil.budgets", create: BUDGETS, called: false },
    Piece { name: "pgveil.leases", create: LEASES, called: false },
    Piece { name: "pgveil.lease(text,text,bigint,bigint,bigint,bigint)", create: LEASE, called: true },
    Piece { name: "pgveil.give_back(text,text,bigint,bigint)", create: GIVE_BACK, called: true },
];

/// Makes what is missing of the ledger in this database; returns what was done, in words.
///
/// # Errors
/// The connection's user may not.
pub async fn ledger(client: &mut Client, service_user: &str) -> Result<Vec<String>, ServiceError> {
    let transaction = begin(client).await?;
    let mut done = make_schema(&transaction).await?;
    for Piece { name, create, called } in PIECES {
        let kind = if called { "procedure" } else { "class" };
        let there = format!("SELECT pg_catalog.to_reg{kind}($1) IS NOT NULL");
        if !transaction.query_one(&there, &[&name]).await?.try_get::<_, bool>(0)? {
            transaction.batch_execute(create).await?;
            if called {
                transaction.batch_execute(&format!("REVOKE ALL ON FUNCTION {name} FROM PUBLIC")).await?;
            }
            done.push(format!("created {} {name}", if called { "function" } else { "table" }));
        }
        if called {
            let to = quoted(service_user);
            transaction.batch_execute(&format!("GRANT EXECUTE ON FUNCTION {name} TO {to}")).await?;
        }
    }
    transaction.commit().await?;
    Ok(done)
}

/// What is missing of the ledger, or may not be called by this connection's user; `None` when it is all there.
///
/// # Errors
/// The connection is gone or the database refuses.
pub async fn missing(client: &Client) -> Result<Option<&'static str>, ServiceError> {
    let there = format!(
        "SELECT coalesce(pg_catalog.has_function_privilege(pg_catalog.to_regprocedure($1), 'EXECUTE'), false) \
         AND pg_catalog.has_schema_privilege('{SCHEMA}', 'USAGE')"
    );
    for piece in PIECES.iter().filter(|piece| piece.called) {
        let may: bool = client.query_one(&there, &[&piece.name]).await?.try_get(0)?;
        if !may {
            return Ok(Some(piece.name));
        }
    }
    Ok(None)
}
