//! What `init` does to a database: schema `pgveil`, the sealed types, the service user, the look-up function.
//!
//! Guarantees: one transaction; run again, it changes nothing; it never changes what is there (a type with another
//! CHECK is an error, not a repair). Deliberately absent: keys, passwords in clear (the server gets verifiers).

use super::service::{ServiceError, VERIFIER_FUNCTION};
use crate::catalog::build::SCHEMA;
use tokio_postgres::{Client, Transaction};

/// A PostgreSQL domain over bytea that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedType {
    /// Without the schema: `card`, `email_1`.
    pub name: String,
    /// The first bytes of every envelope of the domain.
    pub header: Vec<u8>,
    /// Bytes of the shortest envelope.
    pub bytes_min: usize,
}

/// A role that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedRole {
    pub name: String,
    /// `SCRAM-SHA-256$…` for a role that is made; `None`: without a password.
    pub verifier: Option<String>,
}

/// An identifier in double quotes.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant in single quotes, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quotes = text.replace('\'', "''");
    if text.contains('\\') { format!(" E'{}'", quotes.replace('\\', "\\\\")) } else { format!("'{quotes}'") }
}

impl WantedType {
    fn prefix(&self) -> String {
        faster_hex::hex_string(&self.header)
    }

    /// The statements that make it, for everybody to use: whoever may use a table must be able to name the types of its
    /// columns.
    pub fn statements(&self) -> [String; 2] {
        [self.create(), format!("GRANT USAGE ON DOMAIN {SCHEMA}.{} TO PUBLIC", quoted(&self.name))]
    }

    /// The envelope's format, mode, domain id (and, for a deterministic domain, key version) and its least length.
    fn create(&self) -> String {
        format!(
            "CREATE DOMAIN {SCHEMA}.{} AS pg_catalog.bytea CONSTRAINT sealed CHECK (\
             pg_catalog.octet_length(VALUE) OPERATOR(pg_catalog.>=) {} AND \
             pg_catalog.substring(VALUE, 1, {}) OPERATOR(pg_catalog.=) '\\x{}'::pg_catalog.bytea)",
            quoted(&self.name),
            self.bytes_min,
            self.header.len(),
            self.prefix(),
        )
    }
}

/// Makes schema and types in this database, with USAGE for everybody. Returns what was done, in words; empty when all was there.
///
/// # Errors
/// The connection's user may not, or a type of that name is there with another CHECK (made under another keyring).
pub async fn types(client: &mut Client, wanted: &[WantedType]) -> Result<Vec<String>, ServiceError> {
    let transaction = begin(client).await?;
    let mut done = make_schema(&transaction).await?;
    for wanted in wanted {
        match constraint(&transaction, &wanted.name).await? {
            None => {
                for statement in wanted.statements() {
                    transaction.batch_execute(&statement).await?;
                }
                done.push(format!("created type {SCHEMA}.{}", wanted.name));
            }
            Some(check) if check.contains(&format!("'\\x{}'", wanted.prefix())) => {}
            Some(_) => {
                return Err(ServiceError {
                    sqlstate: None,
                    message: format!(
                        "type {SCHEMA}.{} is there, but made for other keys: its CHECK does not ask for \\x{}",
                        wanted.name,
                        wanted.prefix()
                    ),
                });
            }
        }
    }
    transaction.commit().await?;
    Ok(done)
}

/// The names of the types that are in our schema already.
///
/// # Errors
/// The connection is gone or the database refuses.
pub async fn present_types(client: &Client) -> Result<Vec<String>, ServiceError> {
    let rows = client.query(crate::catalog::queries::SEALED_TYPES, &[]).await?;
    rows.into_iter().map(|row| Ok(row.try_get(2)?)).collect()
}

/// Whether the role is there.
///
/// # Errors
/// The connection is gone or the database refuses.
pub async fn has_role(client: &mut Client, name: &str) -> Result<bool, ServiceError> {
    role_exists(&client.transaction().await?, name).await
}

/// Makes the service user, lets it connect to this database, and returns what was done. A role that is there keeps its
/// password and attributes.
///
/// # Errors
/// The connection's user may not.
pub async fn role(client: &mut Client, wanted: &WantedRole) -> Result<Vec<String>, ServiceError> {
    let transaction = begin(client).await?;
    let mut done = Vec::new();
    if !role_exists(&transaction, &wanted.name).await? {
        let password = wanted
            .verifier
            .as_deref()
            .map(|verifier| format!(" PASSWORD {}", literal(verifier)))
            .unwrap_or_default();
        transaction.batch_execute(&format!("CREATE ROLE {} LOGIN{password}", quoted(&wanted.name))).await?;
        done.push(format!("created role {}", wanted.name));
    }
    let may_connect = "SELECT pg_catalog.has_database_privilege($1::text::name, pg_catalog.current_database(), 'CONNECT'), \
                       pg_catalog.current_database()::text";
    let row = transaction.query_one(may_connect, &[&wanted.name]).await?;
    let (may, database): (bool, String) = (row.try_get(0)?, row.try_get(1)?);
    if !may {
        let grant = format!("GRANT CONNECT ON DATABASE {} TO {}", quoted(&database), quoted(&wanted.name));
        transaction.batch_execute(&grant).await?;
        done.push(format!("allowed role {} to connect to database {database}", wanted.name));
    }
    transaction.commit().await?;
    Ok(done)
}

