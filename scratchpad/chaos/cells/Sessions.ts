/** P6 to P8: networks and pools between workers and PostgreSQL. */
import * as Effect from "effect/Effect"
import { bothKinds, type Cell } from "../Cell.ts"
import * as Load from "../Load.ts"
import { now } from "../Report.ts"
import type { Stage } from "../Stage.ts"

const abandoned = (stage: Stage) =>
  Effect.map(
    stage.sql<{ n: number }>`select count(*)::int as n from polyqueue.polyqueue_attempts where outcome = 'crashed'`,
    ([row]) => row?.n ?? -1
  )

/** No lease may be lost: not to the reaper, and not in the worker's own view. */
const noLeaseLost = Effect.fnUntraced(function* (stage: Stage) {
  const lost = Array.from(stage.ledger.counts.values()).reduce((n, { leasesLost }) => n + leasesLost, 0)
  const reaped = yield* abandoned(stage)
  stage.extra["leases_lost"] = lost
  const starved = stage.ledger.faults.some(({ kind }) => kind === "starved")
  if ((lost > 0 || reaped > 0) && !starved)
    stage.violations.push(`${lost} leases were lost and ${reaped} attempts abandoned, although everybody lived`)
})

/** A statement of work may hang for 15 s, then its session is given up, which takes the client 5 s. */
const deadline = 20_000

export const cells: ReadonlyArray<Cell> = [
  {
    name: "P6",
    what: "the connections of a worker are half-open: nothing comes through, and nobody is told",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      const hit = yield* stage.spawn({ proxied: true })
      const others = [yield* stage.spawn(), yield* stage.spawn()]
      const loading = Load.load(stage, client, { over: deadline + 10_000 })
      const trouble = Effect.gen(function* () {
        yield* Effect.sleep(1_500)
        const at = now()
        stage.fault("half-open", { at, until: at + deadline + 5_000, pid: hit.pid })
        stage.proxy.blackhole(/./)
        // New connections work: what is recovered from is not to be told
        stage.proxy.heal()
        // They take over, and then leave the rest to it: beside quicker ones it might find no job for a while
        yield* Effect.sleep(5_000)
        for (const other of others) other.signal("SIGTERM")
        const busy = () => stage.ledger.runs.find((run) => run.pid === hit.pid && run.startedAt > at + 1_000)
        while (busy() === undefined && now() < at + deadline + 10_000) yield* Effect.sleep(50)
        const again = busy()?.startedAt
        stage.extra["back_after_ms"] = again === undefined ? -1 : Math.round(again - at)
        if (again === undefined || again - at > deadline + 5_000)
          stage.violations.push(`the worker did not work again within ${deadline + 5_000} ms`)
        else stage.recoveries.push(again - at)
      })
      yield* Effect.all([loading, trouble], { concurrency: 2 })
      yield* stage.drained()
    })
  },
  {
    name: "P7",
    what: "PostgreSQL is 500 ± 400 ms away, a quarter of the lease at most",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      stage.proxy.latency = () => Math.round(50 + stage.random() * 400)
      const client = yield* Load.client(stage)
      yield* stage.fleet(4, () => ({ proxied: true, lease: 4_000, slots: 10 }))
      for (let i = 0; i < 8; i++) yield* Load.enqueue(stage, client, { mode: "ok", ms: 9_000, expected: "succeeded" })
      yield* Load.load(stage, client, { jobs: stage.size / 3 })
      yield* stage.drained()
      yield* noLeaseLost(stage)
    })
  },
  {
    name: "P8",
    what: "handlers use up the application's pool: two sessions, fifty handlers",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(2, () => ({ maxConnections: 2, slots: 50 }))
      for (let i = 0; i < 80; i++) yield* Load.enqueue(stage, client, { mode: "query", ms: 300, expected: "succeeded" })
      yield* Load.load(stage, client, { jobs: stage.size / 3 })
      yield* stage.drained()
      yield* noLeaseLost(stage)
    })
  }
]
