/** Defects of the original's tables, by their row in `table.ts`: shown absent by SQL. */
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import { Broker, Job, JobStore, Migrations, RetryAfter, Worker } from "../../src/index.ts"
import { system } from "../../src/store/postgres/DatabaseClock.ts"
import * as Names from "../../src/store/postgres/Names.ts"
import { progressStatement } from "../../src/store/postgres/Progress.ts"
import { renewStatement } from "../../src/store/postgres/Renew.ts"
import { describePostgres, freshDatabase, layerFresh } from "../support/Postgres.ts"
import { client, quick, until } from "./Stage.ts"

class Work extends Job.make("Work", { payload: { name: Schema.String } }) {}

const onPostgres = Layer.unwrap(Effect.map(freshDatabase, (url) => client(url, Broker.layerPostgres)))

interface Row {
  readonly status: string
  readonly lease: number | null
  readonly due: number
}

const rowOf = Effect.fnUntraced(function* (id: string) {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<Row>`select status, extract(epoch from lease_expires_at - now())::float8 as lease,
    extract(epoch from run_at - now())::float8 as due from polyqueue.polyqueue_jobs where id = ${id}::uuid`
  return rows[0]
})

describePostgres("the original's tables", () => {
  it.live("row 14: the row alone says until when a job is leased, when it runs, and whether it is ready or waits", () =>
    Effect.gen(function* () {
      const [started, go] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const handler = Work.toLayer(
        Effect.fnUntraced(function* () {
          yield* Deferred.succeed(started, undefined)
          yield* Deferred.await(go)
          return yield* new RetryAfter({ delay: "1 hour" })
        })
      )
      yield* Layer.build(Worker.layer([Work], { ...quick, lease: "20 seconds" }).pipe(Layer.provide(handler)))
      const job = yield* Work.enqueue({ name: "retried" })
      yield* Deferred.await(started)
      const running = yield* rowOf(job.id)
      assert.strictEqual(running?.status, "processing")
      const lease = running?.lease ?? 0
      assert.isTrue(lease > 0 && lease <= 20, `leased for ${lease} s`)
      yield* Deferred.succeed(go, undefined)
      const waiting = yield* until(rowOf(job.id), (row) => row?.status === "queued")
      assert.isNull(waiting!.lease)
      assert.isTrue(waiting!.due > 3_500 && waiting!.due <= 3_600, `due in ${waiting!.due} s`)
      // What waits for its time is not what waits for a worker, and is no reason for an alarm
      const sql = yield* SqlClient.SqlClient
      yield* sql`update polyqueue.polyqueue_jobs set enqueued_at = now() - interval '1 day'`
      const [stats] = yield* JobStore.use((store) => store.stats)
      assert.deepStrictEqual([stats?.queued, stats?.waiting, stats?.oldestAge], [0, 1, undefined])
    }).pipe(Effect.scoped, Effect.provide(onPostgres))
  )

  it.live("row 38: renewals and progress are HOT updates: no index is written", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const names = yield* Effect.fromResult(Names.make())
      yield* Migrations.migrate()
      const [id, claim] = [randomUUID(), randomUUID()]
      yield* sql.unsafe(`insert into ${names.jobs} (id, run_at, enqueued_at, max_attempts, max_crashes, max_snoozes, priority,
        hinted, unique_live, status, queue, type, timeout_then, payload, attempt, claim, lease_owner, started_at, lease_expires_at)
        values ('${id}', now(), now(), 3, 3, 3, 5, true, false, 'processing', 'q', 't', 'retry', '{}', 1, '${claim}', 'w', now(),
        now())`)
      const written = yield* sql.withTransaction(
        Effect.gen(function* () {
          for (let n = 0; n < 5; n++) {
            const lease = [`{${id}}`, "{1}", `{${claim}}`]
            yield* sql.unsafe(renewStatement(names, system), [...lease, "30000"])
            yield* sql.unsafe(progressStatement(names, system), [...lease, `{"{\\"done\\":${n}}"}`])
          }
          // Counts of this transaction, which no other can blur
          return yield* sql<{ all: number; hot: number }>`select n_tup_upd::int as all, n_tup_hot_upd::int as hot
            from pg_stat_xact_user_tables where relname = 'polyqueue_jobs'`
        })
      )
      assert.deepStrictEqual(written, [{ all: 10, hot: 10 }])
    }).pipe(Effect.provide(layerFresh({ maxConnections: 1 })))
  )
})
