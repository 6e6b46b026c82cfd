/**
 * A store that fails when a test says so: before an operation (nothing happened) or after it (it happened, the reply was
 * lost). Everything else is the real memory store.
 */
import { Context, Effect, Layer } from "effect"
import { StoreError } from "../../src/JobError.ts"
import { JobStore, type JobStoreService } from "../../src/JobStore.ts"
import { Broker } from "../../src/Broker.ts"
import { Metrics } from "../../src/Metrics.ts"
import { Polyqueue, type Ports } from "../../src/Polyqueue.ts"
import { WorkerRegistry } from "../../src/WorkerRegistry.ts"

type Operation = "claim" | "settle" | "renew" | "reap" | "abandon" | "enqueue" | "ended" | "nextDue" | "get"

export interface Faults {
  /** Operations that fail, and how: `before` nothing happened, `after` it happened but the reply is lost. */
  readonly failing: Map<Operation, "before" | "after">
  /** Calls per operation. */
  readonly calls: Map<Operation, number>
  /** Operations that never answer. */
  readonly hanging: Set<Operation>
}

export class FaultyStore extends Context.Service<FaultyStore, Faults>()("test/FaultyStore") {}

const lost = (operation: string) =>
  new StoreError({ reason: "Unavailable", operation, message: "the connection was cut by the test" })

const make = Effect.gen(function* () {
  const store = yield* JobStore
  const faults: Faults = { failing: new Map(), calls: new Map(), hanging: new Set() }
  const faulty =
    <Args extends ReadonlyArray<unknown>, A>(
      name: Operation,
      run: (...args: Args) => Effect.Effect<A, StoreError>
    ): ((...args: Args) => Effect.Effect<A, StoreError>) =>
    (...args) =>
      Effect.suspend(() => {
        faults.calls.set(name, (faults.calls.get(name) ?? 0) + 1)
        if (faults.hanging.has(name)) return Effect.never
        const how = faults.failing.get(name)
        if (how === "before") return Effect.fail(lost(name))
        return how === "after" ? Effect.andThen(run(...args), Effect.fail(lost(name))) : run(...args)
      })
  const service: JobStoreService = {
    ...store,
    claim: faulty("claim", store.claim),
    settle: faulty("settle", store.settle),
    renew: faulty("renew", store.renew),
    reap: faulty("reap", store.reap),
    abandon: faulty("abandon", store.abandon),
    enqueue: faulty("enqueue", store.enqueue),
    enqueueOne: faulty("enqueue", store.enqueueOne),
    ended: faulty("ended", store.ended),
    nextDue: faulty("nextDue", store.nextDue),
    get: faulty("get", store.get)
  }
  return Context.make(JobStore, service).pipe(Context.add(FaultyStore, faults))
})

/** `Polyqueue.layerMemory` with a store that can fail. */
export const layer: Layer.Layer<Polyqueue | Ports | FaultyStore> = Polyqueue.layer.pipe(
  Layer.provideMerge(
    Layer.mergeAll(
      Layer.effectContext(make).pipe(Layer.provide(JobStore.layerMemory)),
      WorkerRegistry.layerMemory,
      Metrics.layerNoop,
      Broker.layerMemory
    )
  )
)
