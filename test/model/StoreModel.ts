/**
 * Random histories of one job store, as data: what is done (small numbers that name jobs, leases and delays) and how it
 * is done to a driver. The same history done to two stores must give equal answers and equal rows (`StoresAgree.test.ts`).
 *
 * Durations are whole `QUANTUM`s, far more than a history takes on a slow machine, so a clock that also moves by itself
 * between two steps decides as one that does not. Nothing here is left to chance in a store: no crash back-off (the
 * first crash waits for nothing, the second is poison) and no jitter (retry delays of maintenance are zero).
 */
import { Arbitrary, Effect, Schema } from "effect"
import type { StoreError } from "../../src/JobError.ts"
import type { DueHint, JobStoreDriver, Lease, NewJob, Settlement } from "../../src/store/JobStoreDriver.ts"

/** Milliseconds. */
export const QUANTUM = 1_000_000

/** Jobs, types, queues and workers of a history are numbered from 0. */
const JOBS = 5

const below = (n: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: n - 1 }))
const several = Schema.Array(below(JOBS)).check(Schema.isMaxLength(3))

const Enqueue = Schema.TaggedStruct("Enqueue", {
  job: below(JOBS),
  twin: below(4),
  odd: below(8),
  queue: below(2),
  priority: below(3),
  delay: below(6),
  key: below(3),
  live: Schema.Boolean,
  hinted: Schema.Boolean,
  attempts: below(3),
  crashes: below(2),
  timeout: below(3),
  onTimeout: Schema.Literals(["retry", "fail", "ignore"])
})

const Claim = Schema.TaggedStruct("Claim", {
  types: below(3),
  limit: below(4),
  other: below(3),
  suspects: below(2),
  lease: below(3),
  worker: below(2)
})

const ClaimHinted = Schema.TaggedStruct("ClaimHinted", {
  jobs: several,
  type: below(2),
  suspects: below(2),
  worker: below(2)
})

const Settle = Schema.TaggedStruct("Settle", {
  lease: below(8),
  how: Schema.Literals(["Succeeded", "Failed", "GaveUp", "TimedOut", "Snoozed", "Released", "Cancelled"]),
  delay: below(6),
  forged: below(12)
})

/** One step. Numbers name things: a job, a lease claimed so far (modulo how many there are), quanta of time. */
const Step = Schema.Union([
  // The steps that make the others meaningful come more often
  Enqueue,
  Enqueue,
  Enqueue,
  Claim,
  Claim,
  Claim,
  ClaimHinted,
  Settle,
  Settle,
  Settle,
  Schema.TaggedStruct("Advance", { quanta: below(3) }),
  Schema.TaggedStruct("Renew", { leases: Schema.Array(below(8)).check(Schema.isMaxLength(3)), lease: below(3) }),
  Schema.TaggedStruct("Progress", { lease: below(8), value: below(3) }),
  Schema.TaggedStruct("Abandon", { lease: below(8), worker: below(2) }),
  Schema.TaggedStruct("Cancel", { jobs: several }),
  Schema.TaggedStruct("Requeue", { job: below(JOBS) }),
  // One at a time: the order of two that are reaped at one instant is open too
  Schema.TaggedStruct("Reap", { except: below(3) }),
  Schema.TaggedStruct("ReapTimeouts", { grace: below(2) }),
  Schema.TaggedStruct("TakeHints", { limit: below(3), again: Schema.Boolean }),
  Schema.TaggedStruct("Prune", { succeeded: below(3), failed: below(3), cancelled: below(3), attempts: below(4) })
])
export type Step = typeof Step.Type

/** The longest history: what `checkEffect` must be told as `size`, or histories stay too short to do anything. */
export const SIZE = 60

/** Histories that shrink to short ones. */
export const history: Arbitrary.Arbitrary<ReadonlyArray<Step>> = Arbitrary.array(Arbitrary.schema(Step), {
  minLength: 1,
  maxLength: SIZE
})

/** The names that one history uses in every store. Ids sort as they are numbered. */
export interface World {
  readonly ids: ReadonlyArray<string>
  readonly types: ReadonlyArray<string>
  readonly queues: ReadonlyArray<string>
  readonly workers: ReadonlyArray<string>
  /** A fresh UUID for the claim of each step. */
  readonly claims: ReadonlyArray<string>
  /** Leases claimed so far, and jobs ever enqueued. */
  readonly leases: Array<Lease>
  readonly known: Set<string>
}

