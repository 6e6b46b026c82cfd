/** Jobs, handlers and small steps that the tests of the control plane share. */
import { assert } from "@effect/vitest"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { CurrentJob, Job, Worker, WorkerRegistry } from "../../src/index.ts"

export const by = { who: "ada", reason: "a test" }

/** Fails until somebody mends it. */
export class Fragile extends Job.make("Fragile", {
  payload: { n: Schema.Int },
  success: Schema.Int,
  error: Schema.String,
  maxAttempts: 1
}) {}
/** Runs until it is interrupted. */
export class Endless extends Job.make("Endless", { success: Schema.String }) {}
/** Nobody handles it. */
export class Orphan extends Job.make("Orphan", { payload: { n: Schema.Int }, queue: "orphans" }) {}

export interface Seen {
  broken: boolean
  /** Ids of the Endless jobs that run now. */
  readonly running: Set<string>
  /** Why each was interrupted. */
  readonly interrupted: Map<string, string>
}

/** What the handlers see and do. */
export class Stage extends Context.Service<Stage, Seen>()("test/admin/Stage") {
  static readonly layer = Layer.sync(Stage, (): Seen => ({ broken: true, running: new Set(), interrupted: new Map() }))
}

export const Handlers = Layer.mergeAll(
  Fragile.toLayer(
    Effect.fnUntraced(function* ({ n }) {
      const { broken } = yield* Stage
      return broken ? yield* Effect.fail("broken") : n
    })
  ),
  Endless.toLayer(
    Effect.fnUntraced(function* () {
      const { interrupted, running } = yield* Stage
      const job = yield* CurrentJob
      running.add(job.id)
      return yield* Effect.onInterrupt(Effect.never, () =>
        Effect.map(job.interruption, (why) => {
          running.delete(job.id)
          interrupted.set(
            job.id,
            Option.getOrElse(why, () => "nobody")
          )
        })
      )
    })
  )
)

/** Asks again until it is so. */
export const until = <E, R>(question: Effect.Effect<boolean, E, R>) =>
  Effect.repeat(Effect.delay(question, "10 millis"), { until: (yes) => yes })

/** Quick to notice everything. */
export const quick: Worker.Options = {
  concurrency: 4,
  // Renewed often, and long: a busy machine must not lose it
  lease: "20 seconds",
  renewEvery: "200 millis",
  heartbeatEvery: "50 millis",
  sweepEvery: "100 millis",
  shutdownGrace: "200 millis"
}

/** A worker of this test's scope; answers its record once it is known. */
export const startWorker = Effect.fnUntraced(function* (name: string, options: Worker.Options = {}) {
  yield* Layer.build(Worker.layer([Fragile, Endless], { ...quick, name, ...options }).pipe(Layer.provide(Handlers)))
  return yield* workerOf(name)
})

export const workerOf = Effect.fnUntraced(function* (name: string) {
  const workers = yield* WorkerRegistry.use((registry) => registry.list)
  const found = workers.filter((worker) => worker.name === name && worker.status !== "stopped")
  assert.lengthOf(found, 1)
  return found[0]!
})
