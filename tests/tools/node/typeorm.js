// What an application does with TypeORM, unchanged: node typeorm.js URL
//
// Its schema is made by synchronize, changed by migrations and by a second synchronize; what synchronize would still
// change is printed too (nothing, if introspection tells the truth). Prints what it is answered, one JSON line each; the
// tests compare what it prints over PostgreSQL itself and through pgveil. Needs a database without the tables person and
// visit. Deliberately not: judging the answers.
'use strict'

require('reflect-metadata')
const { DataSource, EntitySchema, In, IsNull, Not, QueryFailedError, TableColumn } = require('typeorm')

const url = process.argv[2]
const say = (name, value) => console.log(JSON.stringify([name, value]))

const person = (more) => new EntitySchema({
  name: 'Person',
  tableName: 'person',
  columns: {
    id: { type: 'int', primary: true, generated: true },
    email: { type: 'varchar', length: 120, unique: true },
    name: { type: 'text', nullable: true },
    born: { type: 'date', nullable: true },
    salary: { type: 'numeric', precision: 12, scale: 2, nullable: true },
    profile: { type: 'jsonb', nullable: true },
    phone: { type: 'varchar', length: 40, nullable: true },
    note: { type: 'text', default: 'none' },
    ...more
  },
  relations: { visits: { type: 'one-to-many', target: 'Visit', inverseSide: 'person' } },
  indices: [{ name: 'person_salary', columns: ['salary'] }]
})

const visit = new EntitySchema({
  name: 'Visit',
  tableName: 'visit',
  columns: {
    id: { type: 'uuid', primary: true },
    page: { type: 'varchar' },
    email: { type: 'varchar', length: 120, nullable: true }
  },
  relations: { person: { type: 'many-to-one', target: 'Person', inverseSide: 'visits', onDelete: 'CASCADE', joinColumn: { name: 'person_id' } } }
})

class AddNickname1700000000001 {
  name = 'AddNickname1700000000001'
  async up (runner) {
    await runner.addColumn('person', new TableColumn({ name: 'nickname', type: 'varchar', length: '40', isNullable: true }))
    await runner.query(`UPDATE "person" SET "nickname" = "note", "name" = 'Migrated' WHERE "email" = 'p2@example.org'`)
    await runner.query('CREATE INDEX "person_nickname" ON "person" ("nickname")')
  }

  async down (runner) {
    await runner.dropIndex('person', 'person_nickname')
    await runner.dropColumn('person', 'nickname')
  }
}

async function source (more, migrations = []) {
  const data = new DataSource({ type: 'postgres', url, entities: [person(more), visit], migrations, applicationName: 'typeorm', uuidExtension: 'pgcrypto', installExtensions: false })
  return data.initialize()
}

// What synchronize would do now.
async function pending (data) {
  const log = await data.driver.createSchemaBuilder().log()
  say('pending', log.upQueries.map((query) => query.query))
}

async function write (data) {
  const people = data.getRepository('Person')
  const one = await people.save({ email: 'p1@example.org', name: 'One', born: '1961-02-03', salary: '100.50', profile: { n: 1 }, phone: '+49 151 1' })
  say('saved', one)
  say('many', await people.save([2, 3, 4, 5].map((n) => ({ email: `p${n}@example.org`, name: `Person ${n}`, born: `196${n}-01-01`, salary: String(n), phone: `0${n}` })), { chunk: 2 }))
  const inserted = await data.createQueryBuilder().insert().into('Person').values([{ email: 'q1@example.org', name: null }, { email: 'q2@example.org', name: () => 'NULL' }]).returning('*').execute()
  say('query builder', inserted.raw)
  say('upsert', (await people.upsert([{ email: 'p1@example.org', name: 'Again' }, { email: 'u1@example.org', name: 'New' }], ['email'])).generatedMaps)
  const visits = data.getRepository('Visit')
  await visits.save([1, 2, 3].map((n) => ({ id: `0000000${n}-0000-4000-8000-000000000000`, page: `/${n}`, email: `p${n % 2}@example.org`, person: { id: one.id } })))
  await people.update({ email: 'p2@example.org' }, { salary: '7.25', profile: { changed: true } })
  await people.increment({ email: 'p2@example.org' }, 'id', 1000)
  say('deleted', (await people.delete({ email: In(['p5@example.org']) })).affected)
  one.name = 'Renamed'
  one.profile = { n: 2 }
  say('dirty save', await people.save(one))
}

