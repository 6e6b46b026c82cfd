/**
 * What people tell a worker through its registry: to drain, to go on, to stop, and how much to run at once. Heard with every
 * heartbeat, so it takes effect within one; the same orders heard again change nothing.
 */
import * as Effect from "effect/Effect"
import type { WorkerOrders } from "../registry/WorkerRegistryDriver.ts"
import type { Pool } from "./Pool.ts"
import type { Slots } from "./Slots.ts"

export interface Orders {
  readonly obey: (orders: WorkerOrders) => Effect.Effect<void>
}

/** The number for a pool: that of its only queue, else that of every pool, else what the code says. */
const wantedOf = (pool: Pool, { concurrency }: WorkerOrders): number => {
  const only = pool.queues.length === 1 ? pool.queues[0] : undefined
  const own = only === undefined ? undefined : concurrency.find(({ queue }) => queue === only)
  return (own ?? concurrency.find(({ queue }) => queue === undefined))?.concurrency ?? pool.configured
}

/** `stop` is run once, in the background, when the worker is told to. */
export const make = (slots: Slots, stop: Effect.Effect<void>): Orders => {
  let told: WorkerOrders["told"]
  const obeyTold = Effect.fnUntraced(function* (order: WorkerOrders["told"]) {
    if (order === told || told === "stop") return
    told = order
    switch (order) {
      case "drain":
        slots.drain()
        return yield* Effect.logInfo("told to drain: claims nothing new")
      case "stop":
        yield* Effect.logInfo("told to stop")
        return yield* Effect.forkDetach(stop)
      case undefined:
        slots.reopen()
        return yield* Effect.logInfo("told to go on: claims again")
    }
  })
  return {
    obey: Effect.fnUntraced(function* (orders) {
      for (const pool of slots.pools) {
        const wanted = wantedOf(pool, orders)
        if (wanted === pool.slots) continue
        yield* Effect.logInfo(`concurrency of ${pool.queues.join(", ")}: ${pool.slots} becomes ${wanted}`)
        slots.resize(pool, wanted)
      }
      yield* obeyTold(orders.told)
    })
  }
}
