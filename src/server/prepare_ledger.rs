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

/// A table or function of the ledger: what it is called, how it is asked for, how it is made.
struct Piece {
    /// As `regclass` or `regprocedure` spells it.
    name: &'static str,
    create: &'static str,
    /// The service user may call it.
    called: bool,
}

const PIECES: [Piece; 2] = [
    Piece { name: "pgveil.second_factors", create: SECOND_FACTORS, called: false },
    Piece { name: "pgveil.second_factor(text,bigint)", create: SECOND_FACTOR, called: true },
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
