//! The service user's queries, and the shape of their rows.
//!
//! Guarantees: every name is schema-qualified, nothing needs more than PUBLIC's rights on the system catalogs, and the
//! same text works on PostgreSQL 14 to 18. Deliberately absent: the connection (`server::service` runs these).

/// What the queries below return, in their order of columns. OIDs are `oid`, numbers `int2`, names `text`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawCatalog {
    pub schemas: Vec<String>,
    pub relations: Vec<RawRelation>,
    pub columns: Vec<RawColumn>,
    /// (child, parent): partitions and inheritance.
    pub parents: Vec<(u32, u32)>,
    /// (relation, attribute numbers of its primary key).
    pub keys: Vec<(u32, Vec<i16>)>,
    pub sealed_types: Vec<RawType>,
    pub functions: Vec<RawFunction>,
    /// User-defined operators whose function is written in SQL or a procedural language.
    pub operators: Vec<String>,
    pub casts: Vec<RawCast>,
    pub defaults: Vec<RawDefault>,
    /// (view, definition); `None` when it could not be had (its tables were locked for long).
    pub definitions: Vec<(u32, Option<String>)>,
}

/// One row of [`RELATIONS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRelation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// `pg_class.relkind`.
    pub kind: char,
}

/// One row of [`COLUMNS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawColumn {
    pub relation: u32,
    pub number: i16,
    pub name: String,
    pub type_oid: u32,
    /// `format_type(atttypid, atttypmod)` under an empty search path.
    pub type_name: String,
    pub not_null: bool,
    /// A generated expression.
    pub generated: bool,
    /// Its catalog row was written after its table's: added, renamed or altered since.
    pub altered: bool,
}

/// One row of [`SEALED_TYPES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawType {
    pub oid: u32,
    pub array_oid: u32,
    pub name: String,
}

/// One row of [`DEFAULTS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawDefault {
    pub relation: u32,
    pub number: i16,
    /// As `pg_get_expr` prints it, and prettily.
    pub texts: [String; 2],
}

/// One row of [`CASTS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawCast {
    /// (OID, name) of the types that it is from and to.
    pub types: [(u32, String); 2],
    pub function: String,
}

/// One row of [`FUNCTIONS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFunction {
    pub schema: String,
    pub name: String,
    pub language: String,
    /// It can be called as a row's attribute: `r.f` is `f(r)`.
    pub takes_row: bool,
}

/// Run once on a new connection: names print qualified, and a lock held for long fails the query, not the proxy.
pub const SESSION: &str = "SET search_path = ''; SET lock_timeout = '2s'; SET statement_timeout = '30s'; \
     SET default_transaction_read_only = on";

pub const SCHEMAS: &str = "SELECT n.nspname::text FROM pg_catalog.pg_namespace n";

/// Everything that a name in FROM may mean: system relations too, so that their names resolve.
pub const RELATIONS: &str = "\
    SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r','p','v','m','f','S','c']::\"char\"[]) \
      AND n.nspname OPERATOR(pg_catalog.<>) 'pg_toast'";

/// `altered` compares the transaction that wrote the column's row with the one that wrote the table's system columns.
pub const COLUMNS: &str = "\
    SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, \
           pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, \
           (a.attgenerated OPERATOR(pg_catalog.<>) ''), \
           coalesce(a.xmin::text OPERATOR(pg_catalog.<>) s.xmin::text, false) \
    FROM pg_catalog.pg_attribute a \
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid \
    LEFT JOIN pg_catalog.pg_attribute s \
      ON s.attrelid OPERATOR(pg_catalog.=) a.attrelid \
     AND s.attnum OPERATOR(pg_catalog.=) (-6)::int2 \
    WHERE a.attnum OPERATOR(pg_catalog.>) 0::int2 AND NOT a.attisdropped \
      AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r','p','v','m','f','S','c']::\"char\"[]) \
      AND c.relnamespace OPERATOR(pg_catalog.<>) 99::oid \
    ORDER BY a.attrelid, a.attnum";

pub const PARENTS: &str = "SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i";

/// A key that is checked late does not hold at every moment, and one of a parent not for its children.
pub const KEYS: &str = "\
    SELECT k.indrelid, k.indkey::int2[] \
    FROM pg_catalog.pg_index k JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.indrelid \
    WHERE k.indisprimary AND k.indimmediate AND k.indisvalid AND k.indrelid OPERATOR(pg_catalog.>=) 16384::oid \
      AND (c.relkind OPERATOR(pg_catalog.=) 'p' OR NOT c.relhassubclass)";

