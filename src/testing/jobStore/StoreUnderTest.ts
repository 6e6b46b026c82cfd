/**
 * What the job store contract suite drives: a driver, and the one thing only its author can do, which is to move the
 * store's clock. Beside it the steps that the cases are written in. Every case has names of its own and leaves the
 * store empty, so that one database serves all of them, one after another.
 */
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type {
  ClaimedJob,
  ClaimRequest,
  EnqueueOutcome,
  HintClaimRequest,
  JobRecord,
  JobStoreDriver,
  Lease,
  NewJob,
  Settlement,
  SettleOutcome,
  StoredError
} from "../../store/JobStoreDriver.ts"
import { auditAll } from "./Audit.ts"

/** The store that the suite tries. It must hold no jobs when the suite starts, and nobody else may use it meanwhile. */
export class StoreUnderTest extends Context.Service<
  StoreUnderTest,
  {
    readonly driver: JobStoreDriver
    /** Moves the store's own clock forward, without sleeping. Milliseconds. */
    readonly advance: (ms: number) => Effect.Effect<void>
  }
>()("polyqueue/testing/StoreUnderTest") {}

/** What a case needs; any failure fails it. */
export type Case = Effect.Effect<void, unknown, StoreUnderTest>

/** One sentence of the contract and how it is tried. */
export interface ContractCase {
  /** The sentence; also what `skip` names. */
  readonly name: string
  readonly run: Case
}

/** A lease that does not end while a case runs, unless the case moves the clock. */
export const LEASE = 600_000

/** More time than a case needs on a slow machine, less than any delay a case uses: 10 s. */
export const SLACK = 10_000

/** Two instants are `ms` apart, as near as a clock that is read twice can say. */
export const assertApart = (from: number | undefined, to: number | undefined, ms: number): void =>
  assert.approximately(to! - from!, ms, 1_000)

/** A fresh UUID. Ids of one case are made in no particular order. */
export const uuid = (): string => globalThis.crypto.randomUUID()

/** How an attempt of a case fails. */
export const failure: StoredError = { code: "error", message: "it did not work", value: `{"_tag":"Oops"}` }

/** The steps of one case, on names of its own. */
export interface Steps {
  readonly driver: JobStoreDriver
  readonly advance: (ms: number) => Effect.Effect<void>
  /** The queue and the type that `job` uses unless told otherwise. Append to them for more. */
  readonly queue: string
  readonly type: string
  readonly worker: string
  readonly job: (override?: Partial<NewJob>) => NewJob
  /** Enqueues one job that must be inserted; answers its id. */
  readonly insert: (override?: Partial<NewJob>) => Effect.Effect<string, StoreError>
  readonly enqueueOne: (job: NewJob) => Effect.Effect<EnqueueOutcome, StoreError>
  /** Claims from the case's queue and type, 100 slots, no suspects, unless told otherwise. */
  readonly claim: (override?: Partial<ClaimRequest>) => Effect.Effect<ReadonlyArray<ClaimedJob>, StoreError>
  readonly claimHinted: (
    ids: ReadonlyArray<string>,
    override?: Partial<HintClaimRequest>
  ) => ReturnType<JobStoreDriver["claimHinted"]>
  /** Claims one named job, a suspect or not, and insists on getting it. */
  readonly take: (id: string, override?: Partial<HintClaimRequest>) => Effect.Effect<ClaimedJob, StoreError>
  readonly settle: (settlement: Settlement) => Effect.Effect<SettleOutcome, StoreError>
  /** The row, which must exist. */
  readonly row: (id: string) => Effect.Effect<JobRecord, StoreError>
  /** Lets the lease of a claimed job end and reaps it. */
  readonly crash: (lease: Lease) => Effect.Effect<void, StoreError>
}

/** Only what proves ownership. */
export const leaseOf = ({ id, attempt, claim }: Lease): Lease => ({ id, attempt, claim })

/** Settlements of a held attempt. */
export const succeeded = (lease: Lease, result: string | undefined = "null"): Settlement => ({
  ...leaseOf(lease),
  _tag: "Succeeded",
  result
})
export const failed = (lease: Lease, retryIn?: number, error: StoredError = failure): Settlement => ({
  ...leaseOf(lease),
  _tag: "Failed",
  error,
  retryIn
})
export const snoozed = (lease: Lease, delay: number): Settlement => ({ ...leaseOf(lease), _tag: "Snoozed", delay })
export const released = (lease: Lease): Settlement => ({ ...leaseOf(lease), _tag: "Released" })
export const cancelled = (lease: Lease): Settlement => ({ ...leaseOf(lease), _tag: "Cancelled" })

