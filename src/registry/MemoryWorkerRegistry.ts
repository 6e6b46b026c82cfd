/**
 * The worker registry in the memory of one process, on Effect's `Clock`: for tests, examples and workers that share
 * their process with their store. Same semantics as Postgres: a worker taken for dead that beats again is alive again.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { StoreError } from "../JobError.ts"
import type { By } from "../store/JobStoreDriver.ts"
import { AuditLog, refusedBy } from "../store/memory/AuditLog.ts"
import type { ConcurrencySetting, WorkerInfo, WorkerRecord, WorkerRegistryDriver } from "./WorkerRegistryDriver.ts"

/** A copy that shares no array with the caller, with the bound on reported jobs applied. */
const copied = (info: WorkerInfo): WorkerInfo => ({
  ...info,
  queues: [...info.queues],
  jobTypes: [...info.jobTypes],
  running: info.running.slice(0, 100)
})

const byNameAndQueue = (a: ConcurrencySetting, b: ConcurrencySetting): number => {
  const [x, y] = [`${a.name}\u0000${a.queue ?? ""}`, `${b.name}\u0000${b.queue ?? ""}`]
  return x < y ? -1 : x > y ? 1 : 0
}

/** One logged step at the clock's now; as Postgres, refuses what its log would refuse. */
const step = <A>(operation: string, by: By, run: (now: number) => A): Effect.Effect<A, StoreError> => {
  const error = refusedBy(operation, by)
  return error === undefined ? Effect.map(Clock.currentTimeMillis, run) : Effect.fail(error)
}

const actions = { drain: "drainWorker", stop: "stopWorker" } as const

const isAlive = ({ status }: WorkerRecord): boolean => status === "running" || status === "draining"

/** What the audit log says of a worker. */
const stateOf = (worker: WorkerRecord, told: WorkerRecord["told"]): object => ({
  name: worker.name,
  status: worker.status,
  ...(told === undefined ? {} : { told })
})

/** A new, empty registry. */
export const make: Effect.Effect<WorkerRegistryDriver> = Effect.sync((): WorkerRegistryDriver => {
  const workers = new Map<string, WorkerRecord>()
  const settings = new Map<string, ConcurrencySetting>()
  const log = new AuditLog()
  const update = (worker: WorkerRecord, change: Partial<WorkerRecord>) =>
    workers.set(worker.id, { ...worker, ...change })

  return {
    heartbeat: (info) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        const known = workers.get(info.id)
        workers.set(info.id, {
          ...copied(info),
          told: known?.told,
          startedAt: known?.startedAt ?? now,
          heartbeatAt: now
        })
        const concurrency = [...settings.values()].filter(({ name }) => name === info.name).sort(byNameAndQueue)
        return {
          told: known?.told,
          concurrency: concurrency.map(({ concurrency, queue }) => ({ queue, concurrency }))
        }
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
    ),
    tell: ({ by, id, operation, order }) =>
      step("tell", by, (now) => {
        const worker = workers.get(id)
        if (worker === undefined || !isAlive(worker) || worker.told === "stop") {
          return worker === undefined ? undefined : { status: worker.status, told: worker.told }
        }
        update(worker, { told: order })
        log.write(now, {
          action: order === undefined ? "resumeWorker" : actions[order],
          kind: "worker",
          operation,
          target: id,
          by,
          before: stateOf(worker, worker.told),
          after: stateOf(worker, order)
        })
        return { status: worker.status, told: worker.told }
      }),
    setConcurrency: ({ by, concurrency, name, operation, queue }) =>
      concurrency !== undefined && !(Number.isInteger(concurrency) && concurrency >= 0 && concurrency <= 10_000)
        ? Effect.fail(
            new StoreError({
              reason: "Refused",
              operation: "setConcurrency",
              message: `setConcurrency: ${concurrency} is not a whole number from 0 to 10000`
            })
          )
        : step("setConcurrency", by, (now) => {
            const key = `${name}\u0000${queue ?? ""}`
            const before = settings.get(key)
            if (concurrency === undefined) settings.delete(key)
            else settings.set(key, { name, queue, concurrency })
            const state = (setting: ConcurrencySetting | undefined) =>
              setting === undefined
                ? undefined
                : { concurrency: setting.concurrency, ...(queue === undefined ? {} : { queue }) }
            log.write(now, {
              action: "setConcurrency",
              kind: "worker",
              operation,
              target: name,
              by,
              before: state(before),
              after: state(settings.get(key))
            })
          }),
    concurrency: Effect.sync(() => [...settings.values()].sort(byNameAndQueue)),
    audit: (request) => Effect.sync(() => log.read(request))
  }
})
