/**
 * Makes and upgrades the tables. Reads the version first, so a role without DDL rights can start on tables that are up
 * to date; safe when many processes start at once; refuses tables of these names that are not ours.
 *
 * Forward only. Each migration says the oldest code that can still work on its tables, so that old workers keep running
 * through a rolling deploy.
 *
 * ```ts
 * const Migrated = Migrations.layer({ schema: "jobs", prefix: "app" }).pipe(Layer.provideMerge(PgLive))
 * ```
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import { BeginTransaction, SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { createJobs } from "../migrations/0001_create_jobs.ts"
import { createStats } from "../migrations/0002_create_stats.ts"
import { createControl } from "../migrations/0003_create_control.ts"
import { StoreError } from "./JobError.ts"
import { fromSqlError } from "./store/postgres/Failure.ts"
import { make as makeNames, type Names, type NamesOptions } from "./store/postgres/Names.ts"
import { isStoreFailure, undying } from "./store/postgres/Undying.ts"

export type { NamesOptions } from "./store/postgres/Names.ts"
export { type RolesOptions, statements as roles } from "./store/postgres/Roles.ts"

interface Migration {
  /** The number in the name of its file. */
  readonly version: number
  readonly name: string
  /** The oldest version of the code that works on the tables this migration leaves. */
  readonly compatibleWith: number
  readonly statements: (names: Names) => ReadonlyArray<string>
}

/** In order. One that the tables do not have is applied, also when a later one was. */
const migrations: ReadonlyArray<Migration> = [
  { version: 1, name: "create_jobs", compatibleWith: 1, statements: createJobs },
  { version: 2, name: "create_stats", compatibleWith: 1, statements: createStats },
  { version: 3, name: "create_control", compatibleWith: 1, statements: createControl }
]

/** The version of the tables this code was written for. */
export const version = Math.max(...migrations.map((migration) => migration.version))

/** What `migrate` found and left. Equal when there was nothing to do; `from` is 0 for a database without our tables. */
export interface Migrated {
  readonly from: number
  readonly to: number
}

/** Said by our migrations table, so that a namesake is recognised. */
const mark = "Polyqueue for Effect"

const record = (names: Names, { compatibleWith, name, version }: Migration): string =>
  `insert into ${names.migrations} (version, name, compatible_with) values (${version}, '${name}', ${compatibleWith})`

const createTable = (names: Names): ReadonlyArray<string> => [
  `create table if not exists ${names.migrations} (
  version integer primary key,
  name text not null,
  compatible_with integer not null,
  applied_at timestamptz not null default now()
)`,
  `comment on table ${names.migrations} is '${mark}'`
]

/** Whatever the path of the session is: nobody else's functions and operators get into the tables. */
const searchPath = "set local search_path = pg_catalog, pg_temp"

const createSchema = (names: Names): string => `create schema if not exists "${names.schema}"`

/** The statements that bring tables that have the `applied` migrations to this version, in order. */
const pending = (names: Names, applied: ReadonlySet<number>): ReadonlyArray<string> => [
  ...(applied.size === 0 ? createTable(names) : []),
  ...missing(applied).flatMap((migration) => [...migration.statements(names), record(names, migration)])
]

const missing = (applied: ReadonlySet<number>): ReadonlyArray<Migration> =>
  migrations.filter(({ version }) => !applied.has(version))

/** SQL text to apply by hand, in one transaction, to a database without our tables (or at version `from`). */
export const statements = (
  options: NamesOptions & { readonly from?: number | undefined } = {}
): Result.Result<string, StoreError> =>
  Result.map(makeNames(options), (names) =>
    [
      "begin",
      searchPath,
      ...((options.from ?? 0) === 0 ? [createSchema(names)] : []),
      ...pending(
        names,
        new Set(migrations.flatMap(({ version }) => (version <= (options.from ?? 0) ? [version] : [])))
      ),
      "commit"
    ]
      .map((statement) => `${statement};\n`)
      .join("\n")
  )

const fail = (reason: StoreError["reason"], message: string) =>
  Effect.fail(new StoreError({ reason, operation: "migrate", message }))

/**
 * Asks the catalog's tables. `to_regclass` would answer from a cache that a wait for the advisory lock does not refresh,
 * and not see what the process that held it has made.
 */
const lookUp = `select count(*) filter (where c.relname = $2) > 0,
    max(obj_description(c.oid, 'pg_class')) filter (where c.relname = $2),
    count(*) filter (where c.relname = $3) > 0
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = $1 and c.relname in ($2, $3)`

interface Found {
  /** The version the tables have, 0 when there are none. */
  readonly current: number
  readonly applied: ReadonlySet<number>
}

const nothing: Found = { current: 0, applied: new Set() }

