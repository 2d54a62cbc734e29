//! What a table has beside columns, rows and indexes, as the statements that give it to the copy in its place.
//!
//! Each query gives one column of text: statements that print themselves, from the catalogs while the table is locked.
//! `@oid`, `@table`, `@copy`, `@converted` and `@lost` stand for the table's OID, its name, the copy's name until then, the
//! names of converted columns and the OIDs of indexes that go. Guarantees: what pg_dump would write of the table is here,
//! in `build` or in `dependents`. Deliberately absent: foreign keys, views, triggers, publications (`dependents`).

use super::super::Failure;
use super::super::spec::{COPY_TRIGGERS, Table};
use crate::server::prepare::literal;
use tokio_postgres::GenericClient;

/// While the table is still there: sequences that would go with it are let go.
const BEFORE: [&str; 1] = [
    "SELECT pg_catalog.format('ALTER SEQUENCE %I.%I OWNED BY NONE', n.nspname, s.relname) FROM pg_catalog.pg_depend d \
     JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace \
     WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass \
       AND d.refobjid = @oid AND d.refobjsubid > 0 AND d.deptype = 'a'",
];

/// When the copy has the table's name and indexes.
const AFTER: [&str; 23] = [
    "SELECT pg_catalog.format('ALTER TABLE %s OWNER TO %I', @table, pg_catalog.pg_get_userbyid(c.relowner)) \
     FROM pg_catalog.pg_class c WHERE c.oid = @oid",
    // What default privileges gave to the copy goes first, and what its owner has without being told.
    "SELECT DISTINCT pg_catalog.format('REVOKE ALL ON %s FROM %s', @table, CASE WHEN a.grantee = 0 THEN 'PUBLIC' \
       ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END) \
     FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a \
     WHERE c.oid = @copy::regclass AND a.grantee <> c.relowner",
    "SELECT pg_catalog.format('REVOKE ALL ON %s FROM %I', @table, pg_catalog.pg_get_userbyid(c.relowner)) \
     FROM pg_catalog.pg_class c WHERE c.oid = @oid AND c.relacl IS NOT NULL",
    "SELECT pg_catalog.format('GRANT %s ON %s TO %s%s', a.privilege_type, @table, CASE WHEN a.grantee = 0 THEN 'PUBLIC' \
       ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END, \
       CASE WHEN a.is_grantable AND a.grantee <> c.relowner THEN ' WITH GRANT OPTION' ELSE '' END) \
     FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a WHERE c.oid = @oid",
    "SELECT pg_catalog.format('GRANT %s (%I) ON %s TO %s%s', a.privilege_type, t.attname, @table, \
       CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END, \
       CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) \
     FROM pg_catalog.pg_attribute t CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) a \
     WHERE t.attrelid = @oid AND t.attnum > 0 AND NOT t.attisdropped",
    // Each partition has its own: what its whole is given is not handed on.
    "SELECT pg_catalog.format('ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT %s', @table, t.attname, \
       pg_catalog.pg_get_expr(d.adbin, d.adrelid)) FROM pg_catalog.pg_attrdef d \
     JOIN pg_catalog.pg_attribute t ON t.attrelid = d.adrelid AND t.attnum = d.adnum \
     WHERE d.adrelid = @oid AND t.attgenerated = '' AND t.attname::text <> ALL (@converted)",
    "SELECT pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', @table, k.conname, pg_catalog.pg_get_constraintdef(k.oid)) \
     FROM pg_catalog.pg_constraint k WHERE k.conrelid = @oid AND k.contype IN ('c', 'n') AND NOT k.convalidated AND k.coninhcount = 0",
    "SELECT pg_catalog.format('ALTER TABLE ONLY %s ALTER COLUMN %I SET STATISTICS %s', @table, t.attname, \
       pg_catalog.to_jsonb(t) ->> 'attstattarget') FROM pg_catalog.pg_attribute t \
     WHERE t.attrelid = @oid AND t.attnum > 0 AND NOT t.attisdropped \
       AND (pg_catalog.to_jsonb(t) ->> 'attstattarget')::int4 >= 0",
    "SELECT pg_catalog.format('ALTER TABLE ONLY %s ALTER COLUMN %I SET (%s)', @table, t.attname, \
       pg_catalog.array_to_string(t.attoptions, ', ')) FROM pg_catalog.pg_attribute t \
     WHERE t.attrelid = @oid AND t.attnum > 0 AND NOT t.attisdropped AND t.attoptions IS NOT NULL",
    "SELECT pg_catalog.format('ALTER INDEX %I.%I ALTER COLUMN %s SET STATISTICS %s', n.nspname, x.relname, t.attnum, \
       pg_catalog.to_jsonb(t) ->> 'attstattarget') FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
     JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace JOIN pg_catalog.pg_attribute t ON t.attrelid = x.oid \
     WHERE i.indrelid = @oid AND x.oid <> ALL (@lost) AND (pg_catalog.to_jsonb(t) ->> 'attstattarget')::int4 >= 0",
    "SELECT pg_catalog.format('ALTER TABLE %s SET (%s)', @table, pg_catalog.array_to_string(c.reloptions, ', ')) \
     FROM pg_catalog.pg_class c WHERE c.oid = @oid AND c.reloptions IS NOT NULL",
    "SELECT pg_catalog.format('ALTER TABLE %s CLUSTER ON %I', @table, x.relname) FROM pg_catalog.pg_index i \
     JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = @oid AND i.indisclustered AND x.oid <> ALL (@lost)",
    "SELECT pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY %s', @table, CASE c.relreplident WHEN 'n' THEN 'NOTHING' \
       WHEN 'f' THEN 'FULL' ELSE (SELECT 'USING INDEX ' || pg_catalog.quote_ident(x.relname) FROM pg_catalog.pg_index i \
         JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisreplident) END) \
     FROM pg_catalog.pg_class c WHERE c.oid = @oid AND c.relreplident <> 'd' AND (c.relreplident <> 'i' \
       OR EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indexrelid <> ALL (@lost)))",
    "SELECT pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', @table) \
     FROM pg_catalog.pg_class c WHERE c.oid = @oid AND c.relrowsecurity",
    "SELECT pg_catalog.format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', @table) \
     FROM pg_catalog.pg_class c WHERE c.oid = @oid AND c.relforcerowsecurity",
    "SELECT pg_catalog.format('ALTER SEQUENCE %I.%I OWNED BY %s.%I', n.nspname, s.relname, @table, t.attname) \
     FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' \
     JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace \
     JOIN pg_catalog.pg_attribute t ON t.attrelid = d.refobjid AND t.attnum = d.refobjsubid \
     WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass \
       AND d.refobjid = @oid AND d.refobjsubid > 0 AND d.deptype = 'a'",
    "SELECT pg_catalog.concat(pg_catalog.pg_get_statisticsobjdef(e.oid), pg_catalog.format('; ALTER STATISTICS %I.%I OWNER TO %I', \
         n.nspname, e.stxname, pg_catalog.pg_get_userbyid(e.stxowner)), \
       CASE WHEN (pg_catalog.to_jsonb(e) ->> 'stxstattarget')::int4 >= 0 THEN pg_catalog.format('; ALTER STATISTICS %I.%I SET STATISTICS %s', \
         n.nspname, e.stxname, pg_catalog.to_jsonb(e) ->> 'stxstattarget') END, \
       pg_catalog.format('; COMMENT ON STATISTICS %I.%I IS %L', n.nspname, e.stxname, \
         pg_catalog.obj_description(e.oid, 'pg_statistic_ext'))) \
     FROM pg_catalog.pg_statistic_ext e JOIN pg_catalog.pg_namespace n ON n.oid = e.stxnamespace WHERE e.stxrelid = @oid",
    "SELECT pg_catalog.format('COMMENT ON TABLE %s IS %L', @table, d.description) FROM pg_catalog.pg_description d \
     WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objoid = @oid AND d.objsubid = 0",
    "SELECT pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', @table, t.attname, d.description) \
     FROM pg_catalog.pg_description d JOIN pg_catalog.pg_attribute t ON t.attrelid = d.objoid AND t.attnum = d.objsubid \
     WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objoid = @oid AND d.objsubid > 0",
    "SELECT pg_catalog.format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, @table, d.description) \
     FROM pg_catalog.pg_description d JOIN pg_catalog.pg_constraint k ON k.oid = d.objoid \
     WHERE d.classoid = 'pg_catalog.pg_constraint'::regclass AND k.conrelid = @oid AND k.contype <> 'f'",
    "SELECT pg_catalog.format('COMMENT ON INDEX %I.%I IS %L', n.nspname, x.relname, d.description) \
     FROM pg_catalog.pg_description d JOIN pg_catalog.pg_index i ON i.indexrelid = d.objoid AND i.indexrelid <> ALL (@lost) \
     JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace \
     WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0 AND i.indrelid = @oid",
    "SELECT pg_catalog.format('SECURITY LABEL FOR %I ON TABLE %s IS %L', l.provider, @table, l.label) \
     FROM pg_catalog.pg_seclabel l WHERE l.classoid = 'pg_catalog.pg_class'::regclass AND l.objoid = @oid AND l.objsubid = 0",
    "SELECT pg_catalog.format('SECURITY LABEL FOR %I ON COLUMN %s.%I IS %L', l.provider, @table, t.attname, l.label) \
     FROM pg_catalog.pg_seclabel l JOIN pg_catalog.pg_attribute t ON t.attrelid = l.objoid AND t.attnum = l.objsubid \
     WHERE l.classoid = 'pg_catalog.pg_class'::regclass AND l.objoid = @oid AND l.objsubid > 0",
];

