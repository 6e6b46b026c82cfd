/**
 * Testing code that enqueues and handles jobs: everything in memory, on the test's clock, and nothing runs until the test
 * says so.
 *
 * ```ts
 * const TestLive = Worker.layer([SendEmail]).pipe(
 *   Layer.provide(SendEmailLive),
 *   Layer.provideMerge(PolyqueueTest.layer)
 * )
 * layer(TestLive)("sign-up mail", (it) => {
 *   it.effect("is sent five minutes later", () =>
 *     Effect.gen(function* () {
 *       yield* signUp("ada@example.com")
 *       const [job] = yield* PolyqueueTest.enqueued(SendEmail)
 *       assert.strictEqual(job?.payload.to, "ada@example.com")
 *       yield* TestClock.adjust("5 minutes")
 *       assert.deepStrictEqual(yield* PolyqueueTest.drain, { succeeded: 1, failed: 0 })
 *     }))
 * })
 * ```
 *
 * The worker is the real one; only its claims wait for `drain` or `runOne`. A handler that sleeps needs the test to move the
 * clock while it drains: fork `drain`, then `TestClock.adjust`.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { Broker } from "../Broker.ts"
import type { Job } from "../Job.ts"
import type { JobId } from "../JobId.ts"
import { JobStore, type JobStoreService } from "../JobStore.ts"
import { Metrics } from "../Metrics.ts"
import { Polyqueue, type Ports } from "../Polyqueue.ts"
import type { ClaimPool, Status } from "../store/JobStoreDriver.ts"
import { WorkerRegistry } from "../WorkerRegistry.ts"
import * as Signal from "../worker/Signal.ts"
import type * as Schema from "effect/Schema"

/** An enqueued job with its payload decoded. */
export interface Enqueued<Payload> {
  readonly id: JobId
  readonly payload: Payload
  readonly status: Status
  readonly attempt: number
  /** Epoch ms on the test's clock. */
  readonly runAt: number
}

/** How many jobs ended during a `drain`. Retries that wait and cancelled jobs count as neither. */
export interface Drained {
  readonly succeeded: number
  readonly failed: number
}

interface TestKit {
  readonly drain: Effect.Effect<Drained>
  readonly runOne: Effect.Effect<Option.Option<{ readonly id: JobId; readonly status: Status }>>
}

/** The test kit as a service; use its static members. */
export class PolyqueueTest extends Context.Service<PolyqueueTest, TestKit>()("polyqueue/PolyqueueTest") {
  /** Client and ports in memory, with workers that wait for `drain` and `runOne`. */
  static readonly layer: Layer.Layer<PolyqueueTest | Polyqueue | Ports> = Polyqueue.layer.pipe(
    Layer.provideMerge(
      Layer.effectContext(Effect.suspend(() => gated)).pipe(
        Layer.provide(JobStore.layerMemory),
        Layer.provideMerge(Layer.mergeAll(Broker.layerMemory, WorkerRegistry.layerMemory, Metrics.layerNoop))
      )
    )
  )

  /**
   * Runs everything that is due now, and what that enqueues in turn, until nothing is due and nothing runs. Retries and
   * delayed jobs wait for the clock. Dies when there is no worker to run them.
   */
  static readonly drain: Effect.Effect<Drained, never, PolyqueueTest> = PolyqueueTest.use((kit) => kit.drain)

  /** Runs one attempt of the first due job and tells how it left the job. None when nothing is due. */
  static readonly runOne: Effect.Effect<
    Option.Option<{ readonly id: JobId; readonly status: Status }>,
    never,
    PolyqueueTest
  > = PolyqueueTest.use((kit) => kit.runOne)

  /** All jobs of this type, oldest first, whatever their status. Dies when a stored payload does not decode. */
  static enqueued<Tag extends string, P extends Schema.Top, A extends Schema.Top, E extends Schema.Top>(
    job: Job<Tag, P, A, E>
  ): Effect.Effect<ReadonlyArray<Enqueued<P["Type"]>>, never, Polyqueue> {
    return Effect.gen(function* () {
      const queue = yield* Polyqueue
      const records = yield* queue.list({ type: job._tag, limit: 10_000 })
      return yield* Effect.forEach(records.toReversed(), (record) =>
        Effect.map(job.definition.decodePayload(record.payload), (payload): Enqueued<P["Type"]> => ({
          id: record.id as JobId,
          payload,
          status: record.status,
          attempt: record.attempt,
          runAt: record.runAt
        }))
      )
    }).pipe(Effect.orDie)
  }
}

/** The memory store behind a gate: claims find nothing while it is closed. */
const gated = Effect.gen(function* () {
  const store = yield* JobStore
  const broker = yield* Broker
  const registry = yield* WorkerRegistry
  const ranges = new Map<string, ClaimPool["ranges"][number]>()
  const changed = Signal.make()
  /** Attempts that may still be claimed. */
  let allowed = 0
  let running = 0
  let last: { readonly id: JobId; readonly status: Status } | undefined
  let drained: Drained = { succeeded: 0, failed: 0 }

  const service: JobStoreService = {
    ...store,
    claim: (request) =>
      Effect.suspend(() => {
        for (const pool of request.pools)
          for (const range of pool.ranges) ranges.set(`${range.queue}\n${range.type}`, range)
        changed.notify()
        if (allowed <= 0) return Effect.succeed([])
        const pools = request.pools.map((pool) => ({ ...pool, limit: Math.min(pool.limit, allowed) })).slice(0, allowed)
        return Effect.map(store.claim({ ...request, pools }), (jobs) => {
          allowed -= jobs.length
          running += jobs.length
          changed.notify()
          return jobs
        })
      }),
    nextDue: (asked) => Effect.suspend(() => (allowed > 0 ? store.nextDue(asked) : Effect.undefined)),
    settle: (worker, settlements) =>
      Effect.map(store.settle(worker, settlements), (outcomes) => {
        outcomes.forEach((outcome, i) => {
          if (outcome._tag === "Refused" || outcome._tag === "Locked") return
          running--
          if (outcome._tag !== "Settled") return
          last = { id: settlements[i]!.id as JobId, status: outcome.status }
          drained = {
            succeeded: drained.succeeded + (outcome.status === "succeeded" ? 1 : 0),
            failed: drained.failed + (outcome.status === "failed" ? 1 : 0)
          }
        })
        changed.notify()
        return outcomes
      })
  }

  const isIdle = Effect.gen(function* () {
    if (running > 0) return false
    if (allowed <= 0) return true
    if (ranges.size === 0) return false
    return (yield* store.nextDue(Array.from(ranges.values()))) !== 0
  })
  const open = Effect.fnUntraced(function* (attempts: number) {
    const workers = yield* registry.list
    if (workers.length === 0) {
      return yield* Effect.die(
        new Error("PolyqueueTest: there is no worker. Provide Worker.layer([...]) over PolyqueueTest.layer")
      )
    }
    drained = { succeeded: 0, failed: 0 }
    last = undefined
    allowed = attempts
    yield* broker.publish(
      Array.from(ranges.values(), ({ queue }) => ({ jobId: "", queue, priority: 0, attempt: 0, publication: 1 }))
    )
    while (!(yield* isIdle)) yield* changed.wait
    allowed = 0
  })
  const kit: TestKit = {
    drain: Effect.orDie(Effect.map(open(Number.MAX_SAFE_INTEGER), () => drained)),
    runOne: Effect.orDie(Effect.map(open(1), () => Option.fromUndefinedOr(last)))
  }
  return Context.make(JobStore, service).pipe(Context.add(PolyqueueTest, kit))
})
