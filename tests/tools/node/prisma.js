// What an application does with Prisma, unchanged: node prisma.js URL
//
// The schema engine (the WebAssembly build of the one that `prisma db push`, `migrate deploy` and `db pull` run) makes the
// schema, migrates it and introspects it; the client queries it. Both speak through @prisma/adapter-pg. The client is the
// one that `prisma generate` writes, made in memory, since Prisma's command line begins by downloading an engine from a
// host of its own. Prints what it is answered, one JSON line each; the tests compare what it prints over PostgreSQL itself
// and through pgveil. Needs a database without the tables person, visit and _prisma_migrations. Deliberately not: judging
// the answers.
'use strict'

const fs = require('node:fs')
const { Pool } = require('pg')
const { PrismaPg } = require('@prisma/adapter-pg')
const { bindMigrationAwareSqlAdapterFactory } = require('@prisma/driver-adapter-utils')
const { getDMMF } = require('@prisma/get-dmmf')
const { buildAndSerializeParamGraph } = require('@prisma/param-graph-builder')
const { getPrismaClient } = require('@prisma/client/runtime/client')
const clientVersion = require('@prisma/client/package.json').version

const url = process.argv[2]
const say = (name, value) => console.log(JSON.stringify([name, value]))

const schema = (more) => `
generator client {
  provider = "prisma-client-js"
}

datasource db {
  provider = "postgresql"
}

model Person {
  id      Int       @id @default(autoincrement())
  email   String    @unique @db.VarChar(120)
  name    String?
  born    DateTime? @db.Date
  salary  Decimal?  @db.Decimal(12, 2)
  profile Json?
  phone   String?   @db.VarChar(40)
  note    String    @default("none")
  ${more}
  visits  Visit[]

  @@index([salary])
  @@map("person")
}

model Visit {
  id       String  @id @db.Uuid
  page     String
  email    String? @db.VarChar(120)
  personId Int     @map("person_id")
  person   Person  @relation(fields: [personId], references: [id], onDelete: Cascade)

  @@map("visit")
}
`

// The adapter has no word for the type "char", which the schema engine asks of the catalogs: text, to both.
class CharIsText extends Pool {
  async query (...query) {
    const result = await super.query(...query)
    for (const field of result.fields ?? []) if (field.dataTypeID === 18) field.dataTypeID = 25
    return result
  }
}

async function load () {
  const bg = await import('@prisma/schema-engine-wasm/schema_engine_bg')
  const file = require.resolve('@prisma/schema-engine-wasm').replace(/schema_engine\.js$/, 'schema_engine_bg.wasm')
  const { instance } = await WebAssembly.instantiate(fs.readFileSync(file), { './schema_engine_bg.js': bg })
  bg.__wbg_set_wasm(instance.exports)
  instance.exports.__wbindgen_start()
  return bg.SchemaEngine
}

async function engine (SchemaEngine, datamodel) {
  const factory = bindMigrationAwareSqlAdapterFactory(new PrismaPg(new CharIsText({ connectionString: url })))
  return SchemaEngine.new({ datamodels: [['schema.prisma', datamodel]] }, () => {}, factory)
}

const filters = { externalTables: [], externalEnums: [] }
const files = (content) => ({ files: [{ path: 'schema.prisma', content }] })

async function introspect (schemaEngine, content) {
  const found = await schemaEngine.introspect({ schema: files(content), baseDirectoryPath: '.', force: true, compositeTypeDepth: -1, namespaces: null })
  say('introspected', [found.schema.files[0].content.split('\n'), found.warnings, found.views])
}