/// Keys over indexes; a tree's copies have them already.
const KEYS: &str = "\
    SELECT pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s USING INDEX %I%s', @table, k.conname, \
       CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, x.relname, \
       CASE WHEN k.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED' WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END) \
     FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class x ON x.oid = k.conindid \
     WHERE k.conrelid = @oid AND k.contype IN ('p', 'u') AND coalesce(pg_catalog.to_jsonb(k) ->> 'conperiod', 'false') = 'false'";

/// Triggers that a partition has of its whole, and that fire there otherwise than new ones would.
const TRIGGERS: &str = "\
    SELECT pg_catalog.format('ALTER TABLE ONLY %s %s TRIGGER %I', @table, CASE g.tgenabled WHEN 'A' THEN 'ENABLE ALWAYS' \
       WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'D' THEN 'DISABLE' ELSE 'ENABLE' END, g.tgname) \
     FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_trigger w ON w.oid = g.tgparentid \
     WHERE g.tgrelid = @oid AND (g.tgenabled <> 'O' OR w.tgenabled <> 'O') AND g.tgname::text <> ALL (@ours)";

/// When the views over it are there again, too.
const LAST: [&str; 4] = [
    "SELECT pg_catalog.concat(pg_catalog.pg_get_ruledef(w.oid), CASE w.ev_enabled WHEN 'O' THEN '' ELSE pg_catalog.format( \
         '; ALTER TABLE %s %s RULE %I', @table, CASE w.ev_enabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' \
         ELSE 'DISABLE' END, w.rulename) END) \
     FROM pg_catalog.pg_rewrite w WHERE w.ev_class = @oid",
    "SELECT pg_catalog.format('COMMENT ON RULE %I ON %s IS %L', w.rulename, @table, d.description) \
     FROM pg_catalog.pg_description d JOIN pg_catalog.pg_rewrite w ON w.oid = d.objoid \
     WHERE d.classoid = 'pg_catalog.pg_rewrite'::regclass AND w.ev_class = @oid",
    "SELECT pg_catalog.concat(pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO ', p.polname, @table, \
         CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, \
         CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END), \
       (SELECT pg_catalog.string_agg(CASE WHEN r.who = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r.who)) END, \
          ', ') FROM pg_catalog.unnest(p.polroles) AS r(who)), \
       ' USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')', \
       ' WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')') \
     FROM pg_catalog.pg_policy p WHERE p.polrelid = @oid",
    "SELECT pg_catalog.format('COMMENT ON POLICY %I ON %s IS %L', p.polname, @table, d.description) \
     FROM pg_catalog.pg_description d JOIN pg_catalog.pg_policy p ON p.oid = d.objoid \
     WHERE d.classoid = 'pg_catalog.pg_policy'::regclass AND p.polrelid = @oid",
];

