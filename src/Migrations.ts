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
import { StoreError } from "./JobError.ts"
import { fromSqlError } from "./store/postgres/Failure.ts"
import { make as makeNames, type Names, type NamesOptions } from "./store/postgres/Names.ts"

export type { NamesOptions } from "./store/postgres/Names.ts"

interface Migration {
  readonly name: string
  /** The oldest version of the code that works on the tables this migration leaves. */
  readonly compatibleWith: number
  readonly statements: (names: Names) => ReadonlyArray<string>
}

/** In order; the version is the position, from 1. */
const migrations: ReadonlyArray<Migration> = [{ name: "create_jobs", compatibleWith: 1, statements: createJobs }]

/** The version of the tables this code was written for. */
export const version = migrations.length

/** What `migrate` found and left. Equal when there was nothing to do; `from` is 0 for a database without our tables. */
export interface Migrated {
  readonly from: number
  readonly to: number
}

/** Said by our migrations table, so that a namesake is recognised. */
const mark = "Polyqueue for Effect"

const record = (names: Names, index: number): string =>
  `insert into ${names.migrations} (version, name, compatible_with) ` +
  `values (${index + 1}, '${migrations[index]!.name}', ${migrations[index]!.compatibleWith})`

const createTable = (names: Names): ReadonlyArray<string> => [
  `create table if not exists ${names.migrations} (
  version integer primary key,
  name text not null,
  compatible_with integer not null,
  applied_at timestamptz not null default now()
)`,
  `comment on table ${names.migrations} is '${mark}'`
]

const createSchema = (names: Names): string => `create schema if not exists "${names.schema}"`

/** The statements that bring the tables from version `from` to this one, in order. */
const pending = (names: Names, from: number): ReadonlyArray<string> => [
  ...(from === 0 ? createTable(names) : []),
  ...migrations.slice(from).flatMap(({ statements }, at) => [...statements(names), record(names, from + at)])
]

/** SQL text to apply by hand, in one transaction, to a database without our tables (or at version `from`). */
export const statements = (
  options: NamesOptions & { readonly from?: number | undefined } = {}
): Result.Result<string, StoreError> =>
  Result.map(makeNames(options), (names) =>
    [
      "begin",
      ...((options.from ?? 0) === 0 ? [createSchema(names)] : []),
      ...pending(names, options.from ?? 0),
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

/** The version the tables have, 0 when there are none. Fails on tables that are not ours, or too new for this code. */
const readVersion = Effect.fnUntraced(function* (sql: SqlClient, names: Names) {
  const [found] = yield* sql.unsafe(lookUp, [names.schema, `${names.prefix}_migrations`, `${names.prefix}_jobs`]).values
  const [hasMigrations, comment, hasJobs] = found ?? []
  if (hasMigrations !== true) {
    if (hasJobs !== true) return 0
    return yield* fail("Foreign", `${names.jobs} exists but is not ours: choose another schema or prefix`)
  }
  if (comment !== mark) {
    return yield* fail("Foreign", `${names.migrations} exists but is not ours: choose another schema or prefix`)
  }
  const rows = yield* sql.unsafe(`select max(version), max(compatible_with) from ${names.migrations}`).values
  const [current, compatible] = rows[0] ?? []
  if (typeof current !== "number") return 0
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
  return current
})

/**
 * Brings the tables to this version. Uses the ambient `SqlClient`; not meant to be run inside a transaction. Fails with
 * reason `Foreign` (not our tables), `Denied` (behind, and no DDL rights), `Unsupported` (tables too new).
 */
export const migrate = (options: NamesOptions = {}): Effect.Effect<Migrated, StoreError, SqlClient> =>
  Effect.gen(function* () {
    const names = yield* Effect.fromResult(makeNames(options))
    const sql = yield* SqlClient
    const from = yield* readVersion(sql, names)
    if (from >= version) return { from, to: from }
    return yield* sql
      .withTransaction(
        Effect.gen(function* () {
          // Ends with the transaction; everybody who starts at the same time waits here and then finds nothing to do
          yield* sql.unsafe("select pg_advisory_xact_lock(hashtextextended($1, 0))", [names.migrations])
          const from = yield* readVersion(sql, names)
          if (from === version) return { from, to: from }
          // Asked first: `if not exists` needs the right to create schemas even when there is nothing to create
          const [schema] = yield* sql.unsafe("select from pg_catalog.pg_namespace where nspname = $1", [names.schema])
            .values
          if (schema === undefined) yield* sql.unsafe(createSchema(names))
          for (const statement of pending(names, from)) yield* sql.unsafe(statement)
          return { from, to: version }
        })
      )
      .pipe(Effect.provideService(BeginTransaction, "BEGIN ISOLATION LEVEL READ COMMITTED"))
  }).pipe(Effect.catchTag("SqlError", (error: SqlError) => Effect.fail(fromSqlError("migrate", error))))

/** Migrates when built. Put it below everything that uses the tables. */
export const layer = (options: NamesOptions = {}): Layer.Layer<never, StoreError, SqlClient> =>
  Layer.effectDiscard(migrate(options))
