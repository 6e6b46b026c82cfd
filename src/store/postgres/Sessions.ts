/**
 * The connections of the store. Enqueues and reads use the caller's client, so they join its transactions. Everything
 * else runs on sessions of our own, made from the same configuration: READ COMMITTED whatever the role's default, with
 * time-outs, and never starved by handlers that use up the caller's pool. Renewal has one nobody else can take.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { StoreError } from "../../JobError.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import { fromSqlError } from "./Failure.ts"
import type { Names } from "./Names.ts"

/** Rows as arrays: no names, so nothing the caller's client does to names or to keys inside JSON can reach them. */
export type Rows = ReadonlyArray<ReadonlyArray<unknown>>

/** Runs one statement of constant text. */
export type Run = (operation: string, text: string, params: ReadonlyArray<unknown>) => Effect.Effect<Rows, StoreError>

export interface Sessions {
  /** The caller's client: in its transaction when there is one. */
  readonly ambient: Run
  /** Our own sessions: claims, settles, maintenance. Opened when first used. */
  readonly work: Run
  /** One session for renewals alone. */
  readonly renewal: Run
  readonly ambientClient: SqlClient
  /** The sessions that `work` uses now, for what takes several statements. */
  readonly pool: () => Pick<Pool, "client" | "run">
  /** True when the calling fiber is in a transaction of the caller's client. */
  readonly inTransaction: Effect.Effect<boolean>
  /** True when every connection is one session (PGlite): inside a transaction our own sessions would wait for ever. */
  readonly single: boolean
}

/** What our own sessions ask for when they connect. */
const settings = {
  default_transaction_isolation: "read committed",
  default_transaction_read_only: "off",
  statement_timeout: "10s",
  lock_timeout: "5s",
  idle_in_transaction_session_timeout: "10s",
  // Nobody else's functions and operators: tables are always named with their schema
  search_path: "pg_catalog",
  plan_cache_mode: "force_generic_plan",
  jit: "off",
  // The statements are written for these plans; statistics of a table that was empty a moment ago say otherwise
  enable_seqscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
  enable_bitmapscan: "off"
} as const

const readBack = `select name from unnest(array[${Object.keys(settings)
  .map((name) => `'${name}'`)
  .join(",")}], array[${Object.values(settings)
  .map((value) => `'${value}'`)
  .join(",")}]) as asked(name, value) where current_setting(name) <> value`

const runWith =
  (sql: SqlClient): Run =>
  (operation, text, params) =>
    Effect.catchTag(sql.unsafe(text, params).values, "SqlError", (error: SqlError) =>
      Effect.fail(fromSqlError(operation, error))
    )

/**
 * Gives up on a statement that is not answered: the server ends its own after `statement_timeout`, but a connection that
 * was cut without a word never answers at all. A single session (PGlite) has no network, and may have to wait for a caller.
 */
const bounded = (
  run: Run,
  config: PgClient.PgClientConfig,
  milliseconds: number,
  onSilence: Effect.Effect<void>
): Run =>
  config.stream !== undefined
    ? run
    : (operation, text, params) =>
        Effect.timeoutOrElse(run(operation, text, params), {
          duration: Duration.millis(milliseconds),
          orElse: () =>
            Effect.andThen(
              onSilence,
              Effect.fail(
                new StoreError({
                  reason: "Unavailable",
                  operation,
                  message: `${operation}: no answer from PostgreSQL within ${milliseconds / 1_000} s: is the network between us whole?`
                })
              )
            )
        })

/** Beyond `statement_timeout`. */
const workDeadline = 15_000
/** Renewals are small, and a lease does not wait. */
const singleDeadline = 5_000

const isPgClient = (sql: SqlClient): sql is PgClient.PgClient => PgClient.TypeId in sql

/** Asks the first connection once whether the settings hold; a pooler in between may have dropped them. */
const checked = (run: Run, scope: Scope.Scope): Run => {
  let asked = false
  const check = Effect.matchEffect(run("sessions", readBack, []), {
    onFailure: () =>
      Effect.sync(() => {
        asked = false
      }),
    onSuccess: (rows) =>
      rows.length === 0
        ? Effect.void
        : Effect.logWarning(
            `polyqueue: the database sessions do not have the settings they asked for (${rows.map(([name]) => name).join(", ")}). ` +
              "A connection pooler may drop them: connect directly, or set them with ALTER ROLE"
          )
  })
  return (operation, text, params) => {
    if (asked) return run(operation, text, params)
    asked = true
    return Effect.andThen(Effect.forkIn(check, scope), run(operation, text, params))
  }
}