async function read (data) {
  const people = data.getRepository('Person')
  say('found', await people.findOneBy({ email: 'p1@example.org' }))
  say('where', await people.find({ where: [{ email: In(['p3@example.org', 'p4@example.org']) }, { salary: '7.25' }], order: { id: 'ASC' } }))
  say('not', await people.find({ select: { id: true, email: true }, where: { name: Not(IsNull()), email: Not('p1@example.org') }, order: { id: 'DESC' }, skip: 1, take: 2 }))
  say('count', await people.findAndCount({ where: { born: Not(IsNull()) }, order: { id: 'ASC' }, take: 1 }))
  say('joined', await people.find({ relations: { visits: true }, where: { email: 'p1@example.org' }, order: { visits: { page: 'ASC' } } }))
  say('paged join', await people.find({ relations: { visits: true }, where: { email: In(['p1@example.org', 'p3@example.org']) }, order: { id: 'ASC', visits: { page: 'ASC' } }, skip: 0, take: 2 }))
  say('query', await people.createQueryBuilder('p').leftJoinAndSelect('p.visits', 'v', 'v.email = p.email').where('p.email = :email', { email: 'p1@example.org' }).orderBy('v.page').getMany())
  say('exists', await people.exists({ where: { email: 'nobody' } }))
  say('raw', await people.createQueryBuilder('p').select(['p.salary AS salary', 'count(*)::int AS n']).where('p.salary IS NOT NULL').groupBy('p.salary').orderBy('min(p.id)').getRawMany())
  const seen = []
  for await (const row of await people.createQueryBuilder('p').where('p.email IS NOT NULL').orderBy('p.id').stream()) seen.push(row)
  say('stream', seen)
}

async function transactions (data) {
  await data.transaction(async (manager) => {
    await manager.update('Person', { email: 'p3@example.org' }, { name: 'Kept' })
    await manager.transaction(async (inner) => {
      await inner.update('Person', { email: 'p3@example.org' }, { salary: '1.00' })
      throw new Error('inner')
    }).catch(() => {})
    say('locked', await manager.getRepository('Person').findOne({ where: { email: 'p3@example.org' }, lock: { mode: 'pessimistic_write' } }))
  })
  const failed = await data.getRepository('Person').insert({ email: 'p3@example.org' }).catch((error) => error)
  say('duplicate', [failed instanceof QueryFailedError, failed.code, failed.constraint])
}

async function main () {
  const first = await source({})
  await first.synchronize()
  await pending(first)
  await write(first)
  await read(first)
  await transactions(first)
  await first.destroy()

  const second = await source({ nickname: { type: 'varchar', length: 40, nullable: true } }, [AddNickname1700000000001])
  say('to run', await second.showMigrations())
  say('run', (await second.runMigrations({ transaction: 'each' })).map((migration) => migration.name))
  say('migrated', await second.getRepository('Person').findOneBy({ email: 'p2@example.org' }))
  await pending(second)
  await second.undoLastMigration()
  await pending(second)
  await second.destroy()

  const third = await source({ age: { type: 'int', default: 7 }, seen: { type: 'timestamptz', nullable: true } })
  await third.synchronize()
  await pending(third)
  say('after', await third.getRepository('Person').find({ order: { id: 'ASC' } }))
  const runner = third.createQueryRunner()
  for (const table of await runner.getTables(['person', 'visit'])) say(table.name, table)
  await third.destroy()
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
