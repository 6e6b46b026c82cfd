/**
 * Fills free slots straight from the store: one statement for all pools, again as soon as there is room. When nothing is
 * due it waits for the doorbell, for the next job to become due, or for room, whichever comes first.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { BrokerError } from "../JobError.ts"
import type { LeaseKeeper } from "./LeaseKeeper.ts"
import type { Pool } from "./Pool.ts"
import type { Slots } from "./Slots.ts"
import { monotonic, type WorkerContext } from "./WorkerContext.ts"

/** Longest wait before the store is asked again without a reason. */
const maxIdle = 30_000
/** Pause when due jobs could not be taken: somebody holds their locks, or they are suspects and one is running. */
const contended = 200

/**
 * Claims once for those of `pools` that have room, suspects too if it is their turn, unless they are left `forNext` time.
 * Answers how many jobs came, or `undefined` when there is no room.
 */
export const claimOnce = Effect.fnUntraced(function* (
  worker: WorkerContext,
  slots: Slots,
  leases: LeaseKeeper,
  pools: ReadonlyArray<Pool> = slots.pools,
  suspects?: "forNext"
) {
  const room = slots.room(pools)
  // Nothing was asked for the full ones, whatever the bell had to say: their next free slot asks
  for (const pool of pools) if (!room.some((one) => one.pool === pool)) pool.mayHaveMore = true
  if (room.length === 0) return undefined
  const claim = yield* worker.makeId
  const sentAt = monotonic(worker.clock)
  const take = (suspects: 0 | 1) =>
    Effect.onExit(
      worker.store.claim({ claim, worker: worker.id, lease: worker.timings.lease, pools: room, suspects }),
      (exit) =>
        Effect.sync(() => {
          if (exit._tag === "Failure") leases.unknownClaim(claim)
          else slots.accept(exit.value, sentAt)
        })
    )
  const jobs = yield* suspects === "forNext" ? take(0) : slots.withSuspects(pools, take)
  for (const { limit, pool, ranges } of room) {
    const count = jobs.reduce(
      (n, job) => (ranges.some((range) => range.queue === job.queue && range.type === job.type) ? n + 1 : n),
      0
    )
    pool.mayHaveMore = count >= limit
  }
  return jobs.length
})

/** The claim loop of a worker whose broker is a doorbell. */
export const make = Effect.fnUntraced(function* (
  worker: WorkerContext,
  slots: Slots,
  leases: LeaseKeeper
): Effect.fn.Return<void, BrokerError, Scope.Scope> {
  const ranges = slots.pools.flatMap((pool) => pool.ranges)
  const bell = yield* worker.broker.consumer({
    queues: Array.from(new Set(slots.pools.flatMap((pool) => pool.queues))),
    lease: worker.timings.lease
  })
  /** What a worker waits for is rarely a suspect, and a claim that looks for one takes longer: the first one does not. */
  let waited = false
  yield* worker.supervisor.loop(
    "claim",
    Effect.gen(function* () {
      const isFirst = waited
      waited = false
      const count = yield* claimOnce(worker, slots, leases, slots.pools, isFirst ? "forNext" : undefined)
      if (count === undefined) return yield* slots.roomy.wait
      if (count > 0) return
      const due = yield* worker.store.nextDue(ranges)
      if (due === 0 && isFirst) return
      const wait = due === undefined ? maxIdle : due === 0 ? contended : Math.min(maxIdle, Math.ceil(due))
      waited = yield* Effect.raceFirst(
        Effect.as(bell.receive({ max: 1, wait }), due !== 0),
        Effect.as(slots.roomy.wait, false)
      )
    })
  )
})