export const makeWorld = (steps: number): World => {
  const uuid = () => globalThis.crypto.randomUUID()
  return {
    ids: Array.from({ length: JOBS }, uuid).sort(),
    types: ["A", "B"],
    queues: ["q", "r"],
    workers: ["one", "two"],
    claims: Array.from({ length: steps }, uuid),
    leases: [],
    known: new Set()
  }
}

const nobody: Lease = {
  id: "00000000-0000-4000-8000-000000000000",
  attempt: 1,
  claim: "00000000-0000-4000-8000-000000000001"
}

const leaseAt = (world: World, n: number): Lease => {
  const held = world.leases.at(-1 - (n % Math.max(1, world.leases.length)))
  return held === undefined ? nobody : { id: held.id, attempt: held.attempt, claim: held.claim }
}

/** Most jobs are due at once, or nothing would happen to them. */
const later = (delay: number): number => Math.max(0, delay - 3) * QUANTUM

/** The job of an enqueue step, under an id. */
export const newJob = (world: World, step: Extract<Step, { _tag: "Enqueue" }>, id: string): NewJob => ({
  id,
  // Alike for both of a batch: the two kinds are inserted one after the other, so which of them goes first is open
  freshId: ![step.job, (step.job + 1) % JOBS].some((n) => world.known.has(world.ids[n]!)),
  // The same job is enqueued again with the same type and payload, but for an odd one
  type: world.types[(step.job + (step.odd === 7 ? 1 : 0)) % 2]!,
  queue: world.queues[step.queue]!,
  priority: step.priority,
  delay: later(step.delay),
  runAt: undefined,
  payload: JSON.stringify({ odd: step.odd === 6 }),
  maxAttempts: step.attempts + 1,
  maxCrashes: step.crashes + 1,
  maxSnoozes: 10,
  retryDelays: [0],
  timeout: step.timeout === 0 ? undefined : step.timeout * QUANTUM,
  timeoutThen: step.onTimeout,
  key: step.key === 0 ? undefined : `key ${step.key}`,
  keyScope: step.live ? "live" : "retained",
  tags: [`tag ${step.priority}`],
  metadata: undefined,
  hinted: step.hinted,
  publishIn: 0
})

const settlement = (world: World, step: Extract<Step, { _tag: "Settle" }>, claim: string): Settlement => {
  const held = leaseAt(world, step.lease)
  const lease =
    step.forged === 1 ? { ...held, claim } : step.forged === 2 ? { ...held, attempt: held.attempt + 1 } : held
  const wait = later(step.delay)
  switch (step.how) {
    case "Succeeded":
      return { ...lease, _tag: "Succeeded", result: `{"delay":${step.delay}}` }
    case "Failed":
      return { ...lease, _tag: "Failed", error: { code: "error", message: "no", value: "[1]" }, retryIn: wait }
    case "GaveUp":
      return { ...lease, _tag: "Failed", error: { code: "defect", message: "no", stack: "at" }, retryIn: undefined }
    case "TimedOut":
      return { ...lease, _tag: "Failed", error: { code: "timedOut", message: "late" }, retryIn: wait }
    case "Snoozed":
      return { ...lease, _tag: "Snoozed", delay: wait }
    case "Released":
    case "Cancelled":
      return { ...lease, _tag: step.how }
  }
}

/** What a step answered, as it can be compared: lists whose order the contract leaves open are sorted. */
export interface Answer {
  readonly value: unknown
  readonly leases: ReadonlyArray<Lease>
}

const answer = (value: unknown, leases: ReadonlyArray<Lease> = []): Answer => ({ value, leases })

const byId = <A extends { readonly id: string }>(items: ReadonlyArray<A>): ReadonlyArray<A> =>
  [...items].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))