function client (datamodel) {
  const dmmf = getDMMF({ datamodel })
  const models = {}
  for (const model of dmmf.datamodel.models) {
    const fields = model.fields.map(({ name, kind, type, relationName, dbName }) => ({ name, kind, type, ...(relationName && { relationName }), ...(dbName && { dbName }) }))
    models[model.name] = { fields, dbName: model.dbName, schema: null }
  }
  const Client = getPrismaClient({
    previewFeatures: [],
    clientVersion,
    engineVersion: 'none',
    activeProvider: 'postgresql',
    inlineSchema: datamodel,
    runtimeDataModel: { models, enums: {}, types: {} },
    parameterizationSchema: buildAndSerializeParamGraph(dmmf),
    compilerWasm: {
      getRuntime: async () => require('@prisma/client/runtime/query_compiler_fast_bg.postgresql.js'),
      getQueryCompilerWasmModule: async () => new WebAssembly.Module(Buffer.from(require('@prisma/client/runtime/query_compiler_fast_bg.postgresql.wasm-base64.js').wasm, 'base64')),
      importName: './query_compiler_fast_bg.js'
    }
  })
  return new Client({ adapter: new PrismaPg({ connectionString: url }) })
}

const wrong = async (name, promise) => {
  const error = await promise.then(() => ({}), (error) => error)
  say(name, [error.code, error.meta?.driverAdapterError?.cause?.originalCode])
}

async function write (prisma) {
  const data = (n) => ({ email: `p${n}@example.org`, name: `Person ${n}`, born: new Date(`196${n}-02-03`), salary: n * 100.5, profile: { n }, phone: `0${n}` })
  say('created', await prisma.person.create({ data: data(1) }))
  say('many', await prisma.person.createMany({ data: [data(2), data(3), { email: 'n@example.org' }] }))
  say('returned', await prisma.person.createManyAndReturn({ data: [data(4), data(5)], select: { email: true, born: true, profile: true } }))
  say('skipped', await prisma.person.createMany({ data: [data(5), data(6)], skipDuplicates: true }))
  say('nested', await prisma.person.create({
    data: { email: 'v@example.org', visits: { create: [1, 2].map((n) => ({ id: `0000000${n}-0000-4000-8000-000000000000`, page: `/${n}`, email: 'v@example.org' })) } },
    include: { visits: { orderBy: { page: 'asc' } } }
  }))
  say('updated', await prisma.person.update({ where: { email: 'p1@example.org' }, data: { name: 'Renamed', profile: { renamed: true } } }))
  say('updated many', await prisma.person.updateMany({ where: { email: { in: ['p2@example.org', 'p3@example.org'] } }, data: { salary: 7 } }))
  for (const name of ['Inserted', 'Updated']) {
    say('upserted', await prisma.person.upsert({ where: { email: 'u@example.org' }, create: { email: 'u@example.org', name }, update: { name } }))
  }
  say('deleted', await prisma.person.delete({ where: { email: 'p6@example.org' } }))
  say('deleted many', await prisma.person.deleteMany({ where: { salary: 502.5 } }))
  await wrong('duplicate', prisma.person.create({ data: { email: 'p1@example.org' } }))
  await wrong('missing', prisma.person.update({ where: { email: 'nobody' }, data: { name: 'x' } }))
  await wrong('too long', prisma.person.create({ data: { email: 'x'.repeat(121) } }))
}

