/**
 * The worker registry in the memory of one process, on Effect's `Clock`: for tests, examples and workers that share
 * their process with their store. Same semantics as Postgres: a worker taken for dead that beats again is alive again.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { WorkerInfo, WorkerRecord, WorkerRegistryDriver } from "./WorkerRegistryDriver.ts"

/** A copy that shares no array with the caller, with the bound on reported jobs applied. */
const copied = (info: WorkerInfo): WorkerInfo => ({
  ...info,
  queues: [...info.queues],
  jobTypes: [...info.jobTypes],
  running: info.running.slice(0, 100)
})

const isAlive = ({ status }: WorkerRecord): boolean => status === "running" || status === "draining"

/** A new, empty registry. */
export const make: Effect.Effect<WorkerRegistryDriver> = Effect.sync((): WorkerRegistryDriver => {
  const workers = new Map<string, WorkerRecord>()
  const update = (worker: WorkerRecord, change: Partial<WorkerRecord>) =>
    workers.set(worker.id, { ...worker, ...change })

  return {
    heartbeat: (info) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        const startedAt = workers.get(info.id)?.startedAt ?? now
        workers.set(info.id, { ...copied(info), startedAt, heartbeatAt: now })
      }),
    stop: (id) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        const worker = workers.get(id)
        if (worker !== undefined) {
          update(worker, { status: "stopped", heartbeatAt: now, running: [], runningCount: 0 })
        }
      }),
    reapStale: (threshold) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        const stale = [...workers.values()].filter((worker) => isAlive(worker) && worker.heartbeatAt + threshold <= now)
        for (const worker of stale) update(worker, { status: "dead" })
        return stale.map(({ id }) => id)
      }),
    prune: (age) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        const gone = [...workers.values()].filter((worker) => !isAlive(worker) && worker.heartbeatAt + age <= now)
        for (const { id } of gone) workers.delete(id)
        return gone.length
      }),
    list: Effect.sync(() =>
      [...workers.values()]
        .sort((a, b) => (a.id < b.id ? -1 : 1))
        .map((worker) => ({
          ...worker,
          queues: [...worker.queues],
          jobTypes: [...worker.jobTypes],
          running: [...worker.running]
        }))
    )
  }
})
