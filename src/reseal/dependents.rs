//! What depends on the columns: what is dropped and made again around the change of type, and what stands in its way.
//!
//! Guarantees: views come with owner, options, grants, comments, triggers, rules and indexes; nothing is dropped with
//! CASCADE, so that what is not known here fails the swap instead of going. Deliberately absent: rows.

use super::indexes::{self, Index};
use super::publications::{self, Membership};
use super::spec::{COPY_TRIGGERS, Form, Spec, TRIGGERS, Table};
use super::{Failure, copy};
use crate::server::prepare::{literal, quoted};
use tokio_postgres::GenericClient;

/// Why columns cannot be converted as they stand, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub what: String,
    pub remedy: String,
}

/// A view or materialized view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub schema: String,
    pub name: String,
    pub drop: String,
    /// `CREATE … AS`, without its name and what follows.
    pub definition: String,
    pub create: String,
    /// Owner, grants, comments, triggers, rules, indexes.
    pub after: Vec<String>,
}

impl View {
    /// `schema.name` in SQL.
    pub(super) fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// A constraint, trigger or default: how it goes, and how it comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// For people.
    pub text: String,
    pub table: u32,
    /// The table's name as the statements have it.
    pub on: String,
    pub drop: String,
    pub create: String,
}

/// The default of a converted column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Default {
    /// Indexes of the table and the column in the recipe.
    pub table: usize,
    pub column: usize,
    /// The table or partition that has it, in SQL.
    pub on: String,
    pub expression: String,
}

/// Everything that goes and comes back, in the order in which it comes back.
#[derive(Clone, Debug, std::default::Default, PartialEq, Eq)]
pub struct Dependents {
    pub views: Vec<View>,
    pub indexes: Vec<Index>,
    pub triggers: Vec<Part>,
    pub foreign: Vec<Part>,
    /// (foreign key, `ALTER TABLE … VALIDATE CONSTRAINT …`).
    pub validate: Vec<String>,
    pub defaults: Vec<Default>,
    /// CHECK constraints, which PostgreSQL makes again itself, if it can.
    pub checks: Vec<Part>,
    /// Publications that name the tables or their partitions.
    pub publications: Vec<Membership>,
    pub obstacles: Vec<Obstacle>,
}

/// The columns with those of partitions, as two arrays; `$1` and `$2` of the queries below.
#[derive(Clone)]
pub(super) struct Targets {
    pub(super) relations: Vec<u32>,
    pub(super) numbers: Vec<i16>,
}

const TARGET: &str = "WITH RECURSIVE target AS (SELECT r AS relation, n AS number \
     FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::int2[])) AS u(r, n))";

/// Looks for everything.
///
/// # Errors
/// The connection is gone or the database refuses.
pub(super) async fn dependents(client: &impl GenericClient, spec: &Spec) -> Result<Dependents, Failure> {
    let targets = targets(client, spec).await?;
    let (spread, wholes) = copy::tree::spread(client, spec).await?;
    let whole_of = |table: u32| wholes.get(&table).copied().unwrap_or(table);
    // A table that is copied loses all that hangs on it, and not only on the columns.
    let reached = if spec.is_copied() { whole(client, &spread).await? } else { targets.clone() };
    let mut found = Dependents { views: views(client, &reached).await?, ..Dependents::default() };
    found.indexes = indexes::indexes(client, &spread, &mut found.obstacles).await?;
    for index in &mut found.indexes {
        index.whole = whole_of(index.table);
    }
    found.triggers = triggers(client, &reached).await?;
    for trigger in &mut found.triggers {
        trigger.table = whole_of(trigger.table);
    }
    foreign_keys(client, &reached, &mut found).await?;
    for (at, table) in spec.tables.iter().enumerate() {
        for node in copy::tree::nodes(client, table).await? {
            defaults(client, at, &node, &mut found.defaults).await?;
        }
    }
    for table in &spread.tables {
        found.checks.extend(checks(client, table, whole_of(table.oid)).await?);
    }
    obstacles(client, &targets, &mut found.obstacles).await?;
    found.publications = publications::memberships(client, spec).await?;
    publications::obstacles(client, spec, &found.publications, &mut found.obstacles).await?;
    found.obstacles.extend(compared(client, spec).await?);
    found.obstacles.extend(copy::obstacles::obstacles(client, &spread, &found).await?);
    found.obstacles.extend(not_ours(client, &spread, &found).await?);
    Ok(found)
}