async function read (prisma) {
  say('unique', await prisma.person.findUnique({ where: { email: 'p2@example.org' } }))
  say('first', await prisma.person.findFirst({ where: { salary: 7, name: { not: null } }, orderBy: { id: 'desc' } }))
  say('filtered', await prisma.person.findMany({ where: { OR: [{ email: 'p1@example.org' }, { email: { in: ['p4@example.org', 'none'] } }, { phone: { contains: '3' } }] }, orderBy: { id: 'asc' } }))
  say('not', await prisma.person.findMany({ where: { NOT: { email: { equals: 'p1@example.org' } }, born: null }, select: { id: true, email: true }, orderBy: { id: 'asc' } }))
  say('page', await prisma.person.findMany({ cursor: { email: 'p2@example.org' }, skip: 1, take: 2, orderBy: { id: 'asc' } }))
  say('included', await prisma.person.findMany({ where: { visits: { some: { email: 'v@example.org' } } }, include: { visits: { orderBy: { page: 'desc' } }, _count: { select: { visits: true } } } }))
  say('batched', await Promise.all(['p1@example.org', 'p2@example.org', 'nobody'].map((email) => prisma.person.findUnique({ where: { email }, select: { email: true, name: true } }))))
  say('counted', await prisma.person.count({ where: { salary: 7 } }))
  say('aggregated', await prisma.person.aggregate({ _count: { _all: true, name: true, salary: true }, _max: { id: true } }))
  say('grouped', await prisma.person.groupBy({ by: ['salary'], _count: { _all: true }, orderBy: { _count: { id: 'asc' } }, having: { salary: { not: null } } }).then((groups) => groups.map((group) => JSON.stringify(group)).sort()))
  say('distinct', (await prisma.person.findMany({ distinct: ['salary'], orderBy: { id: 'asc' }, select: { salary: true } })))
  say('raw', await prisma.$queryRaw`SELECT email, profile, born FROM person WHERE email = ${'p1@example.org'}`)
  say('executed', await prisma.$executeRaw`UPDATE person SET name = ${'Raw'} WHERE email = ${'p4@example.org'}`)
}

async function transactions (prisma) {
  say('batch', await prisma.$transaction([
    prisma.person.update({ where: { email: 'p4@example.org' }, data: { note: 'batch' } }),
    prisma.person.count()
  ]))
  await prisma.$transaction(async (tx) => {
    await tx.person.update({ where: { email: 'p4@example.org' }, data: { name: 'Never' } })
    throw new Error('rolled back')
  }, { isolationLevel: 'Serializable' }).catch((error) => say('transaction', error.message))
  say('kept', await prisma.person.findUniqueOrThrow({ where: { email: 'p4@example.org' } }))
}

async function main () {
  const SchemaEngine = await load()
  const before = schema('')
  const first = await engine(SchemaEngine, before)
  say('version', (await first.version()).split(' ')[0])
  say('pushed', await first.schemaPush({ force: false, schema: files(before), filters }))
  say('pushed again', await first.schemaPush({ force: false, schema: files(before), filters }))
  await introspect(first, before)
  const prisma = client(before)
  await write(prisma)
  await read(prisma)
  await transactions(prisma)
  await prisma.$disconnect()

  const after = schema('age Int @default(7)\n  seen DateTime?')
  const second = await engine(SchemaEngine, after)
  const warned = await second.schemaPush({ force: false, schema: files(after), filters })
  say('changed', warned)
  say('changed again', await second.schemaPush({ force: false, schema: files(after), filters }))
  await introspect(second, after)
  const list = (names) => ({
    baseDir: 'migrations',
    lockfile: { path: 'migration_lock.toml', content: 'provider = "postgresql"' },
    shadowDbInitScript: '',
    migrationDirectories: names.map(([path, content]) => ({ path, migrationFile: { path: 'migration.sql', content: { tag: 'ok', value: content } } }))
  })
  const baseline = list([['1_baseline', 'SELECT 1;']])
  await second.markMigrationApplied({ migrationsList: baseline, migrationName: '1_baseline' })
  const migrations = list([['1_baseline', 'SELECT 1;'], ['2_nickname', `ALTER TABLE "person" ADD COLUMN "nickname" TEXT;
    UPDATE "person" SET "nickname" = "note", "name" = 'Migrated' WHERE "email" = 'p2@example.org';
    CREATE INDEX "person_nickname_idx" ON "person"("nickname");`]])
  say('applied', await second.applyMigrations({ migrationsList: migrations, filters }))
  say('applied again', await second.applyMigrations({ migrationsList: migrations, filters }))
  const last = client(after)
  say('after', await last.person.findMany({ orderBy: { id: 'asc' } }))
  await last.$disconnect()
}

main().then(() => process.exit(), (error) => {
  console.error(error)
  process.exit(1)
})
