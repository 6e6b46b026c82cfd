/** B1 to B12: brokers that lose, double, delay, invent and go away. None of it explains a job that runs twice. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { carriers, type Cell, everywhere } from "../Cell.ts"
import * as HistoryOf from "../History.ts"
import * as Load from "../Load.ts"
import { now } from "../Report.ts"
import { percentile } from "../Runner.ts"
import type { Stage, WorkerChanges } from "../Stage.ts"
import type { Troubles } from "../Troubles.ts"
import { delayed } from "./Time.ts"

/** Ms from each of these instants to the first claim of the jobs that waited then. */
const waitedSince = Effect.fnUntraced(function* (stage: Stage, instants: ReadonlyArray<number>) {
  const rows = yield* HistoryOf.firstClaims(stage.sql, stage.clock)
  for (const instant of instants)
    for (const { claimed, due } of rows)
      if (due < instant && claimed > instant) stage.recoveries.push(claimed - instant)
})

/** Straight claims come every second, whatever the broker lost: that, and two seconds. */
const recoversWithin = 3_000

/** The common load through a broker in trouble, on both sides. */
const through = (troubles: Troubles, workers: WorkerChanges = {}) =>
  Effect.fnUntraced(function* (stage: Stage) {
    const client = yield* Load.client(stage, { troubles })
    yield* stage.fleet(4, () => ({ troubles, ...workers }))
    yield* delayed(stage, client)
    yield* Load.load(stage, client)
    yield* stage.drained()
    const messages = Array.from(stage.ledger.counts.values()).reduce((n, { received }) => n + received, 0)
    stage.extra["broker_msgs_per_job"] = Math.round((messages / stage.ledger.client.size) * 100) / 100
  })

