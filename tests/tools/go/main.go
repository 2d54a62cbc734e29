// What an application does with pgx, unchanged: pgx URL
//
// Prints what it is answered, one line each; the tests compare what it prints over PostgreSQL itself and through pgveil.
// Runs once in each way that pgx has of preparing statements. Needs a database without the table person. Deliberately not:
// judging the answers.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgconn/stmtcache"
	"github.com/jackc/pgtype"
	"github.com/jackc/pgx/v4"
)

var ctx = context.Background()

func say(name string, values ...interface{}) {
	fmt.Println(append([]interface{}{name + ":"}, values...)...)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		panic(err)
	}
}

func wrong(name string, err error) {
	var state *pgconn.PgError
	if errors.As(err, &state) {
		say(name, state.Code, state.ConstraintName, state.TableName)
	} else {
		say(name, err)
	}
}

// All rows, as pgx decodes them by the types it is told.
func all(name string, db *pgx.Conn, sql string, arguments ...interface{}) {
	rows, err := db.Query(ctx, sql, arguments...)
	must(err)
	for _, field := range rows.FieldDescriptions() {
		say(name, string(field.Name), field.DataTypeOID, field.TypeModifier, field.DataTypeSize, field.Format)
	}
	for rows.Next() {
		values, err := rows.Values()
		must(err)
		for i, value := range values {
			if numeric, ok := value.(pgtype.Numeric); ok {
				values[i] = fmt.Sprintf("%de%d", numeric.Int, numeric.Exp)
			}
		}
		say(name, values)
	}
	must(rows.Err())
}

const insert = `insert into person (email, name, born, salary, profile, phone) values ($1, $2, $3, $4, $5, $6) returning id, email, profile`

func arguments(n int) []interface{} {
	return []interface{}{
		fmt.Sprintf("p%d@example.org", n), fmt.Sprintf("Person %d", n), time.Date(1960+n, 2, 3, 0, 0, 0, 0, time.UTC),
		fmt.Sprintf("%d.50", n*100), fmt.Sprintf(`{"n": %d}`, n), fmt.Sprintf("+49 151 %d", n),
	}
}

func write(db *pgx.Conn) {
	_, err := db.Exec(ctx, `create table person (id serial primary key, email varchar(120) not null unique, name text, born date,
		salary numeric(12,2), profile jsonb, phone varchar(40), note text not null default 'none')`)
	must(err)
	for n := 1; n <= 3; n++ {
		var id int
		var email string
		var profile map[string]interface{}
		must(db.QueryRow(ctx, insert, arguments(n)...).Scan(&id, &email, &profile))
		say("inserted", id, email, profile)
	}
	_, err = db.Exec(ctx, "insert into person (email) values ($1)", "null@example.org")
	must(err)
	batch := &pgx.Batch{}
	for n := 4; n <= 6; n++ {
		batch.Queue(insert, arguments(n)...)
	}
	batch.Queue("update person set name = $1 where email = $2", "Batched", "p4@example.org")
	batch.Queue("select id, name from person where email = $1", "p4@example.org")
	results := db.SendBatch(ctx, batch)
	for n := 0; n < batch.Len(); n++ {
		tag, err := results.Exec()
		must(err)
		say("batched", tag)
	}
	must(results.Close())
	salary := &pgtype.Numeric{}
	must(salary.Set("1.25"))
	copied, err := db.CopyFrom(ctx, pgx.Identifier{"person"}, []string{"email", "name", "born", "salary", "note"}, pgx.CopyFromRows([][]interface{}{
		{"c1@example.org", "Copied", time.Date(2000, 2, 29, 0, 0, 0, 0, time.UTC), salary, "binary"},
		{"c2@example.org", nil, nil, nil, "binary"},
	}))
	must(err)
	say("copied", copied)
}

func read(db *pgx.Conn) {
	all("row", db, "select * from person order by id")
	all("equal", db, "select id, email, salary from person where email = $1 or salary = $2 order by id", "p1@example.org", "200.50")
	all("any", db, "select id, born from person where email = any($1) order by id", []string{"p2@example.org", "c1@example.org", "nobody"})
	all("null", db, "select id, name from person where born is null order by id")
	all("guarded", db, "select id, phone from person where phone like $1 order by id", "%151 3")
	all("counted", db, "select count(*), count(salary), count(distinct email) from person")
	all("formats", db, "select id, email, born, salary from person where id <= 2 order by id", pgx.QueryResultFormats{pgx.TextFormatCode, pgx.BinaryFormatCode, pgx.TextFormatCode, pgx.TextFormatCode})
	var out strings.Builder
	tag, err := db.PgConn().CopyTo(ctx, &out, "copy (select email, name, born, salary from person order by id) to stdout (format csv)")
	must(err)
	say("copied out", tag, out.String())
}

func change(db *pgx.Conn) {
	tx, err := db.Begin(ctx)
	must(err)
	tag, err := tx.Exec(ctx, "update person set name = $1, profile = $2 where email = $3", "In transaction", `{"a": [1]}`, "p1@example.org")
	must(err)
	say("updated", tag)
	inner, err := tx.Begin(ctx)
	must(err)
	_, err = inner.Exec(ctx, "insert into person (email) values ($1)", "p2@example.org")
	wrong("duplicate", err)
	must(inner.Rollback(ctx))
	_, err = tx.Exec(ctx, "declare people cursor for select id, email from person order by id")
	must(err)
	all("fetched", tx.Conn(), "fetch 2 from people")
	all("fetched", tx.Conn(), "fetch 1 from people")
	must(tx.Rollback(ctx))
	all("rolled back", db, "select name, profile from person where email = $1", "p1@example.org")
	_, err = db.Exec(ctx, "insert into person (email, name) values ($1, $2) on conflict (email) do update set name = excluded.name", "p1@example.org", "Again")
	must(err)
	tag, err = db.Exec(ctx, "delete from person where email = $1", "p5@example.org")
	must(err)
	say("deleted", tag)
	_, err = db.Exec(ctx, "insert into person (email) values ($1)", strings.Repeat("x", 121))
	wrong("too long", err)
	_, err = db.Exec(ctx, "insert into person (name) values ($1)", "nobody")
	wrong("missing", err)
	_, err = db.Exec(ctx, "alter table person add column age integer not null default 3, add column seen timestamptz")
	must(err)
	_, err = db.Exec(ctx, "create index person_note on person (note)")
	must(err)
	all("migrated", db, "select p.* from person p where p.email = $1", "p1@example.org")
}

func main() {
	cached := func(mode int) func(*pgx.ConnConfig) {
		return func(config *pgx.ConnConfig) {
			config.BuildStatementCache = func(db *pgconn.PgConn) stmtcache.Cache { return stmtcache.New(db, mode, 64) }
		}
	}
	ways := []struct {
		name  string
		apply func(*pgx.ConnConfig)
	}{
		{"prepare", cached(stmtcache.ModePrepare)},
		{"describe", cached(stmtcache.ModeDescribe)},
		{"none", func(config *pgx.ConnConfig) { config.BuildStatementCache = nil }},
		{"simple", func(config *pgx.ConnConfig) { config.PreferSimpleProtocol = true }},
	}
	for i, way := range ways {
		config, err := pgx.ParseConfig(os.Args[1])
		must(err)
		way.apply(config)
		say("way", way.name)
		db, err := pgx.ConnectConfig(ctx, config)
		must(err)
		if i > 0 {
			_, err = db.Exec(ctx, "drop table person")
			must(err)
		}
		write(db)
		read(db)
		change(db)
		must(db.Close(ctx))
	}
}