/// Makes the function through which the service user reads verifiers, for `auth.source = "database"`.
///
/// # Errors
/// The connection's user is no superuser, who alone may read `pg_authid`.
pub async fn look_up(client: &mut Client, service_user: &str) -> Result<Vec<String>, ServiceError> {
    let transaction = begin(client).await?;
    let mut done = make_schema(&transaction).await?;
    let found = "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
                 WHERE n.nspname::text = $1 AND p.proname::text = $2)";
    let there: bool = transaction.query_one(found, &[&SCHEMA, &VERIFIER_FUNCTION]).await?.try_get(0)?;
    let function = format!("{SCHEMA}.{VERIFIER_FUNCTION}(text)");
    if !there {
        transaction
            .batch_execute(&format!(
                "CREATE FUNCTION {function} RETURNS text LANGUAGE sql STABLE STRICT SECURITY DEFINER \
                 SET search_path = '' AS $body$ \
                 SELECT a.rolpassword FROM pg_catalog.pg_authid a \
                 WHERE a.rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name AND a.rolcanlogin \
                   AND (a.rolvaliduntil IS NULL OR a.rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now()) \
                   AND a.rolpassword OPERATOR(pg_catalog.~~) 'SCRAM-SHA-256$%' $body$; \
                 REVOKE ALL ON FUNCTION {function} FROM PUBLIC"
            ))
            .await?;
        done.push(format!("created function {function}"));
    }
    transaction
        .batch_execute(&format!("GRANT EXECUTE ON FUNCTION {function} TO {}", quoted(service_user)))
        .await?;
    transaction.commit().await?;
    Ok(done)
}

/// Gives `user` this verifier, making the role when it is missing; returns whether it was made.
///
/// # Errors
/// The connection's user may not.
pub async fn give_verifier(client: &mut Client, user: &str, verifier: &str) -> Result<bool, ServiceError> {
    let transaction = begin(client).await?;
    let there = role_exists(&transaction, user).await?;
    let verb = if there { "ALTER" } else { "CREATE" };
    let command = format!("{verb} ROLE {} LOGIN PASSWORD {}", quoted(user), literal(verifier));
    transaction.batch_execute(&command).await?;
    transaction.commit().await?;
    Ok(!there)
}

/// The SCRAM verifiers of all roles that may log in, by name.
///
/// # Errors
/// The connection's user is no superuser, who alone may read `pg_authid`.
pub async fn verifiers(client: &Client) -> Result<Vec<(String, String)>, ServiceError> {
    let rows = client
        .query(
            "SELECT a.rolname::text, a.rolpassword FROM pg_catalog.pg_authid a \
             WHERE a.rolcanlogin AND a.rolpassword LIKE 'SCRAM-SHA-256$%' ORDER BY 1",
            &[],
        )
        .await?;
    rows.into_iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// A transaction in which names are ours to qualify, and which no other `init` runs beside.
pub(super) async fn begin(client: &mut Client) -> Result<Transaction<'_>, ServiceError> {
    let transaction = client.transaction().await?;
    // The number is "pgveil" in ASCII: one lock for all that we prepare.
    transaction
        .batch_execute("SET LOCAL search_path = ''; SELECT pg_catalog.pg_advisory_xact_lock(123589670300012)")
        .await?;
    Ok(transaction)
}

/// Our schema, open to everybody: whoever may use a table must be able to name the types of its columns. What was done.
pub(super) async fn make_schema(transaction: &Transaction<'_>) -> Result<Vec<String>, ServiceError> {
    if schema_exists(transaction).await? {
        return Ok(Vec::new());
    }
    transaction.batch_execute(&format!("CREATE SCHEMA {SCHEMA}")).await?;
    transaction.batch_execute(&format!("GRANT USAGE ON SCHEMA {SCHEMA} TO PUBLIC")).await?;
    Ok(vec![format!("created schema {SCHEMA}")])
}

async fn schema_exists(transaction: &Transaction<'_>) -> Result<bool, ServiceError> {
    let query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname::text = $1)";
    Ok(transaction.query_one(query, &[&SCHEMA]).await?.try_get(0)?)
}

async fn role_exists(transaction: &Transaction<'_>, name: &str) -> Result<bool, ServiceError> {
    let query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname::text = $1)";
    Ok(transaction.query_one(query, &[&name]).await?.try_get(0)?)
}

/// All CHECKs of a domain in our schema as one text; `None` when there is no such domain.
async fn constraint(transaction: &Transaction<'_>, name: &str) -> Result<Option<String>, ServiceError> {
    let query = "\
        SELECT coalesce(pg_catalog.string_agg(pg_catalog.pg_get_constraintdef(c.oid), ' '), '') \
        FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
        LEFT JOIN pg_catalog.pg_constraint c ON c.contypid = t.oid \
        WHERE n.nspname::text = $1 AND t.typname::text = $2 GROUP BY t.oid";
    let row = transaction.query_opt(query, &[&SCHEMA, &name]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_keeps_names_and_texts_whole() {
        assert_eq!(quoted("a\"; drop"), "\"a\"\"; drop\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
    }

    #[test]
    fn a_type_asks_for_its_header_and_length() {
        let wanted = WantedType { name: "email_1".into(), header: vec![1, 0, 10, 0, 1], bytes_min: 21 };
        assert_eq!(
            wanted.create(),
            "CREATE DOMAIN pgveil.\"email_1\" AS pg_catalog.bytea CONSTRAINT sealed CHECK (\
             pg_catalog.octet_length(VALUE) OPERATOR(pg_catalog.>=) 21 AND \
             pg_catalog.substring(VALUE, 1, 5) OPERATOR(pg_catalog.=) '\\x01000a0001'::pg_catalog.bytea)"
        );
    }
}
