/** W16 and W17: wrong clocks, and versions side by side. */
import * as Effect from "effect/Effect"
import { bothKinds, type Cell } from "../Cell.ts"
import * as Load from "../Load.ts"
import type { Stage } from "../Stage.ts"

/** Jobs must not have been claimed before their time. */
const noneEarly = Effect.fnUntraced(function* (stage: Stage) {
  const [row] = yield* stage.sql<{ n: number; late: number | null }>`
    select count(*) filter (where a.claimed_at < j.run_at)::int as n,
      (max(date_part('epoch', a.claimed_at - j.run_at)) * 1000)::float8 as late
    from polyqueue.polyqueue_jobs j join polyqueue.polyqueue_attempts a on a.job_id = j.id and a.attempt = 1
    where j.attempt = 1`
  stage.extra["late_ms_max"] = Math.round(row?.late ?? 0)
  if (row?.n !== 0) stage.violations.push(`${row?.n} jobs were claimed before their time`)
})

/** Half a load of jobs that are due later. */
export const delayed = Effect.fnUntraced(function* (stage: Stage, client: Load.ClientContext) {
  for (let i = 0; i < 30; i++) {
    yield* Load.enqueue(stage, client, {
      mode: "ok",
      ms: 20,
      expected: "succeeded",
      options: { delay: Math.round(500 + stage.random() * 3_000) }
    })
  }
})

export const cells: ReadonlyArray<Cell> = [
  {
    name: "W16",
    what: "clocks of workers are ten minutes late, ten minutes early, and jump",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const tenMinutes = 600_000
      const clocks = [
        { CHAOS_SKEW: String(tenMinutes) },
        { CHAOS_SKEW: String(-tenMinutes) },
        { CHAOS_SKEW_JUMP: String(tenMinutes) },
        { CHAOS_SKEW: String(tenMinutes), CHAOS_SKEW_JUMP: String(-2 * tenMinutes) }
      ]
      const client = yield* Load.client(stage)
      yield* stage.fleet(4, (nth) => ({ imports: ["skew.ts"], env: clocks[nth % 4]! }))
      yield* delayed(stage, client)
      const timeout = { after: 500, then: "fail" } as const
      for (let i = 0; i < 5; i++)
        yield* Load.enqueue(stage, client, { mode: "hook", ms: 0, expected: "timedOut", options: { timeout } })
      // Renewed for longer than a lease
      for (let i = 0; i < 8; i++) yield* Load.enqueue(stage, client, { mode: "ok", ms: 5_000, expected: "succeeded" })
      yield* Load.load(stage, client, { jobs: stage.size / 2 })
      yield* stage.drained()
      yield* noneEarly(stage)
      yield* stage.noneAbandoned
    })
  },
  {
    name: "W17",
    what: "workers of an old and a new version side by side: a type the old one does not know, a column it does not know",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(2, () => ({ version: "old" }))
      // Nobody knows them yet
      for (let i = 0; i < 20; i++)
        yield* Load.enqueue(stage, client, { mode: "ok", ms: 0, expected: "succeeded", newer: true })
      yield* Load.load(stage, client, { jobs: stage.size / 3, over: 2_000 })
      yield* stage.sql.unsafe("alter table polyqueue.polyqueue_jobs add column newer integer default 7")
      yield* stage.fleet(2, () => ({ version: "new" }))
      for (let i = 0; i < 20; i++)
        yield* Load.enqueue(stage, client, { mode: "ok", ms: 0, expected: "succeeded", newer: true })
      yield* Load.load(stage, client, { jobs: stage.size / 3, over: 2_000 })
      yield* stage.drained()
    })
  }
]
