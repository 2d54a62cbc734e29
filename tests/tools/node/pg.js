// What an application does with node-postgres, unchanged: node pg.js URL
//
// Prints what it is answered, one JSON line each; the tests compare what it prints over PostgreSQL itself and through
// pgveil. Needs a database without the table person. Deliberately not: judging the answers.
'use strict'

const { pipeline } = require('node:stream/promises')
const { Client, Pool, types } = require('pg')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')
const copy = require('pg-copy-streams')

const url = process.argv[2]
// A date is what was sent, not midnight somewhere.
types.setTypeParser(types.builtins.DATE, String)

const say = (name, value) => console.log(JSON.stringify([name, value]))
const fields = (result) => result.fields.map((f) => [f.name, f.dataTypeID, f.dataTypeModifier, f.dataTypeSize])
const wrong = async (name, promise) => {
  const error = await promise.then(() => ({}), (error) => error)
  // The message of a wrong value quotes it; the proxy's does not.
  const message = /^22/.test(error.code) ? '' : error.message
  say(name, [error.code, message, error.constraint, error.table, error.position])
}

const create = `
  create table person (
    id serial primary key,
    email varchar(120) not null unique,
    name text,
    born date,
    salary numeric(12,2),
    profile jsonb,
    phone varchar(40),
    note text not null default 'none')`

async function write (client) {
  say('create', (await client.query(create)).command)
  const insert = 'insert into person (email, name, born, salary, profile, phone) values ($1, $2, $3, $4, $5, $6) returning *'
  const values = (n) => [`p${n}@example.org`, `Person ${n}`, `19${60 + n}-02-03`, n * 100.5, { n, tags: ['a', 'b'] }, `+49 151 ${n}`]
  const first = await client.query(insert, values(1))
  say('inserted', [first.rows, fields(first)])
  for (let n = 2; n <= 4; n++) {
    say('prepared', (await client.query({ name: 'insert-person', text: insert, values: values(n) })).rows)
  }
  // Several requests on their way at once: node-postgres queues them.
  const many = await Promise.all([5, 6, 7].map((n) => client.query(insert, values(n))))
  say('queued', many.map((result) => result.rows[0].email))
  say('nulls', (await client.query(insert, ['p8@example.org', null, null, null, '{}', null])).rows)
  say('literals', (await client.query(
    `insert into person (email, name, born) values ('o''neil@example.org', E'O\\'Neil', '2001-12-31'), ('x@example.org', $$dollar$$, null)
     returning email, name, born`)).rows)
}

async function read (client) {
  const binary = { text: 'select id, email, salary, phone, born is null as unborn from person where id <= $1 order by id', values: [3], binary: true }
  const bytes = await client.query(binary)
  say('binary', [bytes.rows, fields(bytes)])
  say('array mode', (await client.query({ text: 'select p.* from person p order by id', rowMode: 'array' })).rows)
  const by = async (condition, values) => (await client.query(`select id, name from person where ${condition} order by id`, values)).rows
  say('equal', await by('email = $1', ['p2@example.org']))
  say('equal literal', await by("email = 'p2@example.org' and salary = 201.00"))
  say('any', await by('email = any($1)', [['p2@example.org', 'p4@example.org', 'nobody']]))
  say('in', await by('email in ($1, $2) or salary = $3', ['p1@example.org', 'p3@example.org', '703.50']))
  say('guarded', await by('phone like $1', ['%15%']))
  say('null', await by('salary is null'))
  say('counted', (await client.query('select count(*), count(name), count(distinct email) from person')).rows)
  say('grouped', (await client.query('select salary, count(*)::int from person where salary is not null group by salary order by 2, min(id)')).rows)
  say('several', (await client.query('select 1 as one; select email from person where id = 1; select 2 as two')).map((result) => result.rows))
}

