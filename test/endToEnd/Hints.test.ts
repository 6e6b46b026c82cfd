/**
 * Hints are never counted on: whatever a broker does with them costs latency only, and costs it little. On the memory store,
 * with a broker that loses, doubles and reorders.
 */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Schema } from "effect"
import { Broker, Job, JobStore, Metrics, Polyqueue, Worker, WorkerRegistry } from "../../src/index.ts"
import * as ChaosBroker from "../support/ChaosBroker.ts"
import * as ReferenceBroker from "../support/ReferenceBroker.ts"

class Noop extends Job.make("Noop", { payload: { n: Schema.Int } }) {}
class Foreign extends Job.make("Foreign", {}) {}

class Trouble extends Context.Service<
  Trouble,
  { readonly chaos: ChaosBroker.Chaos; readonly flush: Effect.Effect<void> }
>()("test/Trouble") {}

const BrokerLive = Layer.effectContext(
  Effect.gen(function* () {
    const reference = yield* ReferenceBroker.make()
    const { chaos, driver } = ChaosBroker.make(reference.driver, 7)
    const flush = Effect.orDie(reference.driver.purge("default"))
    return Context.make(Broker, driver).pipe(Context.add(Trouble, { chaos, flush }))
  })
)

const Client = Polyqueue.layer.pipe(
  Layer.provideMerge(Layer.mergeAll(JobStore.layerMemory, WorkerRegistry.layerMemory, Metrics.layerNoop, BrokerLive))
)
const worker = (run: (n: number) => Effect.Effect<void>) =>
  Layer.build(
    Worker.layer([Noop], { concurrency: 200, sweepEvery: "500 millis" }).pipe(
      Layer.provide(Noop.toLayer(({ n }) => run(n)))
    )
  )

const enqueue = Effect.fnUntraced(function* (count: number) {
  for (let n = 0; n < count; n += 1_000) {
    yield* Noop.enqueueAll(Array.from({ length: Math.min(1_000, count - n) }, (_, i) => ({ n: n + i })))
  }
})

/** Counts runs, and answers when each job has run. */
const counter = (count: number) => {
  const runs = new Map<number, number>()
  return {
    runs,
    run: (n: number) => Effect.sync(() => void runs.set(n, (runs.get(n) ?? 0) + 1)),
    all: Effect.repeat(Effect.sleep("20 millis"), { until: () => runs.size >= count }),
    mostly: (share: number) => Effect.repeat(Effect.sleep("5 millis"), { until: () => runs.size >= share * count })
  }
}

const once = (runs: ReadonlyMap<number, number>) => Array.from(runs.values()).every((n) => n === 1)

describe("a broker that carries hints", () => {
  it.live(
    "a backlog of 50,000 with no loss costs at most 1.05 hints a job",
    () =>
      Effect.gen(function* () {
        const { chaos } = yield* Trouble
        const { all, run, runs } = counter(50_000)
        yield* enqueue(50_000)
        yield* worker(run)
        yield* all
        assert.isTrue(once(runs))
        assert.isAtMost(chaos.published / 50_000, 1.05)
        assert.isAbove(chaos.received, 25_000, "most came by their hints, not by looking")
      }).pipe(Effect.scoped, Effect.provide(Client)),
    60_000
  )

  it.live(
    "losing everything in the middle costs at most 2.1 hints a job, and no job",
    () =>
      Effect.gen(function* () {
        const { chaos, flush } = yield* Trouble
        const { all, mostly, run, runs } = counter(50_000)
        yield* enqueue(50_000)
        yield* worker(run)
        yield* mostly(0.3)
        yield* flush
        yield* all
        assert.isTrue(once(runs))
        assert.isAtMost(chaos.published / 50_000, 2.1)
      }).pipe(Effect.scoped, Effect.provide(Client)),
    60_000
  )

  it.live(
    "dropping 30 %, doubling 30 % and reordering: every job runs once, as on a perfect broker",
    () =>
      Effect.gen(function* () {
        const { chaos } = yield* Trouble
        Object.assign(chaos, { drop: 0.3, double: 0.3, reorder: true })
        const { all, run, runs } = counter(5_000)
        yield* worker(run)
        yield* enqueue(5_000)
        yield* all
        assert.isTrue(once(runs))
      }).pipe(Effect.scoped, Effect.provide(Client)),
    60_000
  )

  it.live(
    "with 30 % dropped under steady load, the oldest wait stays bounded",
    () =>
      Effect.gen(function* () {
        const { chaos } = yield* Trouble
        chaos.drop = 0.3
        const waits: Array<number> = []
        const now = Effect.clockWith((clock) => clock.currentTimeMillis)
        const started = new Map<number, number>()
        yield* worker((n) => Effect.map(now, (at) => void waits.push(at - started.get(n)!)))
        for (let n = 0; n < 300; n++) {
          started.set(n, yield* now)
          yield* Noop.enqueue({ n })
          yield* Effect.sleep("10 millis")
        }
        yield* Effect.repeat(Effect.sleep("20 millis"), { until: () => waits.length === 300 })
        // A look in the store at least once a second is the bound; the rest is this machine's noise
        assert.isAtMost(Math.max(...waits), 4_000)
      }).pipe(Effect.scoped, Effect.provide(Client)),
    60_000
  )

  it.live("hints of a type nobody handles are no hot loop, and the job is left alone", () =>
    Effect.gen(function* () {
      const { chaos } = yield* Trouble
      const foreign = yield* Foreign.enqueue()
      yield* worker(() => Effect.void)
      yield* Effect.sleep("3 seconds")
      assert.isAtMost(chaos.received, 3)
      const state = yield* foreign.poll
      assert.deepStrictEqual([state.status, state.attempt], ["queued", 0])
    }).pipe(Effect.scoped, Effect.provide(Client))
  )
})
