/** A session that looks at the database and does not let go, as a backup or a forgotten console does. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"

/** Opens a transaction with a snapshot of now. Answers how to close it. */
export const hold = async (url: string): Promise<() => Promise<void>> => {
  const opened = Deferred.makeUnsafe<void>()
  const over = Deferred.makeUnsafe<void>()
  const fiber = Effect.runFork(
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* Effect.provideService(
        sql.withTransaction(
          Effect.gen(function* () {
            yield* sql.unsafe("select count(*) from polyqueue.polyqueue_queues")
            yield* Deferred.succeed(opened, undefined)
            yield* Deferred.await(over)
          })
        ),
        SqlClient.BeginTransaction,
        "begin isolation level repeatable read"
      )
    }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })))
  )
  await Effect.runPromise(Deferred.await(opened))
  return async () => {
    await Effect.runPromise(Effect.andThen(Deferred.succeed(over, undefined), Fiber.await(fiber)))
  }
}
