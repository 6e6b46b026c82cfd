/** M1 to M6: maintenance by many at once, that dies, on tables that are full, and while they change. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { SqlClient } from "effect/sql/SqlClient"
import { JobStore, Migrations } from "../../../src/index.ts"
import { bothKinds, type Cell } from "../Cell.ts"
import * as Load from "../Load.ts"
import { now } from "../Report.ts"
import { percentile } from "../Runner.ts"
import { common, type Stage } from "../Stage.ts"

/** Rows that only fill the table. */
const ballast = (stage: Stage, count: number, kind: "queued" | "expired" | "ended") =>
  stage.sql
    .unsafe(`insert into polyqueue.polyqueue_jobs (id, run_at, enqueued_at, max_attempts, max_crashes, max_snoozes,
      priority, hinted, unique_live, status, queue, type, timeout_then, payload, attempt, finished_at, started_at,
      lease_expires_at, claim, lease_owner)
    select gen_random_uuid(), now() - interval '3 hours', now() - interval '3 hours', 3, 9, 9, 5, false, false,
      '${kind === "queued" ? "queued" : kind === "expired" ? "processing" : "succeeded"}', 'default', 'Ballast', 'retry', '{}',
      ${kind === "expired" ? 1 : 0}, ${kind === "ended" ? "now() - interval '2 hours'" : "null"},
      ${kind === "expired" ? "now() - interval '2 hours', now() - interval '1 hour', gen_random_uuid(), 'ballast'" : "null, null, null, null"}
    from generate_series(1, ${count})`)

const store = Effect.fnUntraced(function* (stage: Stage) {
  const context = yield* Layer.build(Layer.fresh(JobStore.layerPostgres).pipe(Layer.provide(yield* databaseOf(stage))))
  return yield* Effect.provideContext(JobStore, context)
})

const databaseOf = Effect.fnUntraced(function* (stage: Stage) {
  const client = yield* Load.client(stage)
  return Layer.succeed(SqlClient, yield* Effect.provideContext(SqlClient, client))
})

const killingSome = (stage: Stage, workers: () => ReadonlyArray<{ signal: (signal: "SIGKILL") => void }>) =>
  Effect.forever(
    Effect.delay(
      Effect.sync(() => {
        const all = workers()
        if (all.length >= 3) all[Math.floor(stage.random() * all.length)]?.signal("SIGKILL")
      }),
      1_200
    )
  )

