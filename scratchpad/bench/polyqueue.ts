/**
 * Polyqueue under load: one measurement per call, on a database that is emptied before. No-op handlers, full rows: payload,
 * result, attempts log, fence.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { Effect, Layer, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Broker, Job, Polyqueue, Worker } from "../../src/index.ts"

class Noop extends Job.make("noop", { payload: { n: Schema.Int } }) {}

const stack = (url: string) =>
  Polyqueue.layerPostgres.pipe(
    Layer.provideMerge(Broker.layerPostgres),
    Layer.provideMerge(PgClient.layer({ url: Redacted.make(url), maxConnections: 8 }))
  )

const empty = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  sql.unsafe("truncate polyqueue.polyqueue_jobs, polyqueue.polyqueue_attempts")
)

const seconds = (since: number) => (performance.now() - since) / 1_000

const fill = Effect.fnUntraced(function* (jobs: number, batch = 1_000) {
  for (let n = 0; n < jobs; n += batch) {
    yield* Noop.enqueueAll(Array.from({ length: Math.min(batch, jobs - n) }, (_, i) => ({ n: n + i })))
  }
})

const jobsWhere = (where: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(
      sql.unsafe<{ n: number }>(`select count(*)::int as n from polyqueue.polyqueue_jobs where ${where}`),
      ([row]) => row?.n ?? 0
    )
  )

/** Jobs per second through `enqueueAll` in batches of 1,000. */
export const enqueueBatches = (url: string, jobs: number) =>
  Effect.gen(function* () {
    yield* empty
    yield* fill(2_000)
    const start = performance.now()
    yield* fill(jobs)
    return jobs / seconds(start)
  }).pipe(Effect.provide(stack(url)))

/** Jobs per second of `callers` that each enqueue one job after the other. */
export const enqueueCallers = (url: string, callers: number, forSeconds: number) =>
  Effect.gen(function* () {
    yield* empty
    let made = 0
    const start = performance.now()
    const caller = Effect.whileLoop({
      while: () => seconds(start) < forSeconds,
      body: () => Noop.enqueue({ n: 1 }),
      step: () => void made++
    })
    yield* Effect.forEach(Array.from({ length: callers }), () => caller, { concurrency: "unbounded", discard: true })
    return made / seconds(start)
  }).pipe(Effect.provide(stack(url)))

/** Jobs per second from the start of a worker with 100 slots until the last of `jobs` has its result committed. */
export const drain = (url: string, jobs: number) =>
  Effect.gen(function* () {
    yield* empty
    yield* fill(jobs)
    let ended = 0
    const start = performance.now()
    yield* Layer.build(
      Worker.layer([Noop], { concurrency: 100 }).pipe(
        Layer.provide(Noop.toLayer(() => Effect.sync(() => void ended++)))
      )
    )
    while (ended < jobs || (yield* jobsWhere("status <> 'succeeded'")) > 0) yield* Effect.sleep("5 millis")
    return jobs / seconds(start)
  }).pipe(Effect.scoped, Effect.provide(stack(url)))

/** A worker with nothing to do: share of one core in percent, and transactions per second, over `forSeconds`. */
export const rest = (url: string, forSeconds: number) =>
  Effect.gen(function* () {
    yield* empty
    yield* Layer.build(Worker.layer([Noop]).pipe(Layer.provide(Noop.toLayer(() => Effect.void))))
    const sql = yield* SqlClient.SqlClient
    const transactions = Effect.map(
      sql.unsafe<{ n: number }>(
        "select (xact_commit + xact_rollback)::int as n from pg_stat_database where datname = current_database()"
      ),
      ([row]) => row?.n ?? 0
    )
    yield* Effect.sleep("3 seconds")
    const before = yield* transactions
    const cpu = process.cpuUsage()
    yield* Effect.sleep(`${forSeconds} seconds`)
    const { system, user } = process.cpuUsage(cpu)
    return {
      cpuPercent: ((user + system) / 1e6 / forSeconds) * 100,
      transactionsPerSecond: ((yield* transactions) - before) / forSeconds
    }
  }).pipe(Effect.scoped, Effect.provide(stack(url)))
