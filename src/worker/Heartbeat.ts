/** Says every few seconds that this worker is alive and what it runs; says goodbye at the end. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { hostname } from "node:os"
import { pid } from "node:process"
import type { WorkerInfo } from "../registry/WorkerRegistryDriver.ts"
import { version } from "../version.ts"
import type { Slots } from "./Slots.ts"
import type { WorkerContext } from "./WorkerContext.ts"

const maxReported = 100

export interface Heartbeat {
  /** Beats now; from then on as `draining`. */
  readonly drain: Effect.Effect<void>
  /** Says goodbye. */
  readonly stop: Effect.Effect<void>
}

export const make = Effect.fnUntraced(function* (
  worker: WorkerContext,
  slots: Slots
): Effect.fn.Return<Heartbeat, never, Scope.Scope> {
  const { metrics, name, registry, timings } = worker
  let status: WorkerInfo["status"] = "running"
  const count = (event: "started" | "heartbeat" | "stopped") => {
    if (metrics.enabled) metrics.record({ _tag: "Worker", event, name })
  }
  const beat = Effect.suspend(() => {
    const running: Array<string> = []
    for (const held of slots.held.values()) {
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
      slots: slots.pools.reduce((n, pool) => n + pool.slots, 0),
      running,
      runningCount: slots.runningCount(),
      status
    })
  }).pipe(Effect.tap(() => Effect.sync(() => count("heartbeat"))))

  // A registry that does not answer costs information, not the worker
  yield* Effect.ignore(beat, { log: "Warn" })
  count("started")
  yield* worker.supervisor.every("heartbeat", timings.heartbeatEvery, beat)
  return {
    drain: Effect.andThen(
      Effect.sync(() => {
        status = "draining"
      }),
      Effect.ignore(beat)
    ),
    stop: Effect.andThen(
      Effect.sync(() => count("stopped")),
      Effect.ignore(registry.stop(worker.id), { log: "Warn" })
    )
  }
})
