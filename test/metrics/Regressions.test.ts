/** Defects of the original that must not be here, by their row in the list: 27, 28, 41; and its nine metric hooks. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Layer, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import {
  Broker,
  Job,
  JobStore,
  type MetricEvent,
  Metrics,
  Polyqueue,
  TerminalError,
  Worker,
  WorkerRegistry
} from "../../src/index.ts"
import { version } from "../../src/version.ts"
import { describePostgres, layerFresh } from "../support/Postgres.ts"

class Flaky extends Job.make("Flaky", {
  payload: { fails: Schema.Int },
  retry: { schedule: Schedule.spaced("20 millis").pipe(Schedule.upTo({ times: 3 })) }
}) {}
class Slow extends Job.make("Slow", { timeout: { after: "1 second", then: "fail" } }) {}

let runs = 0
const Handlers = Layer.mergeAll(
  Flaky.toLayer(({ fails }) =>
    Effect.suspend(() => {
      runs++
      if (runs > fails) return Effect.void
      return runs === 1
        ? Effect.die(new Error(`defect ${runs}`))
        : Effect.fail(new TerminalError({ message: "enough" }))
    })
  ),
  Slow.toLayer(() => Effect.never)
)

const until = <A, E, R>(look: Effect.Effect<A, E, R>, holds: (a: A) => boolean) =>
  Effect.repeat(Effect.delay(look, "10 millis"), { until: holds })

describePostgres("rows 27, 28 and 41", () => {
  /** A worker on a database of its own; at each event, what the database says of the job is kept with it. */
  const stack = (record: (event: MetricEvent) => void, options: Worker.Options = {}) =>
    Worker.layer([Flaky, Slow], { sweepEvery: "50 millis", ...options }).pipe(
      Layer.provide(Handlers),
      Layer.provideMerge(Polyqueue.layerPostgresWith({ metrics: Layer.succeed(Metrics, { enabled: true, record }) })),
      Layer.provideMerge(Broker.layerPostgres),
      Layer.provideMerge(layerFresh())
    )

  it.live("row 27: the last error is written with the state it belongs to, and goes with a success", () => {
    runs = 0
    return Effect.gen(function* () {
      const store = yield* JobStore
      const job = yield* Flaky.enqueue({ fails: 1 })
      const states: Array<string> = []
      const live = ["0 none", "1 defect"].flatMap((rest) => [`queued ${rest}`, `processing ${rest}`])
      const allowed = new Set([...live, "succeeded 1 none"])
      const watch = Effect.map(store.get([job.id]), ([row]) => {
        // Never a failure without its error, never an error without its failure
        states.push(`${row!.status} ${row!.failures} ${row!.error?.code ?? "none"}`)
        return row!
      })
      yield* Effect.repeat(watch, { until: ({ status }) => status === "succeeded" })
      assert.isTrue(
        states.every((state) => allowed.has(state)),
        states.join()
      )
      const ended = yield* watch
      assert.deepStrictEqual([ended.status, ended.failures, ended.error], ["succeeded", 1, undefined])
    }).pipe(Effect.provide(stack(() => {})))
  })

  it.live("row 27: the reaper's reset leaves the reaper's error, not an older one", () =>
    Effect.gen(function* () {
      const store = yield* JobStore
      const id = yield* (yield* Polyqueue).makeId
      yield* Slow.enqueue(undefined, { id })
      const claim = (n: number) =>
        store.claimHinted({
          claim: `00000000-0000-4000-8000-00000000000${n}`,
          worker: `w${n}`,
          lease: 1,
          ids: [id],
          types: ["Slow"],
          suspects: 1
        })
      const { claimed } = yield* claim(1)
      yield* store.settle("w1", [
        { ...claimed[0]!, _tag: "Failed", error: { code: "error", message: "older" }, retryIn: 0 }
      ])
      yield* claim(2)
      const reaped = yield* until(store.reap({ limit: 10, exceptWorkers: [] }), (rows) => rows.length === 1)
      assert.strictEqual(reaped[0]?.status, "queued")
      const [row] = yield* store.get([id])
      assert.deepStrictEqual([row?.error?.code, row?.failures, row?.crashes], ["crashed", 1, 1])
    }).pipe(
      Effect.provide(
        Layer.provideMerge(Polyqueue.layerPostgres, Layer.provideMerge(Broker.layerPostgres, layerFresh()))
      )
    )
  )

  it.live("row 27: the event of a retry comes when the retry is in the database", () => {
    runs = 0
    const seen: Array<Promise<{ readonly final: boolean; readonly failures: number | undefined }>> = []
    let look: (() => Promise<number | undefined>) | undefined
    const record = (event: MetricEvent) => {
      if (event._tag === "Ended") {
        seen.push(look!().then((failures) => ({ final: event.final, failures })))
      }
    }
    return Effect.gen(function* () {
      const store = yield* JobStore
      const run = Effect.runPromiseWith(yield* Effect.context<never>())
      const id = yield* (yield* Polyqueue).makeId
      look = () => run(Effect.map(store.get([id]), ([row]) => row?.failures))
      const job = yield* Flaky.enqueue({ fails: 1 }, { id })
      yield* job.await
      yield* until(
        Effect.sync(() => seen.length),
        (n) => n === 2
      )
      assert.deepStrictEqual(yield* Effect.promise(() => Promise.all(seen)), [
        { final: false, failures: 1 },
        { final: true, failures: 1 }
      ])
    }).pipe(Effect.provide(stack(record)))
  })

  it.live("row 28: the stack of a failed attempt is stored, with the place where it failed", () => {
    runs = 0
    return Effect.gen(function* () {
      const job = yield* Flaky.enqueue({ fails: 2 })
      yield* Effect.flip(job.await)
      const [first, second] = yield* (yield* JobStore).attempts(job.id)
      assert.include(first?.error?.stack ?? "", "defect 1")
      assert.include(first?.error?.stack ?? "", "Regressions.test.ts")
      assert.include(second?.error?.stack ?? "", "enough")
    }).pipe(Effect.provide(stack(() => {})))
  })

  it.live("row 41: a worker's row says its name and version", () =>
    Effect.gen(function* () {
      const workers = yield* (yield* WorkerRegistry).list
      assert.deepStrictEqual(
        workers.map((worker) => [worker.name, worker.version]),
        [["mailer", version]]
      )
      assert.match(version, /^\d+\.\d+\.\d+/)
    }).pipe(Effect.provide(stack(() => {}, { name: "mailer" })))
  )
})

