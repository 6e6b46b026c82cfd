/** Jobs from enqueue to result with PGMQ carrying the hints: the whole path, on a server. */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import * as PgmqBroker from "../../src/broker/PgmqBroker.ts"
import { Job, Polyqueue, Worker } from "../../src/index.ts"
import { countOf, Server, until } from "../support/PgmqBroker.ts"
import { describePostgres } from "../support/Postgres.ts"

class Double extends Job.make("Double", { payload: { n: Schema.Int }, success: Schema.Int }) {}

class Shaky extends Job.make("Shaky", {
  payload: { fails: Schema.Int },
  success: Schema.Int,
  error: Schema.String,
  retry: { schedule: Schedule.spaced("10 millis") }
}) {}

const tries = new Map<string, number>()

const Handlers = Layer.merge(
  Double.toLayer(({ n }) => Effect.succeed(n * 2)),
  Shaky.toLayer(({ fails }) =>
    Effect.suspend(() => {
      const id = String(fails)
      const n = (tries.get(id) ?? 0) + 1
      tries.set(id, n)
      return n > fails ? Effect.succeed(n) : Effect.fail("not yet")
    })
  )
)

const App = Worker.layer([Double, Shaky]).pipe(
  Layer.provide(Handlers),
  Layer.provideMerge(Polyqueue.layerPostgres),
  Layer.provideMerge(PgmqBroker.layer()),
  Layer.provideMerge(Server)
)

/** All of them, also those that a worker holds. */
const waiting = Effect.flatMap(SqlClient.SqlClient, (sql) => countOf(sql, "pgmq.q_polyqueue"))

describePostgres("on a server", () => {
  layer(App, { excludeTestServices: true, timeout: "60 seconds" })("a worker on PgmqBroker", (it) => {
    it.effect("runs what a transaction enqueued, and nothing of one that rolled back", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const lost = yield* Effect.flip(
          sql.withTransaction(Effect.flatMap(Double.enqueue({ n: 1 }), (handle) => Effect.fail(handle.id)))
        )
        const handle = yield* sql.withTransaction(Double.enqueue({ n: 21 }))
        assert.strictEqual(yield* handle.await, 42)
        const [row] = yield* sql<{
          n: number
        }>`select count(*)::int as n from polyqueue.polyqueue_jobs where id = ${lost}`
        assert.strictEqual(row?.n, 0)
      })
    )

    it.effect("runs many, and leaves no hint behind", () =>
      Effect.gen(function* () {
        const handles = yield* Double.enqueueAll(Array.from({ length: 300 }, (_, n) => ({ n })))
        const results = yield* Effect.forEach(handles, (handle) => handle.await, { concurrency: "unbounded" })
        assert.deepStrictEqual(
          results,
          handles.map((_, n) => n * 2)
        )
        const sql = yield* SqlClient.SqlClient
        const [sent] = yield* sql<{ n: number }>`select total_messages::int as n from pgmq.metrics('polyqueue')`
        assert.isAtLeast(sent?.n ?? 0, 300, "one hint each")
        assert.strictEqual(yield* until(waiting, (n) => n === 0), 0)
      })
    )

    it.effect("runs what failed again, with a hint of its own", () =>
      Effect.gen(function* () {
        const handle = yield* Shaky.enqueue({ fails: 1 })
        assert.strictEqual(yield* handle.await, 2)
      })
    )
  })
})
