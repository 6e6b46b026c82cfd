/**
 * How the PGMQ broker speaks to the database: on a few connections of its own, so that handlers cannot starve renewals, or
 * inside the caller's transaction when there is one. Every call has a deadline, and every error is a `BrokerError`.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import { SqlError } from "effect/sql/SqlError"
import { BrokerError } from "../../JobError.ts"
import { undying } from "../../store/postgres/Undying.ts"
import { failure, fromSqlError } from "./Failure.ts"
import * as Statements from "./Statements.ts"

/** Longest time one call may take, in milliseconds. */
export const DEADLINE = 10_000

/** Connections of the broker's own, opened when first used and closed when idle. */
const CONNECTIONS = 3

/** A row as the driver gives it. */
export type Row = ReadonlyArray<unknown>

/** What a call is about, for its error. */
export interface Call {
  readonly operation: string
  /** The queue, or whatever else it was about. */
  readonly subject: string
}

/** Runs one statement. */
export type Run = (
  call: Call,
  text: string,
  params?: ReadonlyArray<unknown>
) => Effect.Effect<ReadonlyArray<Row>, BrokerError>

/** The two ways to the database. */
export interface Session {
  /** On a connection of the broker's own: never part of anybody's transaction. */
  readonly own: Run
  /** In the caller's transaction if there is one. */
  readonly joined: Run
  /** Whether the caller is inside an open transaction. */
  readonly inTransaction: Effect.Effect<boolean>
  /** Everything or nothing, and an error leaves the caller's transaction usable. */
  readonly savepoint: <A>(call: Call, effect: Effect.Effect<A, BrokerError>) => Effect.Effect<A, BrokerError>
  /** Once the caller's transaction has committed; at once when there is none. */
  readonly afterCommit: (effect: Effect.Effect<void>) => Effect.Effect<void>
  /**
   * The database has one session for everybody (PGlite), so nothing of our own goes on while the caller's transaction is
   * open. Also assumed of clients on a stream of their own.
   */
  readonly single: boolean
  /** What the database says about pgmq: see `Statements.probe`. */
  readonly probed: Row
  /** The client whose settings a bell can be made from. */
  readonly native: PgClient.PgClient | undefined
}

const isPgClient = (sql: SqlClient): sql is PgClient.PgClient => PgClient.TypeId in sql

/** Fails when nothing came back in time. The statement is cancelled. */
export const withDeadline =
  ({ operation, subject }: Call) =>
  <A>(effect: Effect.Effect<A, SqlError>): Effect.Effect<A, BrokerError> =>
    effect.pipe(
      Effect.mapError((error) => fromSqlError(operation, subject, error)),
      Effect.timeoutOrElse({
        duration: DEADLINE,
        orElse: () => Effect.fail(failure(operation, "OutcomeUnknown", `${subject}, no answer in ${DEADLINE} ms`))
      })
    )

const isFailure = (error: unknown): error is BrokerError | SqlError =>
  error instanceof BrokerError || error instanceof SqlError

const runOn =
  (sql: SqlClient): Run =>
  (call, text, params = []) =>
    withDeadline(call)(sql.unsafe(text, params).values)

/** Makes the session on the ambient client; its connections end with the scope. */
export const make: Effect.Effect<Session, BrokerError, SqlClient | Scope.Scope> = Effect.gen(function* () {
  const sql = yield* SqlClient
  const native = isPgClient(sql) ? sql : Option.getOrUndefined(yield* Effect.serviceOption(PgClient.PgClient))
  const joined = runOn(sql)
  const [probed] = yield* joined({ operation: "connect", subject: "schema pgmq" }, Statements.probe)
  if (probed === undefined) return yield* failure("connect", "Unexpected", "no answer about the schema pgmq")
  const own = native === undefined ? joined : runOn(yield* ownClient(native, probed))
  return {
    own,
    joined,
    inTransaction: Effect.map(Effect.serviceOption(sql.transactionService), Option.isSome),
    savepoint: (call, effect) =>
      undying(sql.withTransaction(effect), isFailure).pipe(
        Effect.catchTag("SqlError", (error) => Effect.fail(fromSqlError(call.operation, call.subject, error)))
      ),
    afterCommit: sql.afterCommit,
    single: native === undefined || native.config.stream !== undefined,
    probed,
    native
  }
})

const ownClient = (native: PgClient.PgClient, [, , , , isolation]: Row): Effect.Effect<SqlClient, never, Scope.Scope> =>
  PgClient.make({
    ...native.config,
    // Polls must not fail because another reader was faster. Set only where needed: poolers refuse settings they do not know
    ...(isolation === "read committed"
      ? {}
      : { startupParameters: { ...native.config.startupParameters, default_transaction_isolation: "read committed" } }),
    transformResultNames: undefined,
    transformQueryNames: undefined,
    multiplex: false,
    prepare: false,
    minConnections: 0,
    maxConnections: CONNECTIONS,
    applicationName: "polyqueue pgmq"
  } satisfies PgClient.PgPoolConfig).pipe(
    Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make),
    Effect.orDie // a pool without a minimum connects to nothing here
  )