/// The sequences of identity columns: the table's, then the copy's by its name alone, and what the copy's is to have.
const IDENTITIES: &str = "\
    SELECT pg_catalog.format('%I.%I', n.nspname, s.relname), q.seqcache, \
      pg_catalog.format('ALTER SEQUENCE %I.%I RENAME TO %I', n.nspname, x.relname, s.relname), s.relname = x.relname, \
      pg_catalog.concat(pg_catalog.format('ALTER SEQUENCE %I.%I AS %s INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %s CYCLE', \
          n.nspname, s.relname, q.seqtypid::regtype, q.seqincrement, q.seqmin, q.seqmax, q.seqstart, q.seqcache, CASE WHEN q.seqcycle THEN '' ELSE 'NO' END), \
        (SELECT pg_catalog.string_agg(pg_catalog.format('; GRANT %s ON SEQUENCE %I.%I TO %s%s', a.privilege_type, n.nspname, s.relname, \
            CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END, \
            CASE WHEN a.is_grantable AND a.grantee <> s.relowner THEN ' WITH GRANT OPTION' ELSE '' END), '') \
         FROM pg_catalog.aclexplode(s.relacl) a), \
        pg_catalog.format('; COMMENT ON SEQUENCE %I.%I IS %L', n.nspname, s.relname, pg_catalog.obj_description(s.oid, 'pg_class'))) \
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' \
    JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid \
    JOIN pg_catalog.pg_attribute t ON t.attrelid = d.refobjid AND t.attnum = d.refobjsubid \
    JOIN pg_catalog.pg_attribute u ON u.attrelid = @copy::regclass AND u.attname = t.attname \
    JOIN pg_catalog.pg_depend e ON e.classid = d.classid AND e.refclassid = d.refclassid AND e.refobjid = u.attrelid \
      AND e.refobjsubid = u.attnum AND e.deptype = 'i' \
    JOIN pg_catalog.pg_class x ON x.oid = e.objid AND x.relkind = 'S' \
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass \
      AND d.refobjid = @oid AND d.deptype = 'i'";