/// The defaults that one table or partition has by itself.
async fn defaults(
    client: &impl GenericClient,
    at: usize,
    table: &Table,
    found: &mut Vec<Default>,
) -> Result<(), Failure> {
    let query = "SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d \
                 WHERE d.adrelid = $1 AND d.adnum = $2";
    for (column, own) in table.columns.iter().enumerate() {
        if let Some(row) = client.query_opt(query, &[&table.oid, &own.number]).await? {
            found.push(Default { table: at, column, on: table.sql(), expression: row.try_get(0)? });
        }
    }
    Ok(())
}

/// What the swap changes and this session may not: better found now than after hours.
async fn not_ours(
    client: &impl GenericClient,
    spec: &Spec,
    found: &Dependents,
) -> Result<Vec<Obstacle>, Failure> {
    let query = "\
        SELECT 'relation ' || r.name FROM pg_catalog.unnest($1::text[]) AS r(name) \
        JOIN pg_catalog.pg_class c ON c.oid = r.name::regclass WHERE NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') \
        UNION SELECT 'type pgveil.' || t.typname FROM pg_catalog.pg_type t \
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace AND n.nspname = 'pgveil' WHERE t.typname = ANY ($2::text[]) \
          AND NOT pg_catalog.pg_has_role(t.typowner, 'USAGE') AND NOT pg_catalog.pg_has_role(n.nspowner, 'USAGE') \
        UNION SELECT 'publication ' || p.pubname FROM pg_catalog.pg_publication p WHERE p.pubname = ANY ($3::text[]) \
          AND NOT pg_catalog.pg_has_role(p.pubowner, 'USAGE') ORDER BY 1";
    let mut relations: Vec<String> = spec.tables.iter().map(Table::sql).collect();
    relations.extend(found.foreign.iter().map(|part| part.on.clone()));
    relations.extend(found.views.iter().map(View::sql));
    let types: Vec<&str> = spec.columns().filter_map(|(_, column)| column.leaves()).collect();
    let changes = found.publications.iter().filter(|own| own.sends || spec.is_copied());
    let publications: Vec<&str> = changes.map(|own| own.publication.as_str()).collect();
    let mut obstacles = Vec::new();
    for row in client.query(query, &[&relations, &types, &publications]).await? {
        let name: String = row.try_get(0)?;
        obstacles.push(Obstacle {
            what: format!("{name} belongs to another role, and the swap changes it"),
            remedy: "Name the connection of an administrator, or of its owner, by --database.".to_owned(),
        });
    }
    Ok(obstacles)
}

/// Foreign keys over columns whose cells will not compare.
async fn compared(client: &impl GenericClient, spec: &Spec) -> Result<Vec<Obstacle>, Failure> {
    let mut randomized = spec.clone();
    for table in &mut randomized.tables {
        table.columns.retain(|column| is_randomized(&column.to));
    }
    let mut found = Dependents::default();
    foreign_keys(client, &targets(client, &randomized).await?, &mut found).await?;
    let obstacle = |key: &Part| Obstacle {
        what: format!("{} compares the column, and cells that are sealed at random do not compare", key.text),
        remedy: format!("Drop it ({}), or give the domain seal = \"deterministic\".", key.drop),
    };
    Ok(found.foreign.iter().map(obstacle).collect())
}

pub(super) fn is_randomized(form: &Form) -> bool {
    matches!(form, Form::Sealed { deterministic: false, .. })
}

