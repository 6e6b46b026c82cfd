/** W7 to W10: processes that live and do nothing, or nothing else. */
import * as Effect from "effect/Effect"
import { bothKinds, type Cell } from "../Cell.ts"
import * as Load from "../Load.ts"
import { common, type Stage } from "../Stage.ts"

/** Ms from the first fault of a kind to the end of the attempt of a job. */
const endedAfter = Effect.fnUntraced(function* (stage: Stage, job: string, kind: string) {
  const fault = stage.ledger.faults.find((one) => one.kind === kind)
  const [row] = yield* stage.sql<{ at: number; outcome: string }>`
    select (date_part('epoch', ended_at) * 1000)::float8 as at, outcome from polyqueue.polyqueue_attempts
    where job_id = ${job}::uuid order by attempt limit 1`
  return row === undefined || fault === undefined
    ? undefined
    : { ms: Math.round(row.at + stage.clock - fault.at), outcome: row.outcome }
})

export const cells: ReadonlyArray<Cell> = [
  {
    name: "W7",
    what: "a worker is paused while a transaction of its application holds the lock of the job's row",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const idleTimeout = 1_500
      const client = yield* Load.client(stage)
      const workers = yield* stage.fleet(4)
      const task = { mode: "lock", ms: idleTimeout, expected: "succeeded" } as const
      const job = yield* Load.enqueue(stage, client, task)
      yield* Load.load(stage, client, { jobs: stage.size / 2 })
      yield* stage.drained()
      for (const worker of workers()) worker.signal("SIGCONT")
      yield* Effect.sleep(500)
      const ended = yield* endedAfter(stage, job, "stop with the lock")
      const limit = common.lease + idleTimeout + common.sweep + 2_000
      stage.extra["ended_ms"] = ended?.ms ?? -1
      if (ended === undefined || ended.ms > limit)
        stage.violations.push(`the job of the paused worker was free after ${ended?.ms} ms, not ${limit}`)
    })
  },
  {
    name: "W8",
    what: "a job blocks the event loop of its worker for three leases",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(4)
      for (let i = 0; i < 2; i++)
        yield* Load.enqueue(stage, client, { mode: "block", ms: common.lease * 3, expected: "succeeded" })
      yield* Load.load(stage, client, { jobs: stage.size / 2 })
      yield* Effect.sleep(common.lease * 2)
      yield* stage.drained()
      stage.extra["jobs_hit_per_block"] = stage.ledger.runs.filter(({ how }) => how === "interrupted").length / 2
    })
  },
  {
    name: "W9",
    what: "a handler never ends and blocks its process: maintenance of others times it out",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      const workers = yield* stage.fleet(4)
      const job = yield* Load.enqueue(stage, client, {
        mode: "endless",
        ms: 0,
        expected: "timedOut",
        options: { timeout: { after: 300, then: "fail" } }
      })
      yield* Load.load(stage, client, { jobs: stage.size / 2 })
      const limit = 300 + common.interruptGrace + common.sweep * 2 + 2_000
      yield* Effect.sleep(limit)
      const blocked = new Set(stage.ledger.faults.filter(({ kind }) => kind === "block").map(({ pid }) => pid))
      // What a liveness probe does: no code of a process can end it while its event loop is blocked
      const ended = workers().filter(({ pid }) => !blocked.has(pid)).length === workers().length
      stage.extra["process_ended_by_itself"] = String(ended)
      for (const worker of workers()) if (blocked.has(worker.pid)) worker.signal("SIGKILL")
      yield* stage.drained()
      const after = yield* endedAfter(stage, job, "block")
      stage.extra["ended_ms"] = after?.ms ?? -1
      if (after === undefined || after.ms > limit || after.outcome !== "timedOut")
        stage.violations.push(
          `the endless handler: ${after?.outcome} after ${after?.ms} ms, not timedOut within ${limit}`
        )
    })
  },
  {
    name: "W10",
    what: "a handler cannot be interrupted and runs past its timeout: settled without it",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(4)
      const timeout = { after: 500, then: "fail" } as const
      const job = yield* Load.enqueue(stage, client, {
        mode: "stubborn",
        ms: 6_000,
        expected: "timedOut",
        options: { timeout }
      })
      yield* Load.load(stage, client, { jobs: stage.size / 2 })
      yield* stage.drained()
      // To its end, which changes nothing
      for (let i = 0; i < 100 && !stage.ledger.runs.some((run) => run.job === job && run.how !== undefined); i++)
        yield* Effect.sleep(100)
      yield* Effect.sleep(500)
      const ended = yield* endedAfter(stage, job, "stubborn")
      const limit = timeout.after + common.interruptGrace + 2_000
      stage.extra["ended_ms"] = ended?.ms ?? -1
      if (ended === undefined || ended.ms > limit || ended.outcome !== "timedOut")
        stage.violations.push(`it was ${ended?.outcome} after ${ended?.ms} ms, not timedOut within ${limit}`)
    })
  }
]
