/**
 * Says every few seconds that this worker is alive, what it runs and how its process is doing, and hears what it is told;
 * says goodbye at the end. Whoever took it for dead finds it alive at its next beat.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { hostname } from "node:os"
import { pid } from "node:process"
import type { StoreError } from "../JobError.ts"
import type { WorkerInfo } from "../registry/WorkerRegistryDriver.ts"
import { version } from "../version.ts"
import type { Orders } from "./Orders.ts"
import * as ProcessHealth from "./ProcessHealth.ts"
import type { Slots } from "./Slots.ts"
import type { WorkerContext } from "./WorkerContext.ts"

const maxReported = 100

export interface Heartbeat {
  /** Beats now, whatever the time. */
  readonly now: Effect.Effect<void>
  /** Says goodbye, and beats no more. */
  readonly stop: Effect.Effect<void>
}

export const make = Effect.fnUntraced(function* (
  worker: WorkerContext,
  slots: Slots,
  orders: Orders
): Effect.fn.Return<Heartbeat, never, Scope.Scope> {
  const { metrics, name, registry, timings } = worker
  const readHealth = yield* ProcessHealth.make
  let stopped = false
  /** What an order can change. */
  const stateNow = () => ({
    status: slots.isOpen() ? ("running" as const) : ("draining" as const),
    slots: slots.pools.reduce((n, pool) => n + pool.slots, 0)
  })
  const count = (event: "started" | "heartbeat" | "stopped") => {
    if (metrics.enabled) metrics.record({ _tag: "Worker", event, name })
  }
  const say = (state: Pick<WorkerInfo, "status" | "slots">) => {
    const running: Array<string> = []
    for (const held of slots.held) {
      if (running.length === maxReported) break
      if (held.phase === "running") running.push(held.job.id)
    }
    return registry.heartbeat({
      id: worker.id,
      host: hostname(),
      pid,
      name,
      version,
      queues: Array.from(new Set(slots.pools.flatMap((pool) => pool.queues))),
      jobTypes: Array.from(worker.handlers.keys()),
      running,
      runningCount: slots.runningCount(),
      ...state,
      ...readHealth()
    })
  }
  const beat: Effect.Effect<void, StoreError> = Effect.gen(function* () {
    if (stopped) return
    const state = stateNow()
    const heard = yield* say(state)
    count("heartbeat")
    yield* orders.obey(heard)
    // What it was told shows at once
    const after = stateNow()
    if (after.slots !== state.slots || after.status !== state.status) yield* beat
  })

  // A registry that does not answer costs information, not the worker
  yield* Effect.ignore(beat, { log: "Warn" })
  count("started")
  yield* worker.supervisor.every("heartbeat", timings.heartbeatEvery, beat)
  return {
    now: Effect.ignore(beat),
    stop: Effect.andThen(
      Effect.sync(() => {
        stopped = true
        count("stopped")
      }),
      Effect.ignore(registry.stop(worker.id), { log: "Warn" })
    )
  }
})
