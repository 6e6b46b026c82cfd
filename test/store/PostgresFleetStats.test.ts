/** The duty of counting on a server: one at a time, in pieces, from indexes alone, and never left undone. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { SqlClient } from "effect/sql"
import * as Migrations from "../../src/Migrations.ts"
import { system } from "../../src/store/postgres/DatabaseClock.ts"
import * as FleetStats from "../../src/store/postgres/FleetStats.ts"
import * as Names from "../../src/store/postgres/Names.ts"
import * as Sessions from "../../src/store/postgres/Sessions.ts"
import { describePostgres, layerFresh } from "../support/Postgres.ts"

const setup = Effect.gen(function* () {
  yield* Migrations.migrate()
  const sessions = yield* Sessions.make
  const db: Sessions.Db = { ...sessions, names: yield* Effect.fromResult(Names.make()), clock: system }
  const said: Array<string> = []
  const work: Sessions.Run = (operation, text, params) =>
    Effect.andThen(
      Effect.sync(() => said.push(text)),
      db.work(operation, text, params)
    )
  const ask = { interval: 60_000, staleAfter: 60_000 }
  return { db: { ...db, work }, said, ask, sql: yield* SqlClient.SqlClient }
})

/** `count` jobs, made behind the store's back: many of one instant, in two queues and two priorities. */
const jobs = (count: number, status: string) =>
  `insert into polyqueue.polyqueue_jobs (id, run_at, enqueued_at, max_attempts, max_crashes, max_snoozes, priority, hinted,
    unique_live, status, queue, type, timeout_then, payload, finished_at)
  select gen_random_uuid(), now() - (i / 4) * interval '1 second', now(), 3, 3, 3, i % 2, false, false, '${status}',
    case when i % 3 = 0 then 'a' else 'b' end, 't', 'retry', '{}',
    case when '${status}' = 'queued' then null else now() - (i / 4) * interval '1 second' end
  from generate_series(1, ${count}) i`

const counting = (text: string) => /count\(\*\)/.test(text)

describePostgres("the counts of the fleet", () => {
  it.live("counted in pieces, each job is counted once, ties of one instant included", () =>
    Effect.gen(function* () {
      const { ask, db, said, sql } = yield* setup
      for (const status of ["queued", "succeeded", "failed"]) yield* sql.unsafe(jobs(100, status))
      const stats = yield* FleetStats.make(db, 7)({ ...ask, worker: "w" })
      const exact = yield* sql.unsafe<{ queue: string; due: number; succeeded: number; failed: number }>(
        `select queue, count(*) filter (where status = 'queued')::int as due,
          count(*) filter (where status = 'succeeded')::int as succeeded,
          count(*) filter (where status = 'failed')::int as failed from polyqueue.polyqueue_jobs group by 1 order by 1`
      )
      assert.deepStrictEqual(
        stats!.queues.map(({ due, failed, queue, succeeded }) => ({ queue, due, succeeded, failed })),
        exact.map((row) => ({ ...row }))
      )
      assert.isAbove(said.filter(counting).length, 20)
    }).pipe(Effect.provide(layerFresh()))
  )

  it.live("ten that ask at once: one counts, and later nobody does until the interval is over", () =>
    Effect.gen(function* () {
      const { ask, db, said, sql } = yield* setup
      yield* sql.unsafe(jobs(10, "queued"))
      const fleetStats = FleetStats.make(db)
      yield* Effect.all(
        Array.from({ length: 10 }, (_, n) => fleetStats({ ...ask, worker: `w${n}` })),
        { concurrency: 10 }
      )
      const counted = said.filter(counting).length
      assert.isAtMost(counted, 5)
      yield* sql.unsafe(jobs(10, "queued"))
      const again = yield* fleetStats({ ...ask, worker: "w3" })
      assert.strictEqual(
        again?.queues.reduce((n, queue) => n + queue.due, 0),
        10
      )
      assert.strictEqual(said.filter(counting).length, counted)
    }).pipe(Effect.provide(layerFresh()))
  )

  it.live("a counter that stops half-way is replaced when its lease is over, and writes nothing any more", () =>
    Effect.gen(function* () {
      const { ask, db, sql } = yield* setup
      yield* sql.unsafe(jobs(10, "queued"))
      const started = Promise.withResolvers<void>()
      const paused = Promise.withResolvers<void>()
      const slow: Sessions.Run = (operation, text, params) =>
        counting(text)
          ? Effect.andThen(
              Effect.promise(() => {
                started.resolve()
                return paused.promise
              }),
              db.work(operation, text, params)
            )
          : db.work(operation, text, params)
      const first = yield* Effect.forkChild(FleetStats.make({ ...db, work: slow })({ ...ask, worker: "first" }))
      yield* Effect.promise(() => started.promise)
      const second = FleetStats.make(db)({ ...ask, worker: "second" })
      assert.isUndefined(yield* second, "the first has the duty")
      yield* sql`update polyqueue.polyqueue_stats set leased_until = now() - interval '1 second'`
      assert.strictEqual((yield* second)?.queues.length, 2)
      yield* sql`update polyqueue.polyqueue_stats set counts = jsonb_set(counts, '{stats,relayLag}', '4242')`
      paused.resolve()
      yield* Fiber.join(first)
      assert.strictEqual((yield* second)?.relayLag, 4242)
    }).pipe(Effect.provide(layerFresh()))
  )

  it.live("ended jobs are read from their index alone", () =>
    Effect.gen(function* () {
      const { db, sql } = yield* setup
      yield* sql.unsafe(jobs(5_000, "succeeded"))
      yield* sql.unsafe(`vacuum analyze polyqueue.polyqueue_jobs`)
      const text = FleetStats.endedStatement(db.names)
        .replace("$1::text", "'succeeded'")
        .replace("$2::timestamptz", "'-infinity'")
        .replace("$3::int4", "1000")
      const plan = yield* sql.unsafe(`explain ${text}`).values
      assert.include(plan.join("\n"), "Index Only Scan using polyqueue_jobs_finished")
    }).pipe(Effect.provide(layerFresh()))
  )
})