/// Defaults of columns of the sealed types. They name no column, so no relation is given to show them, and none is locked.
pub const DEFAULTS: &str = "\
    SELECT d.adrelid, d.adnum, pg_catalog.pg_get_expr(d.adbin, 0::oid), \
           pg_catalog.pg_get_expr(d.adbin, 0::oid, true) \
    FROM pg_catalog.pg_attrdef d \
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) d.adrelid \
      AND a.attnum OPERATOR(pg_catalog.=) d.adnum AND a.attgenerated OPERATOR(pg_catalog.=) '' \
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid AND t.typtype OPERATOR(pg_catalog.=) 'd' \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace \
    WHERE n.nspname OPERATOR(pg_catalog.=) 'pgveil' ORDER BY 1, 2";

pub const SEALED_TYPES: &str = "\
    SELECT t.oid, t.typarray, t.typname::text \
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace \
    WHERE n.nspname OPERATOR(pg_catalog.=) 'pgveil' AND t.typtype OPERATOR(pg_catalog.=) 'd'";

pub const FUNCTIONS: &str = "\
    SELECT n.nspname::text, p.proname::text, l.lanname::text, \
      pg_catalog.bool_or(p.pronargs OPERATOR(pg_catalog.-) p.pronargdefaults OPERATOR(pg_catalog.<=) 1 \
        AND (t.typtype OPERATOR(pg_catalog.=) 'c' OR t.typtype OPERATOR(pg_catalog.=) 'p')) IS TRUE \
    FROM pg_catalog.pg_proc p \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
    JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
    LEFT JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) p.proargtypes[0] \
    WHERE n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog','information_schema']::name[]) \
    GROUP BY n.nspname, p.proname, l.lanname";

/// Operators that call what may read anything: functions in C do not run SQL of their own choice.
pub const OPERATORS: &str = "\
    SELECT DISTINCT o.oprname::text \
    FROM pg_catalog.pg_operator o \
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) o.oprcode::oid \
    JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
    WHERE o.oid OPERATOR(pg_catalog.>=) 16384::oid \
      AND l.lanname OPERATOR(pg_catalog.<>) ALL (ARRAY['c','internal']::name[])";

/// Casts that do, as [`OPERATORS`].
pub const CASTS: &str = "\
    SELECT s.oid, s.typname::text, t.oid, t.typname::text, p.proname::text \
    FROM pg_catalog.pg_cast c \
    JOIN pg_catalog.pg_type s ON s.oid OPERATOR(pg_catalog.=) c.castsource \
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) c.casttarget \
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) c.castfunc \
    JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
    WHERE c.oid OPERATOR(pg_catalog.>=) 16384::oid \
      AND l.lanname OPERATOR(pg_catalog.<>) ALL (ARRAY['c','internal']::name[])";

/// The views whose definitions matter: those outside the system schemas.
pub const VIEWS: &str = "\
    SELECT c.oid \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['v','m']::\"char\"[]) \
      AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog','information_schema']::name[])";

/// Definitions of the views in `$1` (`oid[]`). Takes a share lock on each and its tables.
pub const DEFINITIONS: &str = "\
    SELECT v.oid, pg_catalog.pg_get_viewdef(v.oid) FROM pg_catalog.unnest($1::oid[]) AS v(oid)";