/** What the tables have. Fails on tables that are not ours, or too new for this code. */
const readVersion = Effect.fnUntraced(function* (sql: SqlClient, names: Names) {
  const [found] = yield* sql.unsafe(lookUp, [names.schema, `${names.prefix}_migrations`, `${names.prefix}_jobs`]).values
  const [hasMigrations, comment, hasJobs] = found ?? []
  if (hasMigrations !== true) {
    if (hasJobs !== true) return nothing
    return yield* fail("Foreign", `${names.jobs} exists but is not ours: choose another schema or prefix`)
  }
  if (comment !== mark) {
    return yield* fail("Foreign", `${names.migrations} exists but is not ours: choose another schema or prefix`)
  }
  const rows = yield* sql.unsafe(
    `select max(version), max(compatible_with), array_to_json(array_agg(version))::text from ${names.migrations}`
  ).values
  const [current, compatible, versions] = rows[0] ?? []
  if (typeof current !== "number" || typeof versions !== "string") return nothing
  if (current > version) {
    if (typeof compatible === "number" && compatible > version) {
      return yield* fail(
        "Unsupported",
        `the tables have version ${current}, this code knows ${version} and cannot work on them: upgrade polyqueue`
      )
    }
    yield* Effect.logInfo(
      `polyqueue: the tables have version ${current}, newer than the ${version} this code knows, and compatible with it`
    )
  }
  return { current, applied: new Set(JSON.parse(versions) as ReadonlyArray<number>) }
})

/** Newer code than this one has seen to all of its own. */
const isUpToDate = ({ applied, current }: Found): boolean => current > version || missing(applied).length === 0

/**
 * Brings the tables to this version. Uses the ambient `SqlClient`; not meant to be run inside a transaction. Fails with
 * reason `Foreign` (not our tables), `Denied` (behind, and no DDL rights), `Unsupported` (tables too new).
 */
export const migrate = (options: NamesOptions = {}): Effect.Effect<Migrated, StoreError, SqlClient> =>
  Effect.gen(function* () {
    const names = yield* Effect.fromResult(makeNames(options))
    const sql = yield* SqlClient
    const before = yield* readVersion(sql, names)
    if (isUpToDate(before)) return { from: before.current, to: before.current }
    const transaction = sql.withTransaction(
      Effect.gen(function* () {
        // Both end with the transaction; everybody who starts at the same time waits here and then finds nothing to do
        yield* sql.unsafe(searchPath)
        yield* sql.unsafe("select pg_advisory_xact_lock(hashtextextended($1, 0))", [names.migrations])
        const found = yield* readVersion(sql, names)
        if (isUpToDate(found)) return { from: found.current, to: found.current }
        // Asked first: `if not exists` needs the right to create schemas even when there is nothing to create
        const [schema] = yield* sql.unsafe("select from pg_catalog.pg_namespace where nspname = $1", [names.schema])
          .values
        if (schema === undefined) yield* sql.unsafe(createSchema(names))
        for (const statement of pending(names, found.applied)) yield* sql.unsafe(statement)
        return { from: found.current, to: version }
      })
    )
    return yield* undying(transaction, isStoreFailure).pipe(
      Effect.provideService(BeginTransaction, "BEGIN ISOLATION LEVEL READ COMMITTED")
    )
  }).pipe(Effect.catchTag("SqlError", (error: SqlError) => Effect.fail(fromSqlError("migrate", error))))

/** What the tables have of the migrations of this code. */
export interface Status {
  /** The version the tables have; 0 without tables. */
  readonly current: number
  /** The version this code was written for. */
  readonly version: number
  /** In order. `appliedAt`: epoch ms. Migrations of newer code are not among them. */
  readonly migrations: ReadonlyArray<{
    readonly version: number
    readonly name: string
    readonly appliedAt: number | undefined
  }>
}

/** Looks, and changes nothing. Fails like `migrate` on tables that are not ours or too new. */
export const status = (options: NamesOptions = {}): Effect.Effect<Status, StoreError, SqlClient> =>
  Effect.gen(function* () {
    const names = yield* Effect.fromResult(makeNames(options))
    const sql = yield* SqlClient
    const { applied, current } = yield* readVersion(sql, names)
    const rows =
      applied.size === 0
        ? []
        : yield* sql.unsafe(`select version, (date_part('epoch', applied_at) * 1000)::float8 from ${names.migrations}`)
            .values
    const times = new Map(rows.map(([version, at]) => [Number(version), Number(at)]))
    return {
      current,
      version,
      migrations: migrations.map(({ name, version }) => ({ version, name, appliedAt: times.get(version) }))
    }
  }).pipe(Effect.catchTag("SqlError", (error: SqlError) => Effect.fail(fromSqlError("migrate", error))))

/** Migrates when built. Put it below everything that uses the tables. */
export const layer = (options: NamesOptions = {}): Layer.Layer<never, StoreError, SqlClient> =>
  Layer.effectDiscard(migrate(options))
