/** Steps that the Postgres tests are written in: jobs of a type of their own, claims, and row locks held by hand. */
import { assert } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import type { ClaimedJob, JobStoreDriver, Lease, NewJob, Settlement } from "../../src/store/JobStoreDriver.ts"
import * as PostgresJobStore from "../../src/store/PostgresJobStore.ts"
import { shiftedClock } from "./StoreLayers.ts"

/** A migrated store on the ambient client, and how to move its clock. */
export class Store extends Context.Service<
  Store,
  { readonly driver: JobStoreDriver; readonly advance: (ms: number) => Effect.Effect<void> }
>()("test/Store") {}

/** On the ambient client. */
export const layerStore = Layer.effect(
  Store,
  Effect.gen(function* () {
    const advance = yield* shiftedClock
    return { driver: yield* PostgresJobStore.makeShifted(), advance }
  })
)

/** A job of this type, in the queue `q`. */
export const newJob = (type: string, override: Partial<NewJob> = {}): NewJob => ({
  id: randomUUID(),
  freshId: true,
  type,
  queue: "q",
  priority: 5,
  delay: 0,
  runAt: undefined,
  payload: `{"n":1}`,
  maxAttempts: 3,
  maxCrashes: 3,
  maxSnoozes: 10,
  retryDelays: [1_000],
  timeout: undefined,
  timeoutThen: "retry",
  key: undefined,
  keyScope: "live",
  tags: [],
  metadata: undefined,
  hinted: false,
  publishIn: 0,
  ...override
})

export const succeeded = ({ attempt, claim, id }: Lease): Settlement => ({
  _tag: "Succeeded",
  id,
  attempt,
  claim,
  result: "1"
})

export const retried = ({ attempt, claim, id }: Lease): Settlement => ({
  _tag: "Failed",
  id,
  attempt,
  claim,
  error: { code: "error", message: "it failed" },
  retryIn: 0
})

/** Steps for jobs of a fresh type. */
export const steps = Effect.gen(function* () {
  const { advance, driver } = yield* Store
  const type = `T${randomUUID().slice(0, 8)}`
  const insert = (count: number, override: Partial<NewJob> = {}) =>
    Effect.gen(function* () {
      const jobs = Array.from({ length: count }, () => newJob(type, override))
      const outcomes = yield* driver.enqueue(jobs)
      for (const outcome of outcomes) assert.deepStrictEqual(outcome, { _tag: "Inserted" })
      return jobs
    })
  const claim = (
    options: { limit?: number; worker?: string; lease?: number; claim?: string; suspects?: number } = {}
  ) =>
    driver.claim({
      claim: options.claim ?? randomUUID(),
      worker: options.worker ?? "w1",
      lease: options.lease ?? 30_000,
      pools: [{ ranges: [{ queue: "q", type }], limit: options.limit ?? 10 }],
      suspects: options.suspects ?? 1
    })
  /** Inserts one job and claims it. */
  const held = (options: Parameters<typeof claim>[0] & { readonly job?: Partial<NewJob> } = {}) =>
    Effect.gen(function* () {
      yield* insert(1, options.job)
      const [job] = yield* claim({ ...options, limit: 1 })
      assert.isDefined(job)
      return job as ClaimedJob
    })
  const settle = (settlement: Settlement) => Effect.map(driver.settle("w1", [settlement]), ([outcome]) => outcome)
  const row = (id: string) => Effect.map(driver.get([id]), ([found]) => found!)
  return { driver, advance, type, insert, claim, held, settle, row }
})

/** Runs `effect` while a transaction of another connection holds what `statement` locks; then that one commits. */
export const whileLocked = <A, E, R>(
  lock: (sql: SqlClient.SqlClient) => Effect.Effect<unknown, unknown>,
  effect: Effect.Effect<A, E, R>
) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const locked = yield* Deferred.make<void>()
    const go = yield* Deferred.make<void>()
    const holder = yield* lock(sql).pipe(
      Effect.andThen(Deferred.succeed(locked, undefined)),
      Effect.andThen(Deferred.await(go)),
      sql.withTransaction,
      Effect.forkChild({ startImmediately: true })
    )
    yield* Effect.raceFirst(Deferred.await(locked), Effect.andThen(Fiber.join(holder), Effect.never))
    return yield* effect.pipe(
      Effect.ensuring(Effect.andThen(Deferred.succeed(go, undefined), Effect.exit(Fiber.join(holder))))
    )
  })

/** Waits until some session waits for a lock: the other side of an interleaving has arrived. */
export const untilBlocked = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  for (;;) {
    const rows =
      yield* sql`select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`
    if (rows.length > 0) return
    yield* Effect.sleep("5 millis")
  }
})

/** Locks a job's row. */
export const lockRow = (id: string) => (sql: SqlClient.SqlClient) =>
  sql`select 1 from polyqueue.polyqueue_jobs where id = ${id}::uuid for update`