export const cells: ReadonlyArray<Cell> = [
  {
    name: "B1",
    what: "the broker loses everything (FLUSHALL, purge), again and again",
    brokers: carriers,
    recoversWithin,
    run: Effect.fnUntraced(function* (stage) {
      const times = stage.size >= 2_000 ? 20 : 6
      const client = yield* Load.client(stage)
      yield* stage.fleet(4)
      yield* delayed(stage, client)
      const losses: Array<number> = []
      const lose = Effect.forever(
        Effect.gen(function* () {
          yield* Effect.sleep(800)
          yield* stage.broker.loseAll ?? Effect.void
          losses.push(now())
        })
      )
      yield* Effect.raceFirst(Load.load(stage, client, { over: 800 * times + 400, from: 100, to: 300 }), lose)
      yield* stage.drained()
      stage.extra["losses"] = losses.length
      yield* waitedSince(stage, losses)
    })
  },
  {
    name: "B2",
    what: "the broker is killed and started again, empty or not",
    brokers: ["redis", "sqs", "service-bus"],
    recoversWithin: recoversWithin + 2_000,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(4)
      const kills: Array<number> = []
      const kill = Effect.forever(
        Effect.gen(function* () {
          yield* Effect.sleep(1_200)
          kills.push(now())
          const restart = Effect.andThen(stage.broker.stop ?? Effect.void, stage.broker.start ?? Effect.void)
          yield* Effect.uninterruptible(restart)
        })
      )
      yield* Effect.raceFirst(Load.load(stage, client, { over: 6_500, from: 100, to: 300 }), kill)
      yield* stage.drained()
      yield* waitedSince(stage, kills)
    })
  },
  {
    name: "B3",
    what: "the broker is away for a while: enqueues commit, workers look for themselves",
    brokers: ["redis", "sqs", "service-bus"],
    run: Effect.fnUntraced(function* (stage) {
      const away = stage.size >= 2_000 ? 60_000 : 5_000
      const client = yield* Load.client(stage)
      yield* stage.fleet(4)
      const loading = yield* Effect.forkScoped(Load.load(stage, client, { over: away + 3_000 }))
      yield* Effect.sleep(1_000)
      yield* stage.broker.stop ?? Effect.void
      const took: Array<number> = []
      const until = now() + away
      while (now() < until) {
        const at = now()
        yield* Load.enqueue(stage, client, { mode: "ok", ms: 10, expected: "succeeded" })
        took.push(now() - at)
        yield* Effect.sleep(100)
      }
      const ran = stage.ledger.runs.filter(({ startedAt }) => startedAt > until - away + 2_000).length
      yield* stage.broker.start ?? Effect.void
      yield* Fiber.join(loading)
      yield* stage.drained()
      stage.extra["enqueue_ms_p99"] = percentile(took, 0.99) ?? -1
      stage.extra["runs_while_away"] = ran
      if (ran === 0) stage.violations.push("nothing ran while the broker was away")
    })
  },
  {
    name: "B4",
    what: "30 % of hints are dropped, 30 % doubled, all are reordered and late",
    brokers: everywhere,
    run: through({ drop: 0.3, double: 0.3, reorder: true, delay: 1_500 })
  },
  {
    name: "B5",
    what: "hints come again while their job runs, and then its owner dies",
    brokers: carriers,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      const workers = yield* stage.fleet(4, () => ({ brokerLease: 1_000, troubles: { extendFails: 1 } }))
      for (let i = 0; i < 12; i++) yield* Load.enqueue(stage, client, { mode: "ok", ms: 7_000, expected: "succeeded" })
      yield* Effect.sleep(3_000)
      workers()[0]?.signal("SIGKILL")
      yield* Load.load(stage, client, { jobs: stage.size / 3 })
      yield* stage.drained()
    })
  },
  {
    name: "B6",
    what: "acks are lost, or take effect and are answered with a failure",
    brokers: carriers,
    run: through({ ackLost: 0.3, ackUnsure: 0.3 }, { brokerLease: 1_000 })
  },
  {
    name: "B7",
    what: "receipts of earlier deliveries are used again, to ack and to extend",
    brokers: carriers,
    run: through({ staleReceipts: true, double: 0.3, ackLost: 0.2 }, { brokerLease: 1_000 })
  },
  {
    name: "B8",
    what: "messages that are not ours: foreign, damaged, huge, of jobs that are unknown or have ended",
    brokers: carriers,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage, { troubles: { ghosts: 0.3, again: 0.3 } })
      yield* stage.fleet(4)
      const strangers = Effect.forever(Effect.delay(stage.broker.foreign ?? Effect.void, 500))
      yield* Effect.raceFirst(Load.load(stage, client), strangers)
      yield* stage.drained()
    })
  },
  {
    name: "B9",
    what: "the broker's lease is shorter than the jobs, and every extension fails",
    brokers: carriers,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(4, () => ({ brokerLease: 1_000, troubles: { extendFails: 1 } }))
      for (let i = 0; i < 10; i++) yield* Load.enqueue(stage, client, { mode: "ok", ms: 6_000, expected: "succeeded" })
      yield* Load.load(stage, client, { jobs: stage.size / 2 })
      yield* stage.drained()
      const [row] = yield* stage.sql<{ n: number }>`
        select count(*)::int as n from polyqueue.polyqueue_attempts where outcome in ('crashed', 'released')`
      if (row?.n !== 0 && !stage.ledger.faults.some(({ kind }) => kind === "starved"))
        stage.violations.push(`${row?.n} attempts ended because of the broker's lease`)
    })
  },
  {
    name: "B10",
    what: "Redis evicts keys as it likes",
    brokers: ["redis"],
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(4)
      const evicting = Effect.forever(Effect.delay(stage.broker.evict ?? Effect.void, 400))
      yield* Effect.raceFirst(Load.load(stage, client), evicting)
      yield* stage.drained()
    })
  },
  {
    name: "B11",
    what: "jobs that are due later: on time, whatever delays the broker can do",
    brokers: everywhere,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(4)
      yield* delayed(stage, client)
      yield* delayed(stage, client)
      yield* stage.drained()
      const rows = yield* stage.sql<{ late: number }>`
        select (date_part('epoch', a.claimed_at - j.run_at) * 1000)::float8 as late from polyqueue.polyqueue_jobs j
        join polyqueue.polyqueue_attempts a on a.job_id = j.id and a.attempt = 1`
      const late = rows.map((row) => row.late)
      stage.extra["drift_ms_p50"] = percentile(late, 0.5) ?? -1
      stage.extra["drift_ms_p99"] = percentile(late, 0.99) ?? -1
      if (late.some((ms) => ms < 0)) stage.violations.push("a job was claimed before its time")
    })
  },
  {
    name: "B12",
    what: "the relay dies between marking hints as published and publishing them, or after it",
    brokers: carriers,
    run: Effect.fnUntraced(function* (stage) {
      // Only the relay publishes
      const client = yield* Load.client(stage, { brokerless: true })
      yield* stage.fleet(4, (nth) =>
        nth < 6 ? { strikes: [{ point: nth % 2 === 0 ? "taken" : "published", nth: 2, act: "kill" }] } : {}
      )
      yield* Load.load(stage, client, { over: 6_000 })
      yield* stage.drained()
      const died = stage.ledger.points.length
      stage.extra["deaths"] = died
      if (died === 0) stage.violations.push("no relay died")
    })
  }
]