async fn targets(client: &impl GenericClient, spec: &Spec) -> Result<Targets, Failure> {
    let mut targets = Targets { relations: Vec::new(), numbers: Vec::new() };
    let query = "\
        SELECT a.attrelid, a.attnum FROM pg_catalog.pg_attribute a \
        WHERE a.attname::text = $2 AND NOT a.attisdropped AND (a.attrelid = $1 OR a.attrelid IN \
          (SELECT t.relid::oid FROM pg_catalog.pg_partition_tree($1::oid::regclass) t))";
    for (table, column) in spec.columns() {
        for row in client.query(query, &[&table.oid, &column.name]).await? {
            targets.relations.push(row.try_get(0)?);
            targets.numbers.push(row.try_get(1)?);
        }
    }
    Ok(targets)
}

/// All columns of the tables, and the tables themselves.
async fn whole(client: &impl GenericClient, spec: &Spec) -> Result<Targets, Failure> {
    let mut targets = Targets { relations: Vec::new(), numbers: Vec::new() };
    let query = "SELECT a.attnum FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped \
                 UNION ALL SELECT 0::int2";
    for table in &spec.tables {
        for row in client.query(query, &[&table.oid]).await? {
            targets.relations.push(table.oid);
            targets.numbers.push(row.try_get(0)?);
        }
    }
    Ok(targets)
}