describe("the nine hooks of the original", () => {
  it.effect(
    "are all events: enqueued, started, succeeded, failed, timed out, retried, worker started, heartbeat, stopped",
    () => {
      const hooks: Array<string> = []
      const record = (event: MetricEvent) => {
        switch (event._tag) {
          case "Enqueued":
            return hooks.push("enqueued")
          case "Started":
            return hooks.push("started")
          case "Ended":
            if (event.outcome === "timedOut") hooks.push("timed out")
            if (event.outcome === "succeeded") hooks.push("succeeded")
            return hooks.push(event.final && event.outcome !== "succeeded" ? "failed" : event.final ? "" : "retried")
          case "Worker":
            return hooks.push(`worker ${event.event}`)
          default:
            return
        }
      }
      runs = 0
      const Live = Worker.layer([Flaky, Slow]).pipe(
        Layer.provide(Handlers),
        Layer.provideMerge(Polyqueue.layer),
        Layer.provideMerge(
          Layer.mergeAll(
            JobStore.layerMemory,
            WorkerRegistry.layerMemory,
            Broker.layerMemory,
            Layer.succeed(Metrics, { enabled: true, record })
          )
        )
      )
      return Effect.gen(function* () {
        yield* Effect.gen(function* () {
          yield* Flaky.enqueue({ fails: 1 })
          const slow = yield* Slow.enqueue()
          yield* TestClock.adjust("1 minute")
          const exit = yield* Effect.exit(slow.await)
          assert.isTrue(exit._tag === "Failure" && Cause.hasFails(exit.cause))
        }).pipe(Effect.provide(Live))
        assert.includeMembers(hooks, [
          "enqueued",
          "started",
          "succeeded",
          "failed",
          "timed out",
          "retried",
          "worker started",
          "worker heartbeat",
          "worker stopped"
        ])
      })
    }
  )
})