async function change (client) {
  const update = await client.query("update person set email = $1, profile = $2 where email = $3 returning email, profile", ['new@example.org', JSON.stringify({ new: true }), 'p1@example.org'])
  say('updated', [update.rowCount, update.rows])
  say('moved', (await client.query("update person set name = null, phone = 'none' where salary = $1", [201])).rowCount)
  say('upsert', (await client.query(
    `insert into person (email, name) values ($1, $2)
     on conflict (email) do update set name = excluded.name, note = 'again' returning email, name, note`, ['p3@example.org', 'Third'])).rows)
  say('deleted', (await client.query('delete from person where email = any($1) returning email', [['p7@example.org']])).rows)
  await wrong('duplicate', client.query('insert into person (email) values ($1)', ['p3@example.org']))
  await wrong('missing', client.query('insert into person (name) values ($1)', ['nobody']))
  await wrong('too long', client.query('insert into person (email) values ($1)', ['x'.repeat(121)]))
  await wrong('not a date', client.query('insert into person (email, born) values ($1, $2)', ['d@example.org', 'yesterdayish']))
  await wrong('not a number', client.query('update person set salary = $1', ['a lot']))
}

async function transactions () {
  const pool = new Pool({ connectionString: url, max: 2 })
  const one = await pool.connect()
  await one.query('BEGIN')
  await one.query("update person set name = 'in transaction' where email = $1", ['p3@example.org'])
  say('inside', (await one.query('select name from person where email = $1', ['p3@example.org'])).rows)
  say('outside', (await pool.query('select name from person where email = $1', ['p3@example.org'])).rows)
  await one.query('SAVEPOINT a')
  await wrong('aborted', one.query('select nothing from person'))
  await wrong('still aborted', one.query('select 1'))
  await one.query('ROLLBACK TO SAVEPOINT a')
  await one.query('select name from person where email = $1 for update', ['p4@example.org'])
  await one.query('ROLLBACK')
  say('rolled back', (await one.query('select name from person where email = $1', ['p3@example.org'])).rows)
  one.release()
  await pool.end()
}

async function streams (client) {
  const cursor = client.query(new Cursor('select id, email, profile from person where id > $1 order by id', [0]))
  const parts = []
  for (let rows = await cursor.read(3); rows.length > 0; rows = await cursor.read(3)) parts.push(rows)
  await cursor.close()
  say('cursor', parts)
  const seen = []
  for await (const row of client.query(new QueryStream('select name, phone from person order by id', [], { batchSize: 2 }))) seen.push(row)
  say('stream', seen)
  const into = client.query(copy.from('copy person (email, name, born, salary, profile) from stdin (format csv)'))
  await pipeline([
    'c1@example.org,"Copied, One",1999-01-01,1.50,"{""a"": 1}"\n',
    'c2@example.org,,,,{}\nc3@exam',
    'ple.org,Three,2000-02-29,-3,"[]"\n'
  ], into)
  say('copied in', into.rowCount)
  const chunks = []
  for await (const chunk of client.query(copy.to('copy (select email, name, born, salary, profile from person where email = any(array[\'c1@example.org\', \'c2@example.org\', \'c3@example.org\']) order by id) to stdout'))) chunks.push(chunk)
  say('copied out', Buffer.concat(chunks).toString())
  const bad = client.query(copy.from('copy person (email, born) from stdin'))
  await wrong('copy of a wrong date', pipeline(['z@example.org\tnever\n'], bad))
}

async function migrate (client) {
  await client.query('begin')
  await client.query('alter table person add column seen timestamptz, add column age integer default 3')
  await client.query('create index person_note on person (note)')
  await client.query('alter table person alter column age set not null')
  await client.query('alter table person drop column seen')
  await client.query('commit')
  say('migrated', (await client.query("select email, age from person where email = 'new@example.org'")).rows)
  say('columns', (await client.query(`select column_name, data_type, udt_name, character_maximum_length, numeric_precision, numeric_scale, is_nullable, column_default
    from information_schema.columns where table_name = $1 order by ordinal_position`, ['person'])).rows)
}

async function main () {
  const client = new Client({ connectionString: url, application_name: 'node-postgres' })
  await client.connect()
  await write(client)
  await read(client)
  await change(client)
  await transactions()
  await streams(client)
  await migrate(client)
  await client.end()
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
