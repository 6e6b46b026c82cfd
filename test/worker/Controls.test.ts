/**
 * Tests that cannot fail prove nothing. Each promise here is checked twice: it holds with the real store, and the very same
 * check finds the violation when the mechanism behind it is taken out.
 */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Option, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { Broker, Job, JobStore, Metrics, Polyqueue, type Ports, Worker, WorkerRegistry } from "../../src/index.ts"
import type { JobStoreService } from "../../src/JobStore.ts"

class Long extends Job.make("Long", { success: Schema.String }) {}

/** `Polyqueue.layerMemory` with something taken out of the store. */
const without = (mutate: (store: JobStoreService) => Partial<JobStoreService>): Layer.Layer<Polyqueue | Ports> =>
  Polyqueue.layer.pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        Layer.effect(
          JobStore,
          Effect.map(JobStore, (store) => ({ ...store, ...mutate(store) }))
        ).pipe(Layer.provide(JobStore.layerMemory)),
        WorkerRegistry.layerMemory,
        Metrics.layerNoop,
        Broker.layerMemory
      )
    )
  )

const real = without(() => ({}))
const noRenewal = without(() => ({ renew: () => Effect.succeed({ lost: [], locked: [], cancelled: [] }) }))
const noReaper = without(() => ({ reap: () => Effect.succeed([]) }))
/** Whoever settles is taken for the owner. */
const noFence = without((store) => ({
  settle: (worker, settlements) =>
    Effect.flatMap(
      Effect.forEach(settlements, (settlement) =>
        Effect.map(store.get([settlement.id]), ([row]) => ({
          ...settlement,
          attempt: row?.attempt ?? 0,
          claim: owners.get(settlement.id) ?? settlement.claim
        }))
      ),
      (forged) => store.settle(worker, forged)
    ),
  claim: (request) =>
    Effect.tap(store.claim(request), (jobs) => Effect.sync(() => jobs.forEach((job) => owners.set(job.id, job.claim))))
}))
const owners = new Map<string, string>()

const claimAs = (worker: string, lease: number) =>
  Effect.gen(function* () {
    const store = yield* JobStore
    const claim = yield* Polyqueue.use((queue) => queue.makeId)
    const pools = [{ ranges: [{ queue: "default", type: "Long" }], limit: 1 }]
    const [job] = yield* store.claim({ claim, worker, lease, suspects: 1, pools })
    return job
  })

/** A job far longer than its lease, and a second worker that would take it over: how often did it run? */
const runsOfALongJob = Effect.gen(function* () {
  let runs = 0
  const handler = Long.toLayer(() =>
    Effect.suspend(() => {
      runs++
      return Effect.delay(Effect.succeed("done"), "3 minutes")
    })
  )
  yield* Layer.build(Worker.layer([Long], { name: "a" }).pipe(Layer.provide(handler)))
  yield* Layer.build(Worker.layer([Long], { name: "b" }).pipe(Layer.provide(handler)))
  yield* Long.enqueue()
  yield* TestClock.adjust("10 minutes")
  return runs
})

/** A job whose owner is gone: is it done ten minutes later? */
const orphanIsFinished = Effect.gen(function* () {
  const job = yield* Long.enqueue()
  yield* claimAs("gone", 1_000)
  yield* Layer.build(Worker.layer([Long]).pipe(Layer.provide(Long.toLayer(() => Effect.succeed("done")))))
  yield* TestClock.adjust("10 minutes")
  return (yield* job.poll).status === "succeeded"
})

/** An owner that lost its job settles late: is it believed? */
const staleSettleIsAccepted = Effect.gen(function* () {
  const store = yield* JobStore
  yield* Long.enqueue()
  const stale = Option.getOrThrow(Option.fromUndefinedOr(yield* claimAs("stale", 1_000)))
  yield* TestClock.adjust("2 seconds")
  yield* store.reap({ limit: 10, exceptWorkers: [] })
  yield* claimAs("owner", 60_000)
  const [outcome] = yield* store.settle("stale", [
    { id: stale.id, attempt: stale.attempt, claim: stale.claim, _tag: "Succeeded", result: undefined }
  ])
  return outcome?._tag === "Settled"
})

describe("controls", () => {
  const check = <A>(
    name: string,
    scenario: Effect.Effect<A, unknown, Polyqueue | Ports | Scope.Scope>,
    [promised, violated]: readonly [A, (answer: A) => boolean],
    mutant: Layer.Layer<Polyqueue | Ports>
  ) => {
    it.effect(`${name}: holds`, () =>
      Effect.map(scenario, (answer) => assert.deepStrictEqual(answer, promised)).pipe(
        Effect.provide(real),
        Effect.orDie
      )
    )
    it.effect(`${name}: found to be broken when it is`, () =>
      Effect.map(scenario, (answer) => assert.isTrue(violated(answer))).pipe(Effect.provide(mutant), Effect.orDie)
    )
  }
  check("lease renewal", runsOfALongJob, [1, (runs) => runs > 1], noRenewal)
  check("lease reaper", orphanIsFinished, [true, (finished) => !finished], noReaper)
  check("fence", staleSettleIsAccepted, [false, (accepted) => accepted], noFence)
})

it.effect("a job that is enqueued while the worker waits starts at once", () =>
  Effect.gen(function* () {
    const started = yield* Deferred.make<void>()
    yield* Layer.build(
      Worker.layer([Long]).pipe(
        Layer.provide(Long.toLayer(() => Effect.as(Deferred.succeed(started, undefined), "ran")))
      )
    )
    yield* TestClock.adjust("1 hour")
    yield* Long.enqueue()
    yield* Deferred.await(started)
  }).pipe(Effect.provide(real))
)
