/** What becomes runnable is made known at once, through whatever broker there is; without one, the relay finds it due. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import type { BrokerDriver, Hint } from "../../src/broker/BrokerDriver.ts"
import { Admin, Broker, BrokerError, JobStore, Metrics, Polyqueue, WorkerRegistry } from "../../src/index.ts"
import { by, Orphan } from "./Stage.ts"

/** A broker that says what it was given, and cannot be reached when told so. */
const recording = (carriesHints: boolean) => {
  const hints: Array<Hint> = []
  const state = { away: false }
  const layer = Layer.effect(
    Broker,
    Effect.map(Broker, (broker): BrokerDriver => ({
      ...broker,
      capabilities: { ...broker.capabilities, carriesHints },
      publish: (published) =>
        Effect.suspend(() => {
          if (state.away)
            return Effect.fail(new BrokerError({ reason: "Unavailable", operation: "publish", message: "away" }))
          hints.push(...published)
          return broker.publish(published)
        })
    }))
  ).pipe(Layer.provide(Broker.layerMemory))
  return { hints, layer, state }
}

const stack = (admin: typeof Admin.layer, broker: Layer.Layer<Broker>) =>
  admin.pipe(
    Layer.provideMerge(Polyqueue.layer),
    Layer.provideMerge(Layer.mergeAll(JobStore.layerMemory, WorkerRegistry.layerMemory, Metrics.layerNoop, broker))
  )

const makeJobs = Effect.map(Orphan.enqueueAll([{ n: 1 }, { n: 2 }], { delay: "1 hour" }), (jobs) =>
  jobs.map(({ id }) => id as string)
)

const due = JobStore.use((store) => store.takeHints({ limit: 10, again: false }))

describe("publishing of actions", () => {
  it.effect("hints go out for requeue and run now, and the relay leaves them to us for a while", () => {
    const { hints, layer } = recording(true)
    return Effect.gen(function* () {
      const ids = yield* makeJobs
      const admin = yield* Admin
      yield* admin.cancel({ ids: ids.slice(0, 1) }, by)
      assert.deepStrictEqual(hints, [])
      yield* admin.requeue({ ids }, by)
      const hint = { queue: "orphans", priority: 5, attempt: 0, publication: 1 }
      assert.deepStrictEqual(hints, [{ ...hint, jobId: ids[0]! }])
      yield* admin.runNow({ ids: ids.slice(1) }, by)
      assert.deepStrictEqual(hints[1], { ...hint, jobId: ids[1]! })
      assert.deepStrictEqual(yield* due, [])
    }).pipe(Effect.provide(stack(Admin.layer, layer)))
  })

  it.effect("a broker that is away costs nothing but time: it is done, and published by the relay", () => {
    const { layer, state } = recording(true)
    return Effect.gen(function* () {
      const ids = yield* makeJobs
      const admin = yield* Admin
      state.away = true
      assert.strictEqual((yield* admin.runNow({ ids }, by)).done, 2)
      assert.isDefined((yield* admin.job(ids[0]!)).publishAt)
    }).pipe(Effect.provide(stack(Admin.layer, layer)))
  })

  it.effect("without a broker its hint is due for the relay at once", () => {
    const { hints, layer } = recording(true)
    return Effect.gen(function* () {
      const ids = yield* makeJobs
      yield* Admin.use((admin) => admin.runNow({ ids }, by))
      assert.deepStrictEqual(hints, [])
      assert.sameMembers(
        (yield* due).map(({ id }) => id),
        ids
      )
    }).pipe(Effect.provide(stack(Admin.layerWithoutBroker, layer)))
  })

  it.effect("resume rings the bell of the queue, where no hint would", () => {
    const { hints, layer } = recording(false)
    return Effect.gen(function* () {
      const admin = yield* Admin
      yield* admin.pauseQueue("mail", by)
      yield* admin.resumeQueue("mail", by)
      assert.deepStrictEqual(
        hints.map(({ queue }) => queue),
        ["mail"]
      )
      yield* admin.resumeQueue("mail", by)
      assert.lengthOf(hints, 1)
    }).pipe(Effect.provide(stack(Admin.layer, layer)))
  })
})
