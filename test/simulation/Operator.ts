/**
 * What a person on call does meanwhile: pauses, requeues, fails, hurries and deletes jobs, tells workers to drain, go on and
 * stop, changes how much they run. Drawn from the seed; what would stop the queue for good is taken back.
 */
import { Effect, Schedule } from "effect"
import { Admin, type AdminError, type StoreError } from "../../src/index.ts"
import type { Any } from "../../src/Job.ts"
import type * as Rng from "../../src/testing/simulation/Rng.ts"

const actions = [
  "requeue",
  "fail",
  "cancel",
  "runNow",
  "purge",
  "pauseQueue",
  "pauseType",
  "pauseAll",
  "drainWorker",
  "stopWorker",
  "setConcurrency"
] as const

export interface Order {
  readonly action: (typeof actions)[number]
  /** ms since the one before. */
  readonly after: number
  readonly queue: string
  readonly type: string
  /** How long a pause or a change of workers lasts, in ms. */
  readonly lasts: number
  /** Jobs that an action is done to at most. */
  readonly limit: number
  /** Which of the workers. */
  readonly which: number
  readonly concurrency: number
}

/** Draws what is done. */
export const plan = (rng: Rng.Rng, jobs: ReadonlyArray<Any>, queues: ReadonlyArray<string>): ReadonlyArray<Order> =>
  Array.from({ length: rng.int(1, 6) }, () => ({
    action: rng.pick(actions),
    after: rng.int(100, 3_000),
    queue: rng.pick(queues),
    type: rng.pick(jobs)._tag,
    lasts: rng.int(100, 3_000),
    limit: rng.int(1, 3),
    which: rng.int(0, 5),
    concurrency: rng.int(0, 4)
  }))

const by = { who: "operator" }

/** A call may fail as any other. What must be done in the end is tried for a minute. */
const insist = <A, R>(effect: Effect.Effect<A, AdminError | StoreError, R>): Effect.Effect<void, never, R> =>
  Effect.ignore(Effect.retry(effect, { times: 200, schedule: Schedule.spaced("300 millis") }))

const obey = Effect.fnUntraced(function* ({ action, concurrency, lasts, limit, queue, type, which }: Order) {
  const admin = yield* Admin
  const selection = { where: { queue } }
  const options = { ...by, limit, batchSize: limit }
  const pause = { ...by, duration: lasts }
  switch (action) {
    case "requeue":
    case "fail":
    case "cancel":
    case "runNow":
    case "purge":
      return yield* Effect.ignore(admin[action](selection, options))
    case "pauseQueue":
      return yield* Effect.ignore(admin.pauseQueue(queue, pause))
    case "pauseType":
      return yield* Effect.ignore(admin.pauseType(type, pause))
    case "pauseAll":
      yield* Effect.ignore(admin.pauseAll(by))
      yield* Effect.sleep(lasts)
      return yield* insist(admin.resumeAll(by))
    case "drainWorker":
    case "stopWorker":
    case "setConcurrency": {
      const workers = yield* Effect.orElseSucceed(admin.workers, () => [])
      const worker = workers[which % Math.max(1, workers.length)]
      if (worker === undefined) return
      if (action === "stopWorker") return yield* Effect.ignore(admin.stopWorker(worker.id, by))
      if (action === "drainWorker") {
        yield* Effect.ignore(admin.drainWorker(worker.id, by))
        yield* Effect.sleep(lasts)
        return yield* insist(admin.resumeWorker(worker.id, by))
      }
      yield* Effect.ignore(admin.setConcurrency(worker.name, concurrency, by))
      yield* Effect.sleep(lasts)
      return yield* insist(admin.setConcurrency(worker.name, undefined, by))
    }
  }
})

/** Longer than a call that failed may take to happen after all. */
const latest = "11 seconds"

/** Does it, one after another. A pause without end that failed may come after its resume: that is taken back once more. */
export const program = (orders: ReadonlyArray<Order>): Effect.Effect<void, never, Admin> =>
  Effect.andThen(
    Effect.forEach(orders, (order) => Effect.delay(obey(order), order.after), { discard: true }),
    orders.some(({ action }) => action === "pauseAll")
      ? Effect.delay(
          Admin.use((admin) => insist(admin.resumeAll(by))),
          latest
        )
      : Effect.void
  )
