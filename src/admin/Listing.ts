/** Looking: workers, queues, jobs and the audit log, in bounded pages, newest first. */
import * as Effect from "effect/Effect"
import { JobNotFound } from "../JobError.ts"
import type { JobStore } from "../JobStore.ts"
import type { Pause, QueueStats } from "../store/JobStoreDriver.ts"
import type { WorkerRegistry } from "../WorkerRegistry.ts"
import type { AdminService } from "./AdminService.ts"
import { isLive } from "./Controls.ts"
import * as Input from "./Input.ts"

export type Listing = Pick<AdminService, "workers" | "queues" | "jobs" | "job" | "attempts" | "audit">

const defaultLimit = 50
const maxLimit = 1_000

const limitOf = (limit: number | undefined) => Input.wholeOf("limit", limit ?? defaultLimit, 1, maxLimit)

const emptyQueue = (queue: string): QueueStats => ({
  queue,
  queued: 0,
  waiting: 0,
  processing: 0,
  succeeded: 0,
  failed: 0,
  cancelled: 0,
  oldestAge: undefined
})

const holds = (pause: Pause, queue: string): boolean => pause.queue === undefined || pause.queue === queue

/** Fails with `JobNotFound` for what cannot be an id, too: there is no such job. */
export const existing = <A, E>(id: string, look: (id: string) => Effect.Effect<A | undefined, E>) =>
  Input.idOf(id).pipe(
    Effect.mapError(() => new JobNotFound({ id })),
    Effect.flatMap(look),
    Effect.flatMap((found) => (found === undefined ? Effect.fail(new JobNotFound({ id })) : Effect.succeed(found)))
  )

export const make = (store: JobStore["Service"], registry: WorkerRegistry["Service"]): Listing => ({
  workers: Effect.map(registry.list, (workers) =>
    workers.toSorted((a, b) => b.startedAt - a.startedAt || (a.id < b.id ? -1 : 1))
  ),
  queues: Effect.gen(function* () {
    const stats = new Map((yield* store.stats).map((one) => [one.queue, one]))
    const pauses = yield* store.pauses
    const live = (yield* registry.list).filter(isLive)
    const names = new Set([
      ...stats.keys(),
      ...pauses.flatMap(({ queue }) => queue ?? []),
      ...live.flatMap(({ queues }) => queues)
    ])
    return [...names].sort().map((queue) => {
      const holding = pauses.filter((pause) => holds(pause, queue))
      const workers = live.filter(({ queues }) => queues.includes(queue))
      return {
        ...(stats.get(queue) ?? emptyQueue(queue)),
        pauses: holding,
        paused: holding.some(({ type }) => type === undefined),
        workers: workers.length,
        slots: workers.reduce((n, { slots, status }) => (status === "running" ? n + slots : n), 0)
      }
    })
  }),
  jobs: Effect.fnUntraced(function* (where = {}) {
    const limit = yield* limitOf(where.limit)
    const after = where.after === undefined ? undefined : yield* Input.idOf(where.after)
    const jobs = yield* store.find({ ...(yield* Input.filterOf(where)), limit: limit + 1, after })
    const page = jobs.slice(0, limit)
    return { jobs: page, next: jobs.length > limit ? page.at(-1)?.id : undefined }
  }),
  job: (id) => existing(id, (id) => Effect.map(store.get([id]), ([job]) => job)),
  attempts: (id) => existing(id, store.attempts).pipe(Effect.catchTag("JobNotFound", () => Effect.succeed([]))),
  audit: Effect.fnUntraced(function* (request = {}) {
    const limit = yield* limitOf(request.limit)
    const { operation } = request
    const asked = {
      ...request,
      operation: operation === undefined ? undefined : yield* Input.idOf(operation, "an operation"),
      limit: limit + 1
    }
    // Two logs, numbered in one sequence
    const [jobs, workers] = yield* Effect.all([store.audit(asked), registry.audit(asked)])
    const records = [...jobs, ...workers].sort((a, b) => b.id - a.id)
    const page = records.slice(0, limit)
    return { records: page, next: records.length > limit ? page.at(-1)?.id : undefined }
  })
})
