/**
 * The job store in the memory of one process: the same semantics as Postgres, to the letter, for tests, examples and
 * queues that need not survive their process. Time is Effect's `Clock`, so `TestClock` moves everything; jitter is
 * Effect's `Random`. Every operation is one synchronous step: atomic, and never locked.
 *
 * It has no transactions: `inTransaction` is always false and `afterCommit` runs its effect at once.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { StoreError } from "../JobError.ts"
import type { By, JobStoreDriver } from "./JobStoreDriver.ts"
import { act, pause, resume } from "./memory/Act.ts"
import { refusedBy } from "./memory/AuditLog.ts"
import { claim, claimHinted, nextDue } from "./memory/Claim.ts"
import { enqueue, refused } from "./memory/Enqueue.ts"
import { count, find, view } from "./memory/Find.ts"
import { fleetStats } from "./memory/FleetStats.ts"
import { cancel, ended, get, list, requeue, stats } from "./memory/Inspect.ts"
import { JobTable } from "./memory/JobTable.ts"
import { abandon, progress, refusal, renew, settle } from "./memory/Settle.ts"
import { refusedJson } from "./memory/Storable.ts"
import { prune, reap, reapTimeouts, takeHints } from "./memory/Upkeep.ts"

/** One atomic step at the clock's now. */
const step = <A>(f: (now: number, random: () => number) => A): Effect.Effect<A> =>
  Effect.withFiber((fiber) => {
    const random = fiber.getRef(Random.Random)
    return Effect.succeed(f(fiber.getRef(Clock.Clock).currentTimeMillisUnsafe(), () => random.nextDoubleUnsafe()))
  })

/** A new, empty store. It lives as long as somebody holds it. */
export const make: Effect.Effect<JobStoreDriver> = Effect.sync((): JobStoreDriver => {
  const table = new JobTable()
  return {
    inTransaction: Effect.succeed(false),
    afterCommit: (effect) => effect,
    enqueue: (jobs) => step((now) => enqueue(table, now, jobs)),
    claim: (request) => step((now) => claim(table, now, request)),
    claimHinted: (request) => step((now) => claimHinted(table, now, request)),
    nextDue: (ranges) => step((now) => nextDue(table, now, ranges)),
    settle: (_worker, settlements) => {
      const error = firstError(settlements, refusal)
      return error === undefined
        ? step((now) => settlements.map((settlement) => settle(table, now, settlement)))
        : Effect.fail(error)
    },
    renew: (leases, lease) => step((now) => renew(table, now, leases, lease)),
    progress: (reports) => {
      const error = firstError(reports, ({ id, progress }) => {
        const why = progress === undefined ? undefined : refusedJson(progress)
        return why === undefined ? undefined : refused("progress", id, "progress", why)
      })
      return error === undefined ? step((now) => progress(table, now, reports)) : Effect.fail(error)
    },
    abandon: (worker, claims) => step((now) => abandon(table, now, worker, claims)),
    get: (ids) => Effect.sync(() => get(table, ids)),
    ended: (ids) => Effect.sync(() => ended(table, ids)),
    attempts: (id) => Effect.sync(() => table.attempts(id).map((record) => ({ ...record }))),
    list: (filter) => Effect.sync(() => list(table, filter)),
    stats: step((now) => stats(table, now)),
    cancel: (ids) => step((now) => cancel(table, now, ids)),
    requeue: (id) => step((now) => requeue(table, now, id)),
    reap: (options) => step((now, random) => reap(table, now, random, options)),
    reapTimeouts: (options) => step((now, random) => reapTimeouts(table, now, random, options)),
    takeHints: (options) => step((now) => takeHints(table, now, options)),
    prune: (retention, limit) => step((now) => prune(table, now, retention, limit)),
    fleetStats: ({ staleAfter }) => step((now) => fleetStats(table, now, staleAfter)),
    find: (request) => step((now) => find(table, now, request)),
    count: (filter) => step((now) => count(table, now, filter)),
    act: (request) => unlessRefused(request.action, request.by, () => step((now) => act(table, now, request))),
    pause: (request) => unlessRefused("pause", request.by, () => step((now) => pause(table, now, request))),
    resume: (request) => unlessRefused("resume", request.by, () => step((now) => resume(table, now, request))),
    pauses: step((now) => table.pauses.all(now)),
    view: (id) => step((now) => view(table, now, id)),
    audit: (request) => Effect.sync(() => table.audit.read(request))
  }
})

/** As Postgres refuses a row of its audit log, and with it what the row tells. */
const unlessRefused = <A>(
  operation: string,
  by: By,
  run: () => Effect.Effect<A, StoreError>
): Effect.Effect<A, StoreError> => {
  const error = refusedBy(operation, by)
  return error === undefined ? run() : Effect.fail(error)
}

const firstError = <A>(items: ReadonlyArray<A>, check: (item: A) => StoreError | undefined): StoreError | undefined => {
  for (const item of items) {
    const error = check(item)
    if (error !== undefined) return error
  }
  return undefined
}
