/** Pausing queues and job types, and telling workers what to do. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { AdminError, type StoreError } from "../JobError.ts"
import type { JobStore } from "../JobStore.ts"
import type { WorkerOrder, WorkerRecord } from "../registry/WorkerRegistryDriver.ts"
import type { By, Pause, PauseTarget } from "../store/JobStoreDriver.ts"
import type { WorkerRegistry } from "../WorkerRegistry.ts"
import type { AdminService, PauseOptions } from "./AdminService.ts"
import * as Input from "./Input.ts"
import type { Publisher } from "./Publisher.ts"

export type Controls = Pick<
  AdminService,
  | "pauseQueue"
  | "resumeQueue"
  | "pauseType"
  | "resumeType"
  | "pauseAll"
  | "resumeAll"
  | "pauses"
  | "drainWorker"
  | "resumeWorker"
  | "stopWorker"
  | "setConcurrency"
>

/** Claims jobs, or would if it were not draining. */
export const isLive = ({ status }: WorkerRecord): boolean => status === "running" || status === "draining"

const silentAfter = 60_000

/** Live, and heard of within the last minute: one that was not is gone, though nobody may be left to mark it dead. */
export const isHeard = (worker: WorkerRecord, now: number): boolean =>
  isLive(worker) && now - worker.heartbeatAt <= silentAfter

const maxConcurrency = 10_000

export const make = (
  store: JobStore["Service"],
  registry: WorkerRegistry["Service"],
  publisher: Publisher,
  makeId: Effect.Effect<string>
): Controls => {
  const targetOf = Effect.fnUntraced(function* ({ queue, type }: PauseTarget) {
    if (queue !== undefined) yield* Input.nameOf("the queue", queue)
    if (type !== undefined) yield* Input.nameOf("the job type", type)
    return { queue, type }
  })

  const pause = Effect.fnUntraced(function* (
    target: PauseTarget,
    options: PauseOptions
  ): Effect.fn.Return<Pause, AdminError | StoreError> {
    const by = yield* Input.byOf(options)
    if (options.until !== undefined && options.duration !== undefined) {
      return yield* Input.invalid("give a pause an end (until) or a duration, not both")
    }
    const duration = options.duration === undefined ? undefined : yield* Input.millisOf("duration", options.duration)
    const until = options.until === undefined ? undefined : Option.getOrUndefined(DateTime.make(options.until))
    if (options.until !== undefined && until === undefined) {
      return yield* Input.invalid("until must be a date, such as 2030-01-01T00:00:00Z")
    }
    return yield* store.pause({
      ...(yield* targetOf(target)),
      until: until === undefined ? undefined : DateTime.toEpochMillis(until),
      duration,
      by,
      operation: yield* makeId
    })
  })

  const resume = Effect.fnUntraced(function* (
    target: PauseTarget,
    by: By
  ): Effect.fn.Return<boolean, AdminError | StoreError> {
    const resumed = yield* store.resume({
      ...(yield* targetOf(target)),
      by: yield* Input.byOf(by),
      operation: yield* makeId
    })
    if (!resumed) return false
    const queues =
      target.queue === undefined
        ? [...new Set((yield* registry.list).filter(isLive).flatMap((worker) => worker.queues))]
        : [target.queue]
    yield* publisher.ring(queues)
    return true
  })

  const tell = Effect.fnUntraced(function* (
    id: string,
    order: WorkerOrder | undefined,
    by: By
  ): Effect.fn.Return<WorkerRecord, AdminError | StoreError> {
    const found = yield* registry.tell({ id, order, by: yield* Input.byOf(by), operation: yield* makeId })
    const worker = (yield* registry.list).find((worker) => worker.id === id)
    if (found === undefined || worker === undefined) {
      return yield* new AdminError({
        reason: "NotFound",
        message: `there is no worker with id ${JSON.stringify(id)}: list the workers to see their ids`
      })
    }
    if (found.status === "stopped" || found.status === "dead") {
      return yield* new AdminError({
        reason: "NotRunning",
        message: `worker ${worker.name} (${id}) is ${found.status}: it hears nothing`
      })
    }
    if (found.told === "stop" && order !== "stop") {
      return yield* new AdminError({
        reason: "NotRunning",
        message: `worker ${worker.name} (${id}) was told to stop already, which cannot be taken back`
      })
    }
    return worker
  })

  return {
    pauseQueue: (queue, options) => pause({ queue }, options),
    resumeQueue: (queue, by) => resume({ queue }, by),
    pauseType: (type, options) => pause({ type, queue: options.queue }, options),
    resumeType: (type, by) => resume({ type, queue: by.queue }, by),
    pauseAll: (options) => pause({}, options),
    resumeAll: (by) => resume({}, by),
    pauses: store.pauses,
    drainWorker: (id, by) => tell(id, "drain", by),
    resumeWorker: (id, by) => tell(id, undefined, by),
    stopWorker: (id, by) => tell(id, "stop", by),
    setConcurrency: Effect.fnUntraced(function* (name, concurrency, by) {
      if (concurrency !== undefined) yield* Input.wholeOf("concurrency", concurrency, 0, maxConcurrency)
      if (by.queue !== undefined) yield* Input.nameOf("the queue", by.queue)
      yield* registry.setConcurrency({
        name: yield* Input.nameOf("the name of the workers", name),
        queue: by.queue,
        concurrency,
        by: yield* Input.byOf(by),
        operation: yield* makeId
      })
      return (yield* registry.list).filter((worker) => worker.name === name && isLive(worker))
    })
  }
}