/// A short text that changes whenever one of the answers above may: polled each second, so it sums hashes and reads no
/// definitions. Temporary relations are left out, or every session's scratch table would be a new generation.
pub const SIGNATURE: &str = "\
    WITH relation AS ( \
      SELECT c.oid, c.relname, c.relnamespace, c.relkind FROM pg_catalog.pg_class c \
      WHERE c.relpersistence OPERATOR(pg_catalog.<>) 't' \
        AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r','p','v','m','f','S','c']::\"char\"[]) \
        AND c.oid OPERATOR(pg_catalog.>=) 16384::oid \
    ) \
    SELECT pg_catalog.concat_ws(':', \
      (SELECT pg_catalog.concat_ws('/', pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended( \
         pg_catalog.concat_ws(' ', r.oid, r.relnamespace, r.relkind, r.relname), 0))) FROM relation r), \
      (SELECT pg_catalog.sum(pg_catalog.hashint8extended( \
         (a.attrelid::int8 OPERATOR(pg_catalog.*) 65536) OPERATOR(pg_catalog.+) a.attnum, a.xmin::text::int8)) \
       FROM pg_catalog.pg_attribute a JOIN relation r ON r.oid OPERATOR(pg_catalog.=) a.attrelid \
       WHERE a.attnum OPERATOR(pg_catalog.>) 0::int2), \
      (SELECT pg_catalog.sum(pg_catalog.hashint8extended(w.oid::int8, w.xmin::text::int8)) \
       FROM pg_catalog.pg_rewrite w JOIN relation r ON r.oid OPERATOR(pg_catalog.=) w.ev_class), \
      (SELECT pg_catalog.sum(pg_catalog.hashint8extended(i.inhrelid::int8, i.inhparent::int8)) \
       FROM pg_catalog.pg_inherits i), \
      (SELECT pg_catalog.sum(pg_catalog.hashint8extended(k.indexrelid::int8, k.indrelid::int8)) \
       FROM pg_catalog.pg_index k JOIN relation r ON r.oid OPERATOR(pg_catalog.=) k.indrelid \
       WHERE k.indisprimary AND k.indimmediate AND k.indisvalid), \
      (SELECT pg_catalog.sum(pg_catalog.hashtextextended(n.nspname::text, n.oid::int8)) \
       FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.!~) '^pg_(toast_)?temp_'), \
      (SELECT pg_catalog.sum(pg_catalog.hashint8extended(t.oid::int8, t.xmin::text::int8)) \
       FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace \
       WHERE n.nspname OPERATOR(pg_catalog.=) 'pgveil'), \
      (SELECT pg_catalog.sum(pg_catalog.hashint8extended(p.oid::int8, p.xmin::text::int8)) \
       FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.>=) 16384::oid), \
      (SELECT pg_catalog.sum(pg_catalog.hashint8extended(o.oid::int8, o.xmin::text::int8)) \
       FROM pg_catalog.pg_operator o WHERE o.oid OPERATOR(pg_catalog.>=) 16384::oid), \
      (SELECT pg_catalog.sum(pg_catalog.hashint8extended(c.oid::int8, c.xmin::text::int8)) \
       FROM pg_catalog.pg_cast c WHERE c.oid OPERATOR(pg_catalog.>=) 16384::oid))";

/// Columns that are being converted, and the share of their rows that is.
pub const PROGRESS: &str = "\
    SELECT c.name, least(1.0::float8, (coalesce((SELECT pg_catalog.sum(t.rows_done) FROM pgveil.reseal_table t \
             WHERE t.conversion OPERATOR(pg_catalog.=) r.id), 0)::float8 \
           OPERATOR(pg_catalog./) greatest(r.rows_total, 1)::float8)) \
    FROM pgveil.reseal r CROSS JOIN LATERAL pg_catalog.unnest(r.columns) AS c(name) \
    WHERE r.phase OPERATOR(pg_catalog.=) 'filling'";

/// Every user with every role as [`ROLES_OF`] has them; those too that may not log in there, for they may by a certificate or token here.
pub const MEMBERSHIPS: &str = "\
    WITH RECURSIVE able(member, role) AS ( \
      SELECT m.member, m.roleid FROM pg_catalog.pg_auth_members m \
      UNION \
      SELECT a.member, m.roleid FROM able a JOIN pg_catalog.pg_auth_members m ON m.member OPERATOR(pg_catalog.=) a.role \
    ) SELECT u.rolname::text, r.rolname::text FROM able a \
      JOIN pg_catalog.pg_roles u ON u.oid OPERATOR(pg_catalog.=) a.member \
      JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.role";

/// The roles that a user ($1) is a member of, directly or not, itself left out; whether inherited or only settable.
pub const ROLES_OF: &str = "\
    WITH RECURSIVE member(role) AS ( \
      SELECT m.roleid FROM pg_catalog.pg_auth_members m \
      JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) m.member \
      WHERE r.rolname::text OPERATOR(pg_catalog.=) $1 \
      UNION \
      SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN member ON m.member OPERATOR(pg_catalog.=) member.role \
    ) SELECT r.rolname::text FROM pg_catalog.pg_roles r JOIN member ON r.oid OPERATOR(pg_catalog.=) member.role";
