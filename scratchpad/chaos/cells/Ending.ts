/** W11 to W15: workers that are asked to end, jobs that end them, and loops that die. */
import * as Effect from "effect/Effect"
import { bothKinds, type Cell } from "../Cell.ts"
import * as Load from "../Load.ts"
import { now } from "../Report.ts"
import { percentile } from "../Runner.ts"
import { common } from "../Stage.ts"

export const cells: ReadonlyArray<Cell> = [
  {
    name: "W11",
    what: "workers are asked to end (SIGTERM) a hundred times, in any phase of their work",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const grace = 1_000
      const times = stage.size < 100 ? 10 : 100
      const client = yield* Load.client(stage)
      const workers = yield* stage.fleet(5, () => ({ grace }))
      const exits: Array<number> = []
      let left = 0
      let slow = 0
      const leftBehind = (pid: number) =>
        stage.sql<{ n: number }>`select count(*)::int as n from polyqueue.polyqueue_jobs j
          join polyqueue.polyqueue_workers w on w.id = j.lease_owner where w.pid = ${pid} and j.status = 'processing'`
      const seen = new Set<number>()
      const end = Effect.fnUntraced(function* (worker: ReturnType<typeof workers>[number]) {
        yield* Effect.sleep(Math.round(stage.random() * 800))
        const at = now()
        worker.signal("SIGTERM")
        const { code, signal } = yield* Effect.promise(() => worker.exited)
        exits.push(now() - at)
        if (code !== 130 && code !== 143 && code !== 0)
          stage.violations.push(`worker ${worker.pid} ended with ${signal ?? code}: ${worker.log().slice(-500)}`)
        if (now() - at > grace + 2_000) slow++
        const [row] = yield* leftBehind(worker.pid)
        left += row?.n ?? 0
      })
      // Some outlive the grace, so that there is something to give back
      const feed = Effect.forever(
        Effect.gen(function* () {
          const queued = yield* stage.sql<{ n: number }>`
            select count(*)::int as n from polyqueue.polyqueue_jobs where status = 'queued'`
          if ((queued[0]?.n ?? 0) < 40) {
            for (const task of Load.tasks(stage, 20, 50, 600)) yield* Load.enqueue(stage, client, task)
            yield* Load.enqueue(stage, client, { mode: "ok", ms: 2_500, expected: "succeeded" })
          }
          yield* Effect.sleep(100)
        })
      )
      const ending = Effect.gen(function* () {
        while (seen.size < times) {
          for (const worker of workers()) {
            if (seen.has(worker.pid) || seen.size >= times) continue
            seen.add(worker.pid)
            yield* Effect.forkScoped(end(worker))
          }
          yield* Effect.sleep(20)
        }
        while (exits.length < times) yield* Effect.sleep(20)
      })
      yield* Effect.raceFirst(ending, feed)
      yield* stage.drained()
      const [row] = yield* stage.sql<{ released: number; failed: number }>`
        select sum(interruptions)::int as released, count(*) filter (where crashes > 0)::int as failed
        from polyqueue.polyqueue_jobs`
      stage.extra["exits"] = exits.length
      stage.extra["exit_ms_p50"] = percentile(exits, 0.5) ?? -1
      stage.extra["exit_ms_p99"] = percentile(exits, 0.99) ?? -1
      stage.extra["released"] = row?.released ?? 0
      if (slow > 0) stage.violations.push(`${slow} of ${times} workers took longer than ${grace + 2_000} ms to end`)
      if (left > 0) stage.violations.push(`${left} rows were left behind by workers that had ended`)
      if (row?.released === 0) stage.violations.push("nothing was given back: the cell shows nothing")
    })
  },
  {
    name: "W12",
    what: "a worker is asked to end and killed while it drains",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      const workers = yield* stage.fleet(4)
      const ending = Effect.forever(
        Effect.gen(function* () {
          yield* Effect.sleep(500)
          const worker = workers()[0]
          if (worker === undefined || workers().length < 3) return
          worker.signal("SIGTERM")
          yield* Effect.sleep(common.grace / 4)
          worker.signal("SIGKILL")
        })
      )
      yield* Effect.raceFirst(
        Load.load(stage, client, { over: 6_000, from: 100, to: 1_200, jobs: stage.size / 3 }),
        ending
      )
      yield* stage.drained()
    })
  },
  {
    name: "W13",
    what: "poison: jobs that take their process down, among others",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage, { maxCrashes: 3 })
      yield* stage.fleet(4)
      const poison = [
        yield* Load.enqueue(stage, client, { mode: "exit", ms: 0, expected: "poison" }),
        yield* Load.enqueue(stage, client, { mode: "kill", ms: 0, expected: "poison" })
      ]
      yield* Load.load(stage, client)
      yield* stage.drained(90_000)
      for (const job of poison) {
        const [row] = yield* stage.sql<{ n: number }>`
          select crashes as n from polyqueue.polyqueue_jobs where id = ${job}::uuid`
        if (row?.n !== 3) stage.violations.push(`${job} took ${row?.n} processes down, not 3`)
      }
      stage.extra["kills"] = stage.ledger.faults.filter(({ kind }) => kind === "exit" || kind === "kill").length
    })
  },
  {
    name: "W14",
    what: "handlers leave rejected promises, die in finalizers and throw when interrupted",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(4)
      for (let i = 0; i < 10; i++) {
        yield* Load.enqueue(stage, client, { mode: "rejection", ms: 50, expected: "succeeded" })
        yield* Load.enqueue(stage, client, { mode: "finalizer", ms: 50, expected: "succeeded" })
        const timeout = { after: 300, then: "fail" } as const
        yield* Load.enqueue(stage, client, { mode: "hook", ms: 0, expected: "timedOut", options: { timeout } })
      }
      yield* Load.load(stage, client, { jobs: stage.size / 2 })
      yield* stage.drained()
      yield* stage.noneAbandoned
    })
  },
  {
    name: "W15",
    what: "the loop that renews leases dies of a defect",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(4, () => ({
        strikes: [2, 3, 7].map((nth) => ({ point: "renewing", nth, act: "defect" }) as const)
      }))
      for (let i = 0; i < 12; i++) yield* Load.enqueue(stage, client, { mode: "ok", ms: 5_000, expected: "succeeded" })
      yield* Load.load(stage, client, { jobs: stage.size / 2 })
      yield* stage.drained()
      yield* stage.noneAbandoned
      if (!stage.ledger.points.some(({ point }) => point === "renewing")) stage.violations.push("no renewal was struck")
    })
  }
]