export const cells: ReadonlyArray<Cell> = [
  {
    name: "M1",
    what: "five workers sweep all the time, without any lock, while others die",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      const workers = yield* stage.fleet(5, () => ({ sweep: 30 }))
      yield* Effect.raceFirst(Load.load(stage, client, { over: 5_000 }), killingSome(stage, workers))
      yield* stage.drained()
    })
  },
  {
    name: "M2",
    what: "a sweeper dies in the middle of its batch, and right after it",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      const workers = yield* stage.fleet(4, (nth) =>
        nth < 6
          ? { strikes: [{ point: nth % 2 === 0 ? "reaping" : "reaped", nth: nth % 2 === 0 ? 6 : 1, act: "kill" }] }
          : {}
      )
      yield* Effect.raceFirst(Load.load(stage, client, { over: 6_000 }), killingSome(stage, workers))
      yield* stage.drained()
      stage.extra["deaths"] = stage.ledger.points.length
      if (stage.ledger.points.length === 0) stage.violations.push("no sweeper died")
    })
  },
  {
    name: "M3",
    what: "a sweeper is paused while its statement runs: others go on",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      const workers = yield* stage.fleet(4, (nth) =>
        nth === 0 ? { strikes: [{ point: "reaping", nth: 4, act: "stop" }] } : {}
      )
      const loading = yield* Effect.forkScoped(Load.load(stage, client, { over: 6_000 }))
      const paused = yield* stage.reached("reaping")
      workers()
        .find(({ pid }) => pid !== paused)
        ?.signal("SIGKILL")
      yield* Fiber.join(loading)
      // Everything ends although it is still paused
      yield* stage.drained()
      if (paused !== undefined) process.kill(paused, "SIGCONT")
      yield* Effect.sleep(common.lease)
    })
  },
  {
    name: "M4",
    what: "the table is full of waiting jobs nobody handles, of abandoned ones, and of locked ones",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const scale = stage.size >= 2_000 ? 10 : 1
      const client = yield* Load.client(stage)
      yield* ballast(stage, 60_000 * scale, "queued")
      yield* ballast(stage, 3_000 * scale, "expired")
      yield* stage.sql.unsafe("analyze polyqueue.polyqueue_jobs")
      const own = yield* store(stage)
      const sweeps: Array<number> = []
      const locking = yield* Effect.forkScoped(
        stage.sql.withTransaction(
          Effect.andThen(
            stage.sql`select id from polyqueue.polyqueue_jobs where status = 'processing' and type = 'Ballast'
              order by lease_expires_at, id limit ${1_000 * scale} for update`,
            Effect.sleep(5_000)
          )
        )
      )
      yield* Effect.sleep(200)
      for (let i = 0; i < 20; i++) {
        const at = now()
        yield* own.reap({ limit: 100, exceptWorkers: [] })
        sweeps.push(now() - at)
      }
      yield* stage.fleet(4)
      yield* Load.load(stage, client)
      yield* Fiber.join(locking)
      yield* stage.drained()
      let left = -1
      for (let i = 0; i < 200 && left !== 0; i++) {
        const [row] = yield* stage.sql<{ n: number }>`select count(*)::int as n from polyqueue.polyqueue_jobs
          where status = 'processing' and type = 'Ballast'`
        left = row?.n ?? -1
        yield* Effect.sleep(50)
      }
      const p99 = percentile(sweeps, 0.99) ?? -1
      stage.extra["sweep_ms_p50"] = percentile(sweeps, 0.5) ?? -1
      stage.extra["sweep_ms_p99"] = p99
      if (p99 > 500) stage.violations.push(`a sweep of 100 rows took ${p99} ms`)
      if (left !== 0) stage.violations.push(`${left} abandoned attempts were never ended`)
    })
  },
  {
    name: "M5",
    what: "old jobs are pruned while others are claimed, settled and read",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* ballast(stage, 20_000, "ended")
      const own = yield* store(stage)
      const hour = 3_600_000
      const retention = { succeeded: hour, failed: hour, cancelled: hour, attempts: hour }
      const took: Array<number> = []
      let pruned = 0
      yield* stage.fleet(4)
      const pruning = Effect.forever(
        Effect.gen(function* () {
          const at = now()
          pruned += yield* own.prune(retention, 500)
          took.push(now() - at)
          yield* Effect.sleep(20)
        })
      )
      yield* Effect.raceFirst(Load.load(stage, client), Effect.all([pruning, pruning], { concurrency: 2 }))
      yield* stage.drained()
      stage.extra["pruned"] = pruned
      stage.extra["prune_ms_p99"] = percentile(took, 0.99) ?? -1
      if (pruned < 10_000) stage.violations.push(`only ${pruned} old jobs were pruned`)
    })
  },
  {
    name: "M6",
    what: "the tables are migrated while workers live on them: a column, an index, and our own migrations again",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(4)
      const took: Array<number> = []
      const change = Effect.fnUntraced(function* (statement: string) {
        yield* Effect.sleep(600)
        const at = now()
        yield* stage.sql.unsafe(statement).unprepared
        took.push(now() - at)
      })
      const changes = Effect.gen(function* () {
        yield* stage.sql.unsafe("set lock_timeout = '1s'")
        yield* change("alter table polyqueue.polyqueue_jobs add column extra integer default 1")
        yield* change("create index concurrently extra_index on polyqueue.polyqueue_jobs (extra)")
        yield* change("alter table polyqueue.polyqueue_attempts add column extra text")
        yield* Effect.scoped(
          Layer.build(Layer.fresh(Migrations.layer()).pipe(Layer.provide(Layer.succeed(SqlClient, stage.sql))))
        )
      })
      yield* Effect.all([Load.load(stage, client, { over: 5_000 }), changes], { concurrency: 2 })
      yield* stage.drained()
      stage.extra["blocked_ms_max"] = Math.round(Math.max(...took))
    })
  }
]
