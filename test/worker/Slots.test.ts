/** How a worker starts what it holds. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Layer, Queue, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Broker, CurrentJob, Job, JobStore, Metrics, Polyqueue, Worker, WorkerRegistry } from "../../src/index.ts"
import { Pool } from "../../src/worker/Pool.ts"
import * as Slots from "../../src/worker/Slots.ts"
import * as Supervisor from "../../src/worker/Supervisor.ts"
import type { WorkerContext } from "../../src/worker/WorkerContext.ts"
import * as ReferenceBroker from "../support/ReferenceBroker.ts"

class Quick extends Job.make("Quick", { payload: { n: Schema.Int } }) {}
class Other extends Job.make("Other", { payload: { n: Schema.Int } }) {}

/** Memory, with a broker that carries hints. */
const ByHints = Polyqueue.layer.pipe(
  Layer.provideMerge(
    Layer.mergeAll(
      JobStore.layerMemory,
      WorkerRegistry.layerMemory,
      Metrics.layerNoop,
      Layer.effect(
        Broker,
        Effect.map(ReferenceBroker.make(), ({ driver }) => driver)
      )
    )
  )
)

describe("slots", () => {
  it.effect("jobs that end at once are started one after the other, never one inside the other", () =>
    Effect.gen(function* () {
      const count = 300
      const depths: Array<number> = []
      const all = yield* Deferred.make<void>()
      const limit = Error.stackTraceLimit
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          Error.stackTraceLimit = Infinity
        }),
        () =>
          Effect.sync(() => {
            Error.stackTraceLimit = limit
          })
      )
      const live = Quick.toLayer(() =>
        Effect.suspend(() => {
          depths.push(new Error().stack!.split("\n").length)
          return depths.length === count ? Deferred.succeed(all, undefined) : Effect.void
        })
      )
      yield* Quick.enqueueAll(Array.from({ length: count }, (_, n) => ({ n })))
      yield* Layer.build(Worker.layer([Quick], { concurrency: count }).pipe(Layer.provide(live)))
      yield* Deferred.await(all)
      assert.isBelow(Math.max(...depths) - Math.min(...depths), 50)
    }).pipe(Effect.scoped, Effect.provide(Polyqueue.layerMemory))
  )

  // So many jobs of one claim start a moment after it
  for (const [name, layer] of [
    ["straight from the store", Polyqueue.layerMemory],
    ["by hints", ByHints]
  ] as const) {
    it.effect(`a large claim that leaves slots free is followed by the next one, ${name}`, () =>
      Effect.gen(function* () {
        const each = 100
        let running = 0
        const live = Quick.toLayer(() =>
          Effect.andThen(
            Effect.sync(() => ++running),
            Effect.never
          )
        )
        const some = Array.from({ length: each }, (_, n) => ({ n }))
        yield* Quick.enqueueAll(some)
        yield* Layer.build(Worker.layer([Quick], { concurrency: 3 * each, shutdownGrace: 0 }).pipe(Layer.provide(live)))
        for (const round of [1, 2, 3]) {
          while (running < round * each) yield* Effect.andThen(TestClock.adjust("100 millis"), Effect.yieldNow)
          if (round < 3) yield* Quick.enqueueAll(some)
        }
      }).pipe(Effect.scoped, Effect.provide(layer))
    )
  }

  it.effect("what a handler asks of its job may be taken out of it and kept", () =>
    Effect.gen(function* () {
      const seen = yield* Deferred.make<ReadonlyArray<unknown>>()
      const live = Quick.toLayer(
        Effect.fnUntraced(function* () {
          const { attempt, deadline, enqueuedAt, heartbeat, interruption, progress } = yield* CurrentJob
          yield* progress(50)
          yield* heartbeat
          yield* Deferred.succeed(seen, [attempt, deadline._tag, enqueuedAt._tag, (yield* interruption)._tag])
        })
      )
      yield* Layer.build(Worker.layer([Quick]).pipe(Layer.provide(live)))
      const job = yield* Quick.enqueue({ n: 1 }, { timeout: { after: "1 minute" } })
      assert.deepStrictEqual(yield* Deferred.await(seen), [1, "Some", "Utc", "None"])
      const { await: end, cancel, poll } = job
      yield* end
      assert.strictEqual((yield* poll).status, "succeeded")
      assert.isFalse(yield* cancel)
    }).pipe(Effect.scoped, Effect.provide(Polyqueue.layerMemory))
  )

  it.effect("the first claim after the bell looks for no suspect; the next one does, at once", () =>
    Effect.gen(function* () {
      const asked = yield* Queue.unbounded<number>()
      const store = Layer.effect(
        JobStore,
        Effect.map(JobStore, (store) => {
          let last = 1
          return {
            ...store,
            claim: (request: Parameters<typeof store.claim>[0]) =>
              Effect.suspend(() => {
                last = request.suspects
                return Effect.andThen(Queue.offer(asked, last), store.claim(request))
              }),
            // What a claim without suspects leaves is due
            nextDue: () => Effect.sync(() => (last === 0 ? 0 : undefined))
          }
        })
      )
      const all = Polyqueue.layer.pipe(Layer.provideMerge(store), Layer.provideMerge(Polyqueue.layerMemory))
      const live = Worker.layer([Quick]).pipe(Layer.provide(Quick.toLayer(() => Effect.void)))
      yield* Effect.gen(function* () {
        yield* Layer.build(live)
        // Until it waits for the bell
        yield* TestClock.adjust(0)
        assert.notInclude(yield* Queue.takeAll(asked), 0)
        // Of a type that this worker does not handle
        yield* Other.enqueue({ n: 1 })
        assert.deepStrictEqual([yield* Queue.take(asked), yield* Queue.take(asked)], [0, 1])
      }).pipe(Effect.provide(all))
    }).pipe(Effect.scoped)
  )

  // Found by the simulator: two pools whose turns always came when they were told of ended jobs alone
  it.effect("a claim of named jobs that names no suspect does not use up its turn, one of all jobs does", () =>
    Effect.gen(function* () {
      const metrics = { enabled: false, record: () => {} }
      const worker: Partial<WorkerContext> = {
        clock: yield* Clock.Clock,
        metrics,
        supervisor: yield* Supervisor.make(metrics, "worker"),
        handlers: new Map()
      }
      const pools = [new Pool(["a"], ["A"], 1), new Pool(["b"], ["B"], 1)]
      const timings = { sweepEvery: 1_000, lease: 1_000 }
      const slots = yield* Slots.make({ ...worker, timings } as WorkerContext, pools, { report: () => {} })
      const [a, b] = [{}, {}]
      const asks = (asker: object, named?: "named") => slots.withSuspects(asker, Effect.succeed, named)
      // Both at once: the one that has to ask without is the next
      assert.strictEqual(yield* slots.withSuspects(a, () => asks(b)), 0)
      assert.strictEqual(yield* asks(a), 0)
      assert.strictEqual(yield* asks(b, "named"), 1)
      assert.strictEqual(yield* asks(a, "named"), 0)
      assert.strictEqual(yield* asks(b, "named"), 1, "it has named none")
      assert.strictEqual(yield* asks(b), 1, "it would have found any")
      assert.strictEqual(yield* asks(b), 0)
      assert.strictEqual(yield* asks(a), 1)
    }).pipe(Effect.scoped)
  )
})
