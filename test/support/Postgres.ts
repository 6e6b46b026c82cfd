/**
 * What a test needs of PostgreSQL: the server of this run (`globalSetup.ts`), a client on it, and a database of its own
 * per suite, so that files run side by side. `describePostgres` skips where no server can be had; the setup said why.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { Effect, Layer, Redacted, type Scope } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { describe, inject } from "vitest"
import { type PostgresServer, type ServerOptions, startServer } from "./PostgresServer.ts"

export { NoPostgres, type PostgresServer, type ServerOptions, startServer, type StopMode } from "./PostgresServer.ts"

/** URL of the run's server, database `postgres`, superuser. Empty when there is none. */
export const postgresUrl: string = inject("postgresUrl")

/** Whether there is a server: `layer(…)` suites can be put inside `describePostgres`. */
export const hasPostgres: boolean = postgresUrl !== ""

/** `describe`, skipped when there is no server. */
export const describePostgres: typeof describe.skip = describe.skipIf(!hasPostgres)

type ClientOptions = Omit<PgClient.PgPoolConfig, "url">

/** A client on a URL: `PgClient` and `SqlClient`. */
export const layerUrl = (url: string, options: ClientOptions = {}) =>
  PgClient.layer({ maxConnections: 8, ...options, url: Redacted.make(url) })

/** A client on the run's server, database `postgres`. Prefer `layerFresh`. */
export const layerClient = layerUrl(postgresUrl)

/** The same server, another database. */
export const withDatabase = (url: string, database: string): string => {
  const changed = new URL(url)
  changed.pathname = `/${database}`
  return changed.href
}

/** Makes an empty database and answers its URL; dropped, sessions and all, when the scope closes. */
export const freshDatabase = Effect.gen(function* () {
  const name = `polyqueue_test_${randomBytes(6).toString("hex")}`
  const admin = <A, E>(use: (sql: SqlClient.SqlClient) => Effect.Effect<A, E>) =>
    Effect.flatMap(SqlClient.SqlClient, use).pipe(Effect.provide(layerUrl(postgresUrl, { maxConnections: 1 })))
  yield* Effect.acquireRelease(
    admin((sql) => sql.unsafe(`create database ${name}`)),
    () => Effect.orDie(admin((sql) => sql.unsafe(`drop database ${name} with (force)`)))
  )
  return withDatabase(postgresUrl, name)
})

/** A client on a fresh database of its own, dropped at the end of the layer's scope. */
export const layerFresh = (options: ClientOptions = {}) =>
  Layer.unwrap(Effect.map(freshDatabase, (url) => layerUrl(url, options)))

/** A server of one's own, to stop, crash and restart; destroyed with the scope. */
export const ownServer = (options: ServerOptions = {}): Effect.Effect<PostgresServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => startServer(options)),
    (server) => Effect.promise(server.destroy)
  )
