// What an application does with pgjdbc, unchanged: java Jdbc URL
//
// Prints what it is answered, one line each; the tests compare what it prints over PostgreSQL itself and through pgveil.
// Needs a database without the table person. Deliberately not: judging the answers.

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.math.BigDecimal;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.ParameterMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

public class Jdbc {
    static void say(String name, Object value) {
        System.out.println(name + ": " + value);
    }

    static Connection connect(String url, String more) throws SQLException {
        URI uri = URI.create(url);
        String[] user = uri.getUserInfo().split(":");
        return DriverManager.getConnection(
            "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath() + "?sslmode=disable" + more, user[0], user[1]);
    }

    static List<List<String>> rows(ResultSet result, String... without) throws SQLException {
        ResultSetMetaData about = result.getMetaData();
        List<List<String>> rows = new ArrayList<>();
        while (result.next()) {
            List<String> row = new ArrayList<>();
            for (int i = 1; i <= about.getColumnCount(); i++) {
                if (!Arrays.asList(without).contains(about.getColumnName(i))) row.add(result.getString(i));
            }
            rows.add(row);
        }
        result.close();
        return rows;
    }

    static List<List<String>> described(ResultSetMetaData about) throws SQLException {
        List<List<String>> columns = new ArrayList<>();
        for (int i = 1; i <= about.getColumnCount(); i++) {
            columns.add(List.of(about.getColumnName(i), about.getColumnTypeName(i), about.getColumnClassName(i), "" + about.getColumnType(i),
                "" + about.getPrecision(i), "" + about.getScale(i), "" + about.getColumnDisplaySize(i), about.getTableName(i),
                "" + about.isNullable(i), "" + about.isAutoIncrement(i)));
        }
        return columns;
    }

    interface Action {
        void run() throws Exception;
    }

    static void wrong(String name, Action action) {
        try {
            action.run();
            say(name, "done");
        } catch (BatchUpdateException error) {
            say(name, error.getSQLState() + " " + Arrays.toString(error.getUpdateCounts()));
        } catch (SQLException error) {
            // The message of a wrong value quotes it; the proxy's does not.
            say(name, error.getSQLState() + (error.getSQLState().startsWith("22") ? "" : " " + error.getMessage().split("\n")[0]));
        } catch (Exception error) {
            say(name, error);
        }
    }

    static void write(Connection db, boolean simple) throws SQLException {
        Statement plain = db.createStatement();
        plain.execute("create table person (id serial primary key, email varchar(120) not null unique, name text, born date,"
            + " salary numeric(12,2), profile jsonb, phone varchar(40), note text not null default 'none')");
        String insert = "insert into person (email, name, born, salary, profile, phone) values (?, ?, ?, ?, ?::jsonb, ?)";
        try (PreparedStatement statement = db.prepareStatement(insert, Statement.RETURN_GENERATED_KEYS)) {
            // More often than the threshold for named statements and binary values.
            for (int n = 1; n <= 8; n++) {
                fill(statement, n);
                statement.executeUpdate();
                say("keys", rows(statement.getGeneratedKeys()));
            }
        }
        try (PreparedStatement statement = db.prepareStatement(insert)) {
            for (int n = 11; n <= 15; n++) {
                fill(statement, n);
                statement.addBatch();
            }
            say("batch", Arrays.toString(statement.executeBatch()));
            // In simple mode the driver would execute the statement to learn of its parameters.
            if (!simple) parameters(statement.getParameterMetaData());
        }
        wrong("failing batch", () -> {
            try (PreparedStatement statement = db.prepareStatement(insert)) {
                for (int n : new int[] {21, 1, 22}) {
                    fill(statement, n);
                    statement.addBatch();
                }
                statement.executeBatch();
            }
        });
        plain.addBatch("insert into person (email, name) values ('b1@example.org', 'Batch')");
        plain.addBatch("update person set name = 'Batched' where email = 'b1@example.org'");
        say("statements", Arrays.toString(plain.executeBatch()));
        say("columns", rows(returning(plain, "insert into person (email) values ('k@example.org')", "email", "profile")));
    }

    static void parameters(ParameterMetaData about) throws SQLException {
        for (int i = 1; i <= about.getParameterCount(); i++) {
            say("parameter", about.getParameterTypeName(i) + " " + about.getParameterType(i) + " " + about.getParameterClassName(i));
        }
    }

    static ResultSet returning(Statement statement, String sql, String... columns) throws SQLException {
        statement.executeUpdate(sql, columns);
        return statement.getGeneratedKeys();
    }

    static void fill(PreparedStatement statement, int n) throws SQLException {
        statement.setString(1, "p" + n + "@example.org");
        statement.setString(2, n % 3 == 0 ? null : "Person " + n);
        statement.setDate(3, Date.valueOf("19" + (60 + n) + "-02-03"));
        statement.setBigDecimal(4, new BigDecimal(n).multiply(new BigDecimal("100.50")));
        statement.setString(5, "{\"n\": " + n + "}");
        if (n % 2 == 0) statement.setNull(6, Types.VARCHAR);
        else statement.setString(6, "+49 151 " + n);
    }

    static void read(Connection db, boolean simple) throws SQLException {
        try (PreparedStatement statement = db.prepareStatement("select * from person where email = ? or salary = ? order by id")) {
            if (!simple) say("described", described(statement.getMetaData()));
            for (int n = 1; n <= 7; n++) {
                statement.setString(1, "p" + n + "@example.org");
                statement.setBigDecimal(2, new BigDecimal("1105.50"));
                ResultSet result = statement.executeQuery();
                while (result.next()) {
                    say("row", List.of(result.getInt("id"), result.getString("email"), "" + result.getObject("name"), "" + result.getDate("born"),
                        "" + result.getBigDecimal("salary"), "" + result.getObject("profile"), "" + result.getString("phone")));
                }
            }
        }
        try (PreparedStatement statement = db.prepareStatement("select id, born from person where email = any(?) order by id")) {
            statement.setArray(1, db.createArrayOf("varchar", new String[] {"p1@example.org", "p2@example.org", "nobody"}));
            say("any", rows(statement.executeQuery()));
        }
        say("in", rows(db.createStatement().executeQuery("select id, email from person where email in ('p3@example.org', 'p4@example.org') order by id")));
        say("guarded", rows(db.createStatement().executeQuery("select id from person where phone like '%151 1%' order by id")));
        db.setAutoCommit(false);
        try (PreparedStatement statement = db.prepareStatement("select id, email, salary, profile from person where id > ? order by id")) {
            statement.setFetchSize(4);
            statement.setInt(1, 2);
            say("fetched", rows(statement.executeQuery()));
        }
        db.commit();
        db.setAutoCommit(true);
        Statement scroll = db.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
        ResultSet editable = scroll.executeQuery("select id, email, name, salary from person where email = 'p2@example.org'");
        editable.next();
        editable.updateString("name", "Edited");
        editable.updateBigDecimal("salary", new BigDecimal("1.25"));
        editable.updateRow();
        say("edited", List.of(editable.getString("name"), editable.getBigDecimal("salary")));
        editable.moveToInsertRow();
        editable.updateString("email", "inserted@example.org");
        editable.updateString("name", "Row");
        editable.insertRow();
        editable.close();
        say("edits", rows(db.createStatement().executeQuery("select email, name, salary from person where email in ('p2@example.org', 'inserted@example.org') order by id")));
    }

    static void change(Connection db) throws Exception {
        db.setAutoCommit(false);
        try (PreparedStatement update = db.prepareStatement("update person set name = ?, profile = cast(? as jsonb) where email = ?")) {
            update.setString(1, "In transaction");
            update.setString(2, "[1]");
            update.setString(3, "p3@example.org");
            say("updated", update.executeUpdate());
            Savepoint savepoint = db.setSavepoint("here");
            wrong("inside", () -> db.createStatement().executeUpdate("insert into person (email) values ('p1@example.org')"));
            wrong("aborted", () -> db.createStatement().executeQuery("select 1"));
            db.rollback(savepoint);
            update.setString(3, "nobody");
            say("nobody", update.executeUpdate());
        }
        db.rollback();
        say("rolled back", rows(db.createStatement().executeQuery("select name from person where email = 'p3@example.org'")));
        db.setAutoCommit(true);
        say("upsert", db.createStatement().executeUpdate("insert into person (email, name) values ('p3@example.org', 'x') on conflict (email) do update set name = excluded.name"));
        say("deleted", db.createStatement().executeUpdate("delete from person where email = 'p4@example.org'"));
        wrong("too long", () -> db.createStatement().executeUpdate("insert into person (email) values ('" + "x".repeat(121) + "')"));
        wrong("not a date", () -> db.createStatement().executeUpdate("insert into person (email, born) values ('d', 'never')"));
        wrong("missing", () -> db.createStatement().executeUpdate("insert into person (name) values ('d')"));
        CopyManager copy = db.unwrap(PGConnection.class).getCopyAPI();
        say("copied in", copy.copyIn("copy person (email, name, born, salary) from stdin with csv",
            new ByteArrayInputStream("c1@example.org,\"One, of two\",2000-02-29,1\nc2@example.org,,,\n".getBytes(StandardCharsets.UTF_8))));
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        copy.copyOut("copy (select email, name, born, salary from person where id > 10 order by id) to stdout", out);
        say("copied out", out);
        wrong("copy of a wrong date", () -> copy.copyIn("copy person (email, born) from stdin", new ByteArrayInputStream("z\tnever\n".getBytes(StandardCharsets.UTF_8))));
        db.createStatement().execute("alter table person add column age integer not null default 3");
        db.createStatement().execute("create index person_note on person (note)");
        say("cached", rows(db.prepareStatement("select * from person where email = 'p1@example.org'").executeQuery()));
    }

    // The schema of the sealed types is pgveil's own, and shows with its types.
    static void introspect(Connection db) throws SQLException {
        DatabaseMetaData about = db.getMetaData();
        String[] oids = {"TABLE_CAT", "FUNCTION_CAT"};
        say("tables", rows(about.getTables(null, "public", "%", new String[] {"TABLE", "VIEW"}), oids));
        say("table columns", rows(about.getColumns(null, "public", "person", "%"), oids));
        say("keys", rows(about.getPrimaryKeys(null, "public", "person"), oids));
        say("indexes", rows(about.getIndexInfo(null, "public", "person", false, false), oids));
        say("best", rows(about.getBestRowIdentifier(null, "public", "person", DatabaseMetaData.bestRowSession, true)));
        say("imported", rows(about.getImportedKeys(null, "public", "person")));
        say("exported", rows(about.getExportedKeys(null, "public", "person")));
        say("privileges", rows(about.getTablePrivileges(null, "public", "person"), oids));
        say("column privileges", rows(about.getColumnPrivileges(null, "public", "person", "email"), oids));
        List<List<String>> types = rows(about.getTypeInfo());
        List<List<String>> known = rows(db.createStatement().executeQuery("select typname from pg_type where typnamespace = 'pg_catalog'::regnamespace"));
        types.removeIf(type -> !type.get(0).endsWith("serial") && !known.contains(type.subList(0, 1)));
        say("types", new LinkedHashSet<>(types));
        List<List<String>> schemas = rows(about.getSchemas(), "TABLE_CATALOG");
        schemas.removeIf(schema -> schema.get(0).equals("pgveil"));
        say("schemas", schemas);
        say("functions", rows(about.getFunctions(null, "public", "%"), oids));
    }

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        for (String more : new String[] {"", "&prepareThreshold=1&defaultRowFetchSize=3&reWriteBatchedInserts=true", "&preferQueryMode=simple", "&preferQueryMode=extendedForPrepared"}) {
            say("mode", more);
            try (Connection db = connect(url, more)) {
                boolean simple = more.contains("simple");
                write(db, simple);
                read(db, simple);
                change(db);
                introspect(db);
                db.createStatement().execute("drop table person");
            }
        }
        // What is checked afterwards: a table that is there.
        try (Connection db = connect(url, "")) {
            write(db, false);
        }
    }
}