async fn views(client: &impl GenericClient, targets: &Targets) -> Result<Vec<View>, Failure> {
    let query = format!(
        "{TARGET}, reach(view, depth) AS ( \
           SELECT w.ev_class, 1 FROM target t \
           JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = t.relation \
             AND d.refobjsubid = t.number AND d.classid = 'pg_catalog.pg_rewrite'::regclass \
           JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid AND w.ev_class <> t.relation \
           UNION \
           SELECT w.ev_class, r.depth + 1 FROM reach r \
           JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = r.view \
             AND d.classid = 'pg_catalog.pg_rewrite'::regclass \
           JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid AND w.ev_class <> r.view) \
         SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, pg_catalog.pg_get_viewdef(c.oid), \
           pg_catalog.pg_get_userbyid(c.relowner)::text, pg_catalog.array_to_string(c.reloptions, ', '), \
           c.relispopulated, pg_catalog.obj_description(c.oid, 'pg_class') \
         FROM (SELECT view, pg_catalog.max(depth) AS depth FROM reach GROUP BY view) v \
         JOIN pg_catalog.pg_class c ON c.oid = v.view JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('v', 'm') ORDER BY v.depth, c.oid"
    );
    let mut found = Vec::new();
    for row in client.query(&query, &[&targets.relations, &targets.numbers]).await? {
        let oid: u32 = row.try_get(0)?;
        let (schema, name, kind): (String, String, String) =
            (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let (definition, owner): (String, String) = (row.try_get(4)?, row.try_get(5)?);
        let (options, populated): (Option<String>, bool) = (row.try_get(6)?, row.try_get(7)?);
        let comment: Option<String> = row.try_get(8)?;
        let kind = if kind == "m" { "MATERIALIZED VIEW" } else { "VIEW" };
        let sql = format!("{}.{}", quoted(&schema), quoted(&name));
        let options = options.map(|options| format!(" WITH ({options})")).unwrap_or_default();
        let definition = definition.trim_end().trim_end_matches(';').to_owned();
        let data = if kind == "VIEW" {
            ""
        } else if populated {
            " WITH DATA"
        } else {
            " WITH NO DATA"
        };
        let mut after = vec![format!("ALTER {kind} {sql} OWNER TO {}", quoted(&owner))];
        after.extend(comment.map(|text| format!("COMMENT ON {kind} {sql} IS {}", literal(&text))));
        around_view(client, oid, &sql, &mut after).await?;
        found.push(View {
            drop: format!("DROP {kind} {sql}"),
            create: format!("CREATE {kind} {sql}{options} AS {definition}{data}"),
            definition,
            schema,
            name,
            after,
        });
    }
    Ok(found)
}

/// Statements that print themselves: each query gives one column of text.
async fn around_view(
    client: &impl GenericClient,
    oid: u32,
    sql: &str,
    after: &mut Vec<String>,
) -> Result<(), Failure> {
    let body = format!(
        "DECLARE who text; BEGIN FOR who IN SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' \
           ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END \
         FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a \
         WHERE c.oid = {view}::regclass AND a.grantee <> c.relowner \
         LOOP EXECUTE {revoke} || who; END LOOP; END",
        view = literal(sql),
        revoke = literal(&format!("REVOKE ALL ON {sql} FROM ")),
    );
    let revoke = format!("DO {}", literal(&body));
    let queries = [
        "SELECT pg_catalog.format('GRANT %s ON %s TO %s%s', a.privilege_type, $2::text, \
           CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END, \
           CASE WHEN a.is_grantable AND a.grantee <> c.relowner THEN ' WITH GRANT OPTION' ELSE '' END) \
         FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a WHERE c.oid = $1",
        "SELECT pg_catalog.format('GRANT %s (%I) ON %s TO %s%s', a.privilege_type, t.attname, $2::text, \
           CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END, \
           CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) \
         FROM pg_catalog.pg_attribute t CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) a WHERE t.attrelid = $1",
        "SELECT pg_catalog.format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', $2::text, t.attname, \
           pg_catalog.pg_get_expr(d.adbin, d.adrelid)) FROM pg_catalog.pg_attrdef d \
         JOIN pg_catalog.pg_attribute t ON t.attrelid = d.adrelid AND t.attnum = d.adnum WHERE d.adrelid = $1",
        "SELECT pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', $2::text, t.attname, \
           pg_catalog.col_description(t.attrelid, t.attnum)) FROM pg_catalog.pg_attribute t \
         WHERE t.attrelid = $1 AND t.attnum > 0 AND pg_catalog.col_description(t.attrelid, t.attnum) IS NOT NULL",
        "SELECT pg_catalog.pg_get_indexdef(i.indexrelid) FROM pg_catalog.pg_index i WHERE i.indrelid = $1 AND $2::text <> ''",
        "SELECT pg_catalog.pg_get_ruledef(w.oid) FROM pg_catalog.pg_rewrite w \
         WHERE w.ev_class = $1 AND w.rulename::text <> '_RETURN' AND $2::text <> ''",
        "SELECT pg_catalog.pg_get_triggerdef(g.oid) FROM pg_catalog.pg_trigger g \
         WHERE g.tgrelid = $1 AND NOT g.tgisinternal AND $2::text <> ''",
    ];
    // What default privileges gave to the new one goes first.
    after.push(revoke);
    for query in queries {
        for row in client.query(query, &[&oid, &sql]).await? {
            after.push(row.try_get(0)?);
        }
    }
    Ok(())
}

/// A further statement, for what has one.
fn comment(text: Option<String>, of: &str) -> String {
    text.map_or_else(String::new, |text| format!("; COMMENT ON {of} IS {}", literal(&text)))
}

async fn triggers(client: &impl GenericClient, targets: &Targets) -> Result<Vec<Part>, Failure> {
    let query = format!(
        "{TARGET} SELECT DISTINCT g.oid, g.tgrelid, g.tgname::text, pg_catalog.format('%I.%I', n.nspname, c.relname), \
           pg_catalog.pg_get_triggerdef(g.oid), g.tgenabled::text, pg_catalog.obj_description(g.oid, 'pg_trigger') \
         FROM target t JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.relation \
         JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_trigger'::regclass AND d.objid = g.oid \
           AND d.refobjid = t.relation AND d.refobjsubid = t.number \
         JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE NOT g.tgisinternal AND g.tgparentid = 0 AND g.tgname::text <> ALL ($3::text[]) ORDER BY g.oid"
    );
    let ours = [TRIGGERS, COPY_TRIGGERS].concat();
    let mut found = Vec::new();
    for row in client.query(&query, &[&targets.relations, &targets.numbers, &ours]).await? {
        let (name, on, create): (String, String, String) =
            (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        let enabled: String = row.try_get(5)?;
        let state = match enabled.as_str() {
            "A" => "ENABLE ALWAYS",
            "R" => "ENABLE REPLICA",
            "D" => "DISABLE",
            _ => "ENABLE",
        };
        found.push(Part {
            text: format!("trigger {name} of {on}"),
            table: row.try_get(1)?,
            drop: format!("DROP TRIGGER {} ON {on}", quoted(&name)),
            create: format!(
                "{create}; ALTER TABLE {on} {state} TRIGGER {}{}",
                quoted(&name),
                comment(row.try_get(6)?, &format!("TRIGGER {} ON {on}", quoted(&name)))
            ),
            on,
        });
    }
    Ok(found)
}

async fn foreign_keys(
    client: &impl GenericClient,
    targets: &Targets,
    found: &mut Dependents,
) -> Result<(), Failure> {
    let query = format!(
        "{TARGET} SELECT DISTINCT c.oid, c.conrelid, c.conname::text, pg_catalog.format('%I.%I', n.nspname, r.relname), \
           pg_catalog.pg_get_constraintdef(c.oid), r.relkind = 'p', c.convalidated, \
           pg_catalog.obj_description(c.oid, 'pg_constraint') \
         FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class r ON r.oid = c.conrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace \
         JOIN target t ON (t.relation = c.conrelid AND t.number = ANY (c.conkey)) \
           OR (t.relation = c.confrelid AND t.number = ANY (c.confkey)) \
         WHERE c.contype = 'f' AND c.conparentid = 0 ORDER BY c.oid"
    );
    for row in client.query(&query, &[&targets.relations, &targets.numbers]).await? {
        let (name, on, definition): (String, String, String) =
            (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        let (partitioned, validated): (bool, bool) = (row.try_get(5)?, row.try_get(6)?);
        let later = validated && !partitioned;
        let suffix = if later { " NOT VALID" } else { "" };
        if later {
            found.validate.push(format!("ALTER TABLE {on} VALIDATE CONSTRAINT {}", quoted(&name)));
        }
        found.foreign.push(Part {
            text: format!("foreign key {name} of {on}"),
            table: row.try_get(1)?,
            drop: format!("ALTER TABLE {on} DROP CONSTRAINT {}", quoted(&name)),
            create: format!(
                "ALTER TABLE {on} ADD CONSTRAINT {} {definition}{suffix}{}",
                quoted(&name),
                comment(row.try_get(7)?, &format!("CONSTRAINT {} ON {on}", quoted(&name)))
            ),
            on,
        });
    }
    Ok(())
}

/// The CHECKs that a table or partition has by itself, over the columns.
async fn checks(client: &impl GenericClient, table: &Table, whole: u32) -> Result<Vec<Part>, Failure> {
    let numbers: Vec<i16> = table.columns.iter().map(|column| column.number).collect();
    let query = "SELECT c.conname::text, pg_catalog.pg_get_constraintdef(c.oid) FROM pg_catalog.pg_constraint c \
                 WHERE c.contype = 'c' AND c.coninhcount = 0 AND c.conrelid = $1 AND c.conkey && $2::int2[] ORDER BY c.conname";
    let mut found = Vec::new();
    for row in client.query(query, &[&table.oid, &numbers]).await? {
        let (name, definition): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        found.push(Part {
            text: format!("constraint {name} of {}", table.text()),
            table: whole,
            drop: format!("ALTER TABLE {} DROP CONSTRAINT {}", table.sql(), quoted(&name)),
            create: if whole == table.oid {
                format!("ADD CONSTRAINT {} {definition}", quoted(&name))
            } else {
                // Two partitions may have it of the same name.
                format!("ADD {definition}")
            },
            on: table.sql(),
        });
    }
    Ok(found)
}

/// (what it is called, query of names, remedy): each gives one column of text.
const IN_THE_WAY: [(&str, &str, &str); 9] = [
    (
        "row filter of publication",
        "SELECT DISTINCT p.pubname::text FROM target t JOIN pg_catalog.pg_depend d ON d.refobjid = t.relation \
           AND d.refobjsubid = t.number AND d.classid = 'pg_catalog.pg_publication_rel'::regclass \
         JOIN pg_catalog.pg_publication_rel r ON r.oid = d.objid AND pg_catalog.to_jsonb(r) ->> 'prqual' IS NOT NULL \
         JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid",
        "Write it without the column: the database cannot compute with sealed cells.",
    ),
    (
        "statistics object",
        "SELECT DISTINCT e.stxname::text FROM target t JOIN pg_catalog.pg_depend d ON d.refobjid = t.relation \
           AND d.refobjsubid = t.number AND d.classid = 'pg_catalog.pg_statistic_ext'::regclass \
         JOIN pg_catalog.pg_statistic_ext e ON e.oid = d.objid AND e.stxexprs IS NOT NULL",
        "Drop it: the database cannot compute with sealed cells.",
    ),
    (
        "row security policy",
        "SELECT DISTINCT p.polname::text FROM target t JOIN pg_catalog.pg_depend d ON d.refobjid = t.relation \
           AND d.refobjsubid = t.number AND d.classid = 'pg_catalog.pg_policy'::regclass \
         JOIN pg_catalog.pg_policy p ON p.oid = d.objid",
        "Drop it, and write it anew when the column is converted.",
    ),
    (
        "generated column",
        // Before PostgreSQL 15 it is the column that depends, not its expression.
        "SELECT DISTINCT a.attname::text FROM target t JOIN pg_catalog.pg_depend d ON d.refobjid = t.relation \
           AND d.refobjsubid = t.number AND d.refclassid = 'pg_catalog.pg_class'::regclass \
         LEFT JOIN pg_catalog.pg_attrdef f ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND f.oid = d.objid \
         JOIN pg_catalog.pg_attribute a ON a.attgenerated <> '' AND ((a.attrelid = f.adrelid AND a.attnum = f.adnum) \
           OR (d.classid = 'pg_catalog.pg_class'::regclass AND a.attrelid = d.objid AND a.attnum = d.objsubid))",
        "The database cannot compute with sealed cells: drop the generated column, or its expression.",
    ),
    (
        "function",
        "SELECT DISTINCT p.oid::regprocedure::text FROM target t JOIN pg_catalog.pg_depend d ON d.refobjid = t.relation \
           AND d.refobjsubid = t.number AND d.classid = 'pg_catalog.pg_proc'::regclass \
         JOIN pg_catalog.pg_proc p ON p.oid = d.objid",
        "Drop it, and write it anew when the column is converted.",
    ),
    (
        "rule",
        "SELECT DISTINCT w.rulename::text FROM target t JOIN pg_catalog.pg_rewrite w ON w.ev_class = t.relation \
         JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid \
           AND d.refobjid = t.relation AND d.refobjsubid = t.number \
         JOIN pg_catalog.pg_class c ON c.oid = t.relation AND c.relkind IN ('r', 'p')",
        "Drop it, and write it anew when the column is converted.",
    ),
    (
        "column with the table's row type",
        "SELECT DISTINCT pg_catalog.format('%s.%I', a.attrelid::regclass, a.attname) FROM target t \
         JOIN pg_catalog.pg_type y ON y.typrelid = t.relation \
         JOIN pg_catalog.pg_attribute a ON a.atttypid IN (y.oid, y.typarray) AND NOT a.attisdropped \
         JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'm')",
        "PostgreSQL does not change a row type that is stored: drop that column.",
    ),
    (
        "partition key over column",
        "SELECT DISTINCT a.attname::text FROM target t JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = t.relation \
           AND t.number = ANY (p.partattrs::int2[]) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.number",
        "A partition key's type is fixed: move the data into a table that is partitioned by something else.",
    ),
    (
        "identity column",
        "SELECT DISTINCT a.attname::text FROM target t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.relation \
           AND a.attnum = t.number AND a.attidentity <> ''",
        "The database makes its values, in clear: ALTER TABLE … ALTER COLUMN … DROP IDENTITY.",
    ),
];

async fn obstacles(
    client: &impl GenericClient,
    targets: &Targets,
    found: &mut Vec<Obstacle>,
) -> Result<(), Failure> {
    for (kind, query, remedy) in IN_THE_WAY {
        let query = format!("{TARGET} {query}");
        for row in client.query(&query, &[&targets.relations, &targets.numbers]).await? {
            let name: String = row.try_get(0)?;
            let what = format!("{kind} {name} depends on the column's type");
            found.push(Obstacle { what, remedy: remedy.to_owned() });
        }
    }
    Ok(())
}