/** The ids of some answers, in their order. */
export const ids = (items: ReadonlyArray<{ readonly id: string }>): ReadonlyArray<string> => items.map(({ id }) => id)

const steps = Effect.map(StoreUnderTest, ({ advance, driver }): Steps => {
  const name = uuid().slice(0, 8)
  const queue = `queue-${name}`
  const type = `Type${name}`
  const worker = `worker-${name}`
  const job: Steps["job"] = (override) => ({
    id: uuid(),
    freshId: true,
    type,
    queue,
    priority: 5,
    delay: 0,
    runAt: undefined,
    payload: `{"n":1}`,
    maxAttempts: 3,
    maxCrashes: 3,
    maxSnoozes: 1_000,
    retryDelays: [60_000],
    timeout: undefined,
    timeoutThen: "retry",
    key: undefined,
    keyScope: "retained",
    tags: [],
    metadata: undefined,
    hinted: false,
    publishIn: 0,
    ...override
  })
  const enqueueOne: Steps["enqueueOne"] = (job) => Effect.map(driver.enqueue([job]), (outcomes) => outcomes[0]!)
  const claimHinted: Steps["claimHinted"] = (ids, override) =>
    driver.claimHinted({ claim: uuid(), worker, lease: LEASE, ids, types: [type], suspects: 1, ...override })
  return {
    driver,
    advance,
    queue,
    type,
    worker,
    job,
    enqueueOne,
    claimHinted,
    insert: Effect.fnUntraced(function* (override) {
      const one = job(override)
      assert.deepStrictEqual(yield* enqueueOne(one), { _tag: "Inserted" })
      return one.id
    }),
    claim: (override) =>
      driver.claim({
        claim: uuid(),
        worker,
        lease: LEASE,
        pools: [{ ranges: [{ queue, type }], limit: 100 }],
        suspects: 0,
        ...override
      }),
    take: Effect.fnUntraced(function* (id, override) {
      const { claimed, rest } = yield* claimHinted([id], override)
      assert.deepStrictEqual(rest, [], "the job can be claimed")
      return claimed[0]!
    }),
    settle: (settlement) => Effect.map(driver.settle(worker, [settlement]), (outcomes) => outcomes[0]!),
    row: Effect.fnUntraced(function* (id) {
      const rows = yield* driver.get([id])
      assert.deepStrictEqual(ids(rows), [id], "the job exists")
      return rows[0]!
    }),
    crash: Effect.fnUntraced(function* (lease) {
      yield* advance(LEASE + SLACK)
      const reaped = yield* driver.reap({ limit: 10, exceptWorkers: [], ids: [lease.id] })
      assert.deepStrictEqual(ids(reaped), [lease.id], "the expired lease is reaped")
    })
  }
})

/** Ends and deletes everything, so that the next case finds an empty store, and nothing paused. */
const empty = Effect.fnUntraced(function* ({ advance, driver }: Steps) {
  for (const { queue, type } of yield* driver.pauses) {
    yield* driver.resume({ queue, type, by: { who: "the suite" }, operation: uuid() })
  }
  for (;;) {
    const rows = yield* driver.list({ limit: 1_000 })
    if (rows.length === 0) break
    yield* driver.cancel(ids(rows))
    yield* advance(10 * LEASE)
    yield* driver.reap({ limit: 10_000, exceptWorkers: [] })
    yield* driver.prune({ succeeded: 0, failed: 0, cancelled: 0, attempts: 0 }, 10_000)
  }
})

/**
 * A case: a sentence, tried with steps of its own. Afterwards, whatever it did, every job in the store must obey the
 * conservation law, and the store is emptied.
 */
export const contractCase = (
  name: string,
  run: (steps: Steps) => Generator<Effect.Effect<unknown, unknown>, void, never>
): ContractCase => ({
  name,
  run: Effect.gen(function* () {
    const mine = yield* steps
    yield* Effect.gen(() => run(mine)).pipe(
      Effect.andThen(auditAll(mine.driver)),
      Effect.ensuring(Effect.orDie(empty(mine)))
    )
  })
})
