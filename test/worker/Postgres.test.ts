/** What only a real server can show: other people's locks, a starved pool, a database that goes away, and rest. */
import { assert, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Redacted, Schema } from "effect"
import * as PgClient from "@effect/sql-pg/PgClient"
import { SqlClient } from "effect/sql"
import { Reactivity } from "effect/reactivity"
import { Broker, Job, Polyqueue, Worker } from "../../src/index.ts"
import { describePostgres, freshDatabase, layerUrl, ownServer } from "../support/Postgres.ts"

class Wait extends Job.make("Wait", { payload: { n: Schema.Int }, success: Schema.Int }) {}
class Greedy extends Job.make("Greedy", { success: Schema.String }) {}

class Gate extends Context.Service<Gate, { readonly open: Deferred.Deferred<void>; started: number }>()("test/Gate") {
  static readonly layer = Layer.effect(
    Gate,
    Effect.map(Deferred.make<void>(), (open) => ({ open, started: 0 }))
  )
}

const Handlers = Layer.mergeAll(
  Wait.toLayer(
    Effect.fnUntraced(function* ({ n }) {
      const gate = yield* Gate
      gate.started++
      yield* Deferred.await(gate.open)
      return n
    })
  ),
  // Holds a connection of the application's pool for three leases
  Greedy.toLayer(
    Effect.fnUntraced(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`select pg_sleep(3)`
      return "slept"
    }, Effect.orDie)
  )
)

const stack = (url: string, options: Worker.Options, maxConnections = 8) =>
  Worker.layer([Wait, Greedy], { sweepEvery: "200 millis", ...options }).pipe(
    Layer.provide(Handlers),
    Layer.provideMerge(Gate.layer),
    Layer.provideMerge(Polyqueue.layerPostgres),
    Layer.provideMerge(Broker.layerPostgres),
    Layer.provideMerge(layerUrl(url, { maxConnections }))
  )

const until = <E, R>(question: Effect.Effect<boolean, E, R>) =>
  Effect.repeat(Effect.delay(question, "20 millis"), { until: (yes) => yes })

const count = (where: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(sql.unsafe<{ n: number }>(`select count(*)::int as n from ${where}`), ([row]) => row?.n ?? -1)
  )

describePostgres("a worker on a server", () => {
  it.live("a row lock held by somebody's open transaction delays only that row", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const url = yield* freshDatabase
        yield* Effect.gen(function* () {
          const gate = yield* Gate
          const jobs = yield* Wait.enqueueAll(Array.from({ length: 20 }, (_, n) => ({ n })))
          yield* until(Effect.sync(() => gate.started === 20))
          const other = yield* PgClient.make({ url: Redacted.make(url), maxConnections: 1 })
          const locked = yield* Deferred.make<void>()
          const release = yield* Deferred.make<void>()
          const holder = yield* Effect.forkChild(
            other.withTransaction(
              Effect.gen(function* () {
                yield* other`select 1 from polyqueue.polyqueue_jobs where id = ${jobs[7]!.id} for update`
                yield* Deferred.succeed(locked, undefined)
                yield* Deferred.await(release)
              })
            )
          )
          yield* Deferred.await(locked)
          yield* Deferred.succeed(gate.open, undefined)
          const free = jobs.filter((_, i) => i !== 7)
          yield* Effect.forEach(free, (job) => job.await, { concurrency: "unbounded", discard: true })
          assert.strictEqual((yield* jobs[7]!.poll).status, "processing")
          yield* Deferred.succeed(release, undefined)
          assert.strictEqual(yield* jobs[7]!.await, 7)
          yield* Fiber.join(holder)
          assert.strictEqual(yield* count("polyqueue.polyqueue_attempts where outcome <> 'succeeded'"), 0)
        }).pipe(Effect.provide(stack(url, { concurrency: 20, lease: "30 seconds" })))
      })
    ).pipe(Effect.provide(Reactivity.layer))
  )

  it.live("handlers that take every connection of the application's pool do not stop renewals", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const url = yield* freshDatabase
        yield* Effect.gen(function* () {
          const jobs = yield* Greedy.enqueueAll(Array.from({ length: 6 }, () => undefined))
          yield* Effect.forEach(jobs, (job) => until(Effect.map(job.poll, (state) => state.status === "succeeded")), {
            concurrency: 1,
            discard: true
          })
          assert.strictEqual(yield* count("polyqueue.polyqueue_attempts where outcome <> 'succeeded'"), 0)
          assert.strictEqual(yield* count("polyqueue.polyqueue_jobs where attempt > 1"), 0)
        }).pipe(Effect.provide(stack(url, { concurrency: 10, lease: "1 second" }, 2)))
      })
    )
  )

  it.live(
    "a database that goes away and comes back: typed errors meanwhile, then everything goes on by itself",
    () =>
      Effect.scoped(
        Effect.gen(function* () {
          // What was committed must survive the crash
          const server = yield* ownServer({ durable: true })
          yield* Effect.gen(function* () {
            const gate = yield* Gate
            const before = yield* Wait.enqueueAll(Array.from({ length: 5 }, (_, n) => ({ n })))
            yield* until(Effect.sync(() => gate.started === 5))
            yield* Effect.promise(() => server.stop("immediate"))
            const error = yield* Effect.flip(Wait.enqueue({ n: 100 }))
            assert.strictEqual(error.reason, "StoreUnavailable")
            // They finish in the dark
            yield* Deferred.succeed(gate.open, undefined)
            yield* Effect.sleep("2 seconds")
            yield* Effect.promise(() => server.start())
            assert.deepStrictEqual(
              yield* Effect.forEach(before, (job) => job.await, { concurrency: "unbounded" }),
              [0, 1, 2, 3, 4]
            )
            // The same id again: the enqueue whose outcome was unknown is idempotent
            const again = yield* Wait.enqueue({ n: 100 }, { id: error.id as Job.Id })
            assert.strictEqual(yield* again.await, 100)
            assert.strictEqual(yield* count("polyqueue.polyqueue_attempts where outcome <> 'succeeded'"), 0)
          }).pipe(Effect.provide(stack(server.url, { concurrency: 10, lease: "20 seconds" })))
        })
      ),
    60_000
  )

  it.live("a worker at rest asks the database for little", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const url = yield* freshDatabase
        yield* Effect.gen(function* () {
          const transactions = Effect.flatMap(SqlClient.SqlClient, (sql) =>
            Effect.map(
              sql<{
                n: number
              }>`select (xact_commit + xact_rollback)::int as n from pg_stat_database where datname = current_database()`,
              ([row]) => row?.n ?? 0
            )
          )
          // Statistics are reported once a second at most
          yield* Effect.sleep("2 seconds")
          const before = yield* transactions
          yield* Effect.sleep("6 seconds")
          const after = yield* transactions
          assert.isAtMost(after - before, 60)
        }).pipe(Effect.provide(stack(url, { sweepEvery: "5 seconds" })))
      })
    )
  )
})
