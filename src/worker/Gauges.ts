/**
 * What metrics cannot learn from transitions, every few seconds: how busy this worker and its process are, and the counts of
 * the queues that the fleet keeps. Costs nothing when metrics are off.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { ProcessHealth } from "./ProcessHealth.ts"
import type { Slots } from "./Slots.ts"
import type { WorkerContext } from "./WorkerContext.ts"

/** Starts both loops in the scope. */
export const make = Effect.fnUntraced(function* (
  { broker, id, metrics, name, store, supervisor, timings }: WorkerContext,
  slots: Slots
): Effect.fn.Return<void, never, Scope.Scope> {
  if (!metrics.enabled) return
  const readHealth = yield* yield* ProcessHealth
  const observe = () => {
    const { eventLoopDelay, memory } = readHealth()
    metrics.record({
      _tag: "WorkerState",
      name,
      slots: slots.pools.reduce((n, pool) => n + pool.slots, 0),
      running: slots.runningCount(),
      draining: !slots.isOpen(),
      eventLoopDelay,
      memory
    })
  }
  observe()
  yield* supervisor.every("observe", timings.observeEvery, Effect.sync(observe))
  const count = Effect.map(
    store.fleetStats({ worker: id, interval: timings.observeEvery, staleAfter: timings.staleProgressAfter }),
    (stats) => {
      if (stats === undefined) return
      // What producers without a broker leave to a relay waits for ever, and for nothing, where workers need no hints
      const relayLag = broker.capabilities.carriesHints ? stats.relayLag : 0
      metrics.record({ _tag: "Fleet", stats: { ...stats, relayLag } })
    }
  )
  // Who has the duty counts in many statements, and rests in between
  yield* supervisor.every("count-queues", timings.observeEvery, count, 3_600_000)
})