/** Does one step to one store. Changes nothing in `world`, so that it can be done to another one too. */
export const perform = (
  driver: JobStoreDriver,
  advance: (ms: number) => Effect.Effect<void>,
  world: World,
  step: Step,
  at: number
): Effect.Effect<Answer, StoreError> => {
  const claim = world.claims[at]!
  const lease = "lease" in step ? leaseAt(world, step.lease) : nobody
  const unlessThree = (n: number) => (n === 3 ? undefined : n * QUANTUM)
  switch (step._tag) {
    case "Enqueue": {
      const job = newJob(world, step, world.ids[step.job]!)
      // Of the same type and queue: which of two types goes first is open when their heads are of one instant
      const twin = newJob(world, step, world.ids[(step.job + 1) % JOBS]!)
      return Effect.map(driver.enqueue(step.twin === 3 ? [job, twin] : [job]), (outcomes) => answer(outcomes))
    }
    case "Advance":
      return Effect.map(advance(step.quanta * QUANTUM), () => answer(undefined))
    case "Claim": {
      const ranges = (types: ReadonlyArray<string>) =>
        types.flatMap((type) => world.queues.map((queue) => ({ queue, type })))
      const pools =
        step.types === 2
          ? [{ ranges: ranges(world.types), limit: step.limit + 1 }]
          : [
              { ranges: ranges([world.types[step.types]!]), limit: step.limit + 1 },
              { ranges: ranges([world.types[1 - step.types]!]), limit: step.other }
            ]
      const worker = world.workers[step.worker]!
      return Effect.map(
        driver.claim({ claim, worker, lease: (step.lease + 1) * QUANTUM, pools, suspects: step.suspects }),
        (jobs) => answer(jobs, jobs)
      )
    }
    case "ClaimHinted":
      return Effect.map(
        driver.claimHinted({
          claim,
          worker: world.workers[step.worker]!,
          lease: QUANTUM,
          ids: step.jobs.map((n) => world.ids[n]!),
          types: [world.types[step.type]!],
          suspects: step.suspects
        }),
        ({ claimed, rest }) => answer({ claimed, rest: byId(rest) }, claimed)
      )
    case "Settle":
      return Effect.map(driver.settle(world.workers[0]!, [settlement(world, step, claim)]), (outcomes) =>
        answer(outcomes)
      )
    case "Renew": {
      const unique = new Map(step.leases.map((n) => leaseAt(world, n)).map((held) => [JSON.stringify(held), held]))
      return Effect.map(driver.renew([...unique.values()], (step.lease + 1) * QUANTUM), (renewal) =>
        answer([byId(renewal.lost), byId(renewal.locked), byId(renewal.cancelled)])
      )
    }
    case "Progress":
      return Effect.map(
        driver.progress([{ ...lease, progress: step.value === 0 ? undefined : `{"value":${step.value}}` }]),
        () => answer(undefined)
      )
    case "Abandon":
      return Effect.map(driver.abandon(world.workers[step.worker]!, [lease.claim]), (count) => answer(count))
    case "Cancel":
      return Effect.map(driver.cancel(step.jobs.map((n) => world.ids[n]!)), (outcomes) => answer(outcomes))
    case "Requeue":
      return Effect.map(driver.requeue(world.ids[step.job]!), (outcome) => answer(outcome))
    // All at once: two attempts of one claim end at one instant here, at two in Postgres, so which is first is open
    case "Reap": {
      const exceptWorkers = step.except === 2 ? [] : [world.workers[step.except]!]
      return Effect.map(driver.reap({ limit: 100, exceptWorkers }), (reaped) => answer(byId(reaped)))
    }
    case "ReapTimeouts":
      return Effect.map(driver.reapTimeouts({ limit: 100, grace: step.grace * QUANTUM }), (reaped) =>
        answer(byId(reaped))
      )
    // All of them, in portions: which of two hints of one instant comes first is open
    case "TakeHints": {
      const limit = step.limit + 1
      const take = (taken: ReadonlyArray<DueHint>): Effect.Effect<ReadonlyArray<DueHint>, StoreError> =>
        Effect.flatMap(driver.takeHints({ limit, again: step.again }), (hints) => {
          if (hints.length > limit) return Effect.die(`${hints.length} hints, ${limit} were asked for`)
          return hints.length === 0 ? Effect.succeed(taken) : take([...taken, ...hints])
        })
      return Effect.map(take([]), (hints) => answer(byId(hints)))
    }
    case "Prune": {
      const { attempts, cancelled, failed, succeeded } = step
      const retention = {
        succeeded: unlessThree(succeeded),
        failed: unlessThree(failed),
        cancelled: unlessThree(cancelled),
        attempts: unlessThree(attempts)
      }
      return Effect.map(driver.prune(retention, 1_000), (count) => answer(count))
    }
  }
}

/** Everything that can be seen of a store besides its rows. */
export const overview = (driver: JobStoreDriver, world: World) =>
  Effect.all({
    stats: driver.stats,
    nextDue: driver.nextDue(world.types.flatMap((type) => world.queues.map((queue) => ({ queue, type })))),
    ended: Effect.map(driver.ended(world.ids), (ids) => [...ids].sort()),
    attempts: Effect.all(world.ids.map((id) => driver.attempts(id)))
  })