/// The statements, in their order.
#[derive(Default)]
pub(super) struct Definition {
    pub(super) before: Vec<String>,
    pub(super) after: Vec<String>,
    pub(super) last: Vec<String>,
    /// When it has its triggers.
    pub(super) firing: Vec<String>,
}

/// What a query asks of this table.
fn said(query: &str, table: &Table, copy: &str, lost: &[u32]) -> String {
    let lost: Vec<String> = lost.iter().map(u32::to_string).collect();
    let converted: Vec<String> = table.columns.iter().map(|column| literal(&column.name)).collect();
    query
        .replace("@oid", &format!("{}::oid", table.oid))
        .replace("@table", &literal(&table.sql()))
        .replace("@copy", &literal(copy))
        .replace("@ours", &format!("ARRAY['{}']", COPY_TRIGGERS.join("', '")))
        .replace("@converted", &format!("ARRAY[{}]::text[]", converted.join(", ")))
        .replace("@lost", &format!("'{{{}}}'::oid[]", lost.join(",")))
}

/// Reads it.
pub(super) async fn read(
    client: &impl GenericClient,
    table: &Table,
    copy: &str,
    lost: &[u32],
    in_tree: bool,
) -> Result<Definition, Failure> {
    let mut definition = Definition::default();
    // Comments on keys, and what a replica identity goes by, come after them.
    let (owner, rest) = AFTER.split_at(7);
    let keys: &[&str] = if in_tree { &[] } else { &[KEYS] };
    for (queries, found) in [
        (BEFORE.to_vec(), &mut definition.before),
        ([owner, keys, rest].concat(), &mut definition.after),
        (LAST.to_vec(), &mut definition.last),
        (vec![TRIGGERS], &mut definition.firing),
    ] {
        let asked = queries.iter().map(|query| said(query, table, copy, lost)).enumerate();
        let parts: Vec<String> = asked
            .map(|(place, query)| format!("SELECT {place} AS place, q.* FROM ({query}) AS q(said)"))
            .collect();
        let query = format!("SELECT s.said FROM ({}) s ORDER BY s.place", parts.join(" UNION ALL "));
        for row in client.query(&query, &[]).await? {
            found.push(row.try_get(0)?);
        }
    }
    Ok(definition)
}

impl Definition {
    /// Takes over where the sequences of identity columns are: they stand still from now on.
    pub(super) async fn stop_sequences(
        &mut self,
        client: &impl GenericClient,
        table: &Table,
        copy: &str,
    ) -> Result<(), Failure> {
        let mut sequences = Vec::new();
        for row in client.query(&said(IDENTITIES, table, copy, &[]), &[]).await? {
            let (name, cache): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            // Changes nothing, and lets nobody take a number before the transaction ends.
            client.batch_execute(&format!("ALTER SEQUENCE {name} CACHE {cache}")).await?;
            let at = client.query_one(&format!("SELECT last_value, is_called FROM {name}"), &[]).await?;
            let (value, called): (i64, bool) = (at.try_get(0)?, at.try_get(1)?);
            if !row.try_get::<_, bool>(3)? {
                sequences.push(row.try_get(2)?);
            }
            sequences.push(row.try_get(4)?);
            sequences.push(format!("SELECT pg_catalog.setval({}, {value}, {called})", literal(&name)));
        }
        // After the owner, whose they become with the table.
        self.after.splice(1..1, sequences);
        Ok(())
    }
}
