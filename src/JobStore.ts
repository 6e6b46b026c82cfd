/**
 * The truth about every job: one atomic operation per transition, on the store's own clock.
 *
 * Two levels. `JobStoreDriver` (`store/JobStoreDriver.ts`) is what an implementation fills. This service is what the rest
 * of Polyqueue sees: the same operations plus what is common to all drivers, written once in `make`: enqueues of
 * concurrent callers share a statement, a batch that is refused for one row's data is halved until the culprit stands
 * alone and only it fails, and local waiters hear of jobs that ended here.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { StoreError } from "./JobError.ts"
import type { Publication } from "./store/Announcer.ts"
import * as EnqueueBuffer from "./store/EnqueueBuffer.ts"
import type { EnqueueOutcome, JobStoreDriver, NewJob, Status } from "./store/JobStoreDriver.ts"
import * as MemoryJobStore from "./store/MemoryJobStore.ts"
import * as PostgresJobStore from "./store/PostgresJobStore.ts"

export type * from "./store/JobStoreDriver.ts"

/** The store as the rest of Polyqueue sees it. */
export interface JobStoreService extends JobStoreDriver {
  /**
   * Enqueues one job, and publishes it when it was inserted. Outside a transaction and without a key, concurrent callers
   * share one INSERT, which may carry what the announcer has to say, and are published together; interrupting one caller
   * cancels nobody else.
   */
  readonly enqueueOne: (job: NewJob, publication?: Publication) => Effect.Effect<EnqueueOutcome, StoreError>
  /** True when every change goes through this very service, so that `onEnded` misses nothing. */
  readonly isLocal: boolean
  /** Calls back with jobs that ended through this very service. A hint for waiters, never the only source. Returns "unsubscribe". */
  readonly onEnded: (listener: (ids: ReadonlyArray<string>) => void) => () => void
}

/**
 * Runs a batch; when the store refuses it for somebody's data, halves it until the culprit stands alone. Only its answer
 * is `refused`.
 */
const halving = <Item, Answer>(
  run: (items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<Answer>, StoreError>,
  refused: (error: StoreError) => Answer
): ((items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<Answer>, StoreError>) => {
  const go = (items: ReadonlyArray<Item>): Effect.Effect<ReadonlyArray<Answer>, StoreError> =>
    Effect.catch(run(items), (error) => {
      if (error.reason !== "Refused") return Effect.fail(error)
      if (items.length === 1) return Effect.succeed([refused(error)])
      const half = items.length >> 1
      return Effect.zipWith(go(items.slice(0, half)), go(items.slice(half)), (a, b) => [...a, ...b])
    })
  return go
}

const isEnd = (status: Status | undefined): boolean =>
  status === "succeeded" || status === "failed" || status === "cancelled"

/** The service over a driver. Its scope owns the fiber that sends shared enqueues. */
export const make = Effect.fnUntraced(function* (
  driver: JobStoreDriver,
  isLocal = false
): Effect.fn.Return<JobStoreService, never, Scope.Scope> {
  const buffered = yield* EnqueueBuffer.make((jobs, announcer) =>
    halving(
      (items: ReadonlyArray<NewJob>) => driver.enqueue(items, announcer),
      (error): EnqueueOutcome => ({ _tag: "Refused", error })
    )(jobs)
  )
  const enqueueAlone = (job: NewJob, publication: Publication | undefined) =>
    Effect.flatMap(driver.enqueue([job]), ([outcome]) =>
      outcome!._tag === "Inserted" && publication !== undefined
        ? Effect.as(publication.publish([job]), outcome!)
        : Effect.succeed(outcome!)
    )
  const listeners = new Set<(ids: ReadonlyArray<string>) => void>()
  const ended = (ids: ReadonlyArray<string>) => {
    if (ids.length > 0) for (const listener of listeners) listener(ids)
  }
  const notifyReaped = Effect.tap<ReadonlyArray<{ readonly id: string; readonly status: string }>, void, never, never>(
    (rows) => Effect.sync(() => ended(rows.filter((row) => row.status !== "queued").map((row) => row.id)))
  )
  const settle: JobStoreDriver["settle"] = (worker, settlements) =>
    Effect.map(
      halving(
        (items: typeof settlements) => driver.settle(worker, items),
        (error) => ({ _tag: "Refused", error }) as const
      )(settlements),
      (outcomes) => {
        if (listeners.size > 0) {
          const ids: Array<string> = []
          for (let i = 0; i < outcomes.length; i++) {
            const outcome = outcomes[i]!
            if (outcome._tag === "Settled" && outcome.status !== "queued") ids.push(settlements[i]!.id)
          }
          ended(ids)
        }
        return outcomes
      }
    )
  return {
    ...driver,
    isLocal,
    enqueueOne: (job, publication) =>
      job.key !== undefined
        ? enqueueAlone(job, publication)
        : Effect.flatMap(driver.inTransaction, (inside) =>
            inside ? enqueueAlone(job, publication) : buffered(job, publication)
          ),
    settle,
    reap: (options) => notifyReaped(driver.reap(options)) as ReturnType<JobStoreDriver["reap"]>,
    reapTimeouts: (options) => notifyReaped(driver.reapTimeouts(options)) as ReturnType<JobStoreDriver["reapTimeouts"]>,
    cancel: (ids) =>
      Effect.tap(driver.cancel(ids), (outcomes) =>
        Effect.sync(() => ended(ids.filter((_, i) => outcomes[i] === "cancelled")))
      ),
    act: (request) =>
      Effect.tap(driver.act(request), (results) =>
        Effect.sync(() =>
          ended(results.flatMap(({ id, outcome, status }) => (outcome === "done" && isEnd(status) ? [id] : [])))
        )
      ),
    onEnded: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    }
  }
})

/** The port. Its layers differ in nothing but where the truth is kept. */
export class JobStore extends Context.Service<JobStore, JobStoreService>()("polyqueue/JobStore") {
  /** In this process, on Effect's `Clock`: `TestClock` moves everything. Lost with the process. */
  static readonly layerMemory: Layer.Layer<JobStore> = Layer.effect(
    JobStore,
    Effect.flatMap(MemoryJobStore.make, (driver) => make(driver, true))
  )

  /** On Postgres, in schema and prefix `polyqueue`. Enqueues join the transaction of this `SqlClient`. Expects migrated tables. */
  static readonly layerPostgres: Layer.Layer<JobStore, StoreError, SqlClient> = JobStore.layerPostgresWith({})

  /** The same with another schema or prefix. */
  static layerPostgresWith(options: PostgresJobStore.Options): Layer.Layer<JobStore, StoreError, SqlClient> {
    return Layer.effect(
      JobStore,
      Effect.flatMap(PostgresJobStore.make(options), (driver) => make(driver))
    )
  }
}