/** The caller's client, which must be a `PgClient`: its configuration is what our own sessions are made from. */
const ambient: Effect.Effect<PgClient.PgClient, StoreError, SqlClient> = Effect.flatMap(SqlClient, (sql) =>
  isPgClient(sql)
    ? Effect.succeed(sql)
    : Effect.fail(
        new StoreError({
          reason: "Unsupported",
          operation: "sessions",
          message: "the Postgres store needs the client of @effect/sql-pg: provide PgClient.layer"
        })
      )
)

/** A client of our own on the caller's database, with our settings and no transforms. Connects when first used. */
const own = (
  config: PgClient.PgClientConfig,
  applicationName: string,
  maxConnections: number
): Effect.Effect<PgClient.PgClient, StoreError, Scope.Scope> =>
  PgClient.make({
    ...config,
    applicationName,
    maxConnections,
    minConnections: 0,
    multiplex: false,
    types: undefined,
    transformResultNames: undefined,
    transformQueryNames: undefined,
    startupParameters: { ...config.startupParameters, ...settings }
  }).pipe(
    Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make),
    Effect.catchTag("SqlError", (error: SqlError) => Effect.fail(fromSqlError("sessions", error)))
  )

/** Sessions that are believed and given up together. */
export interface Pool {
  readonly client: SqlClient
  readonly run: Run
  readonly close: Effect.Effect<void>
}

/**
 * A pool of our own. When one of its sessions does not answer, the others were cut with it: a new pool takes over at once,
 * or each of them would be tried for as long. What still runs on the old one may end there.
 */
export const makePool = Effect.fnUntraced(function* (
  config: PgClient.PgClientConfig,
  applicationName: string,
  maxConnections: number,
  deadline: number
): Effect.fn.Return<() => Pool, StoreError, Scope.Scope> {
  const scope = yield* Effect.scope
  const open: Effect.Effect<Pool, StoreError> = Effect.gen(function* () {
    const lifetime = yield* Scope.fork(scope)
    const client = yield* Scope.provide(own(config, applicationName, maxConnections), lifetime)
    const pool: Pool = {
      client,
      run: bounded(
        runWith(client),
        config,
        deadline,
        Effect.suspend(() => giveUp(pool))
      ),
      close: Scope.close(lifetime, Exit.void)
    }
    return pool
  })
  const giveUp = (pool: Pool): Effect.Effect<void> =>
    current !== pool
      ? Effect.void
      : Effect.matchEffect(open, {
          // Opens no connection, so it fails only when its configuration has become wrong: the old one stays
          onFailure: () => Effect.void,
          onSuccess: (next) => {
            current = next
            return Effect.asVoid(Effect.forkIn(Effect.delay(pool.close, Duration.millis(2 * deadline)), scope))
          }
        })
  let current = yield* open
  return () => current
})

/** The pool that is believed now runs it. */
const runOn =
  (pool: () => Pool): Run =>
  (operation, text, params) =>
    pool().run(operation, text, params)

/** One session of our own that nobody else uses. */
export const makeSingle = (applicationName: string): Effect.Effect<Run, StoreError, SqlClient | Scope.Scope> =>
  Effect.flatMap(ambient, ({ config }) => Effect.map(makePool(config, applicationName, 1, singleDeadline), runOn))

/** Makes the store's connections from the caller's client. Opens none. */
export const make: Effect.Effect<Sessions, StoreError, SqlClient | Scope.Scope> = Effect.gen(function* () {
  const ambientClient = yield* ambient
  const { config } = ambientClient
  const pool = yield* makePool(config, "polyqueue", 5, workDeadline)
  const renewal = yield* makeSingle("polyqueue renewal")
  const single = config.stream !== undefined
  const scope = yield* Effect.scope
  return {
    ambient: runWith(ambientClient),
    work: single ? runOn(pool) : checked(runOn(pool), scope),
    renewal,
    ambientClient,
    pool,
    inTransaction: Effect.withFiber((fiber) =>
      Effect.succeed(Context.getOrUndefined(fiber.context, ambientClient.transactionService) !== undefined)
    ),
    single
  }
})

/** Everything a statement of the store needs. */
export interface Db extends Sessions {
  readonly names: Names
  readonly clock: DatabaseClock
}

/** With one session for everything, our own would wait for the caller's transaction for ever. */
export const refuseSingle = (db: Db, operation: string): Effect.Effect<void, StoreError> =>
  Effect.flatMap(db.inTransaction, (inside) =>
    inside && db.single
      ? Effect.fail(
          new StoreError({
            reason: "InsideTransaction",
            operation,
            message: `${operation}: the embedded database has one session, and an open transaction holds it`
          })
        )
      : Effect.void
  )
