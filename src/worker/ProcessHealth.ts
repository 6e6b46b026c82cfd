/** How the process of a worker is doing: what it reports of itself besides its jobs. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { memoryUsage } from "node:process"

/** How often the event loop is looked at, in ms: the histogram counts this interval in. */
const resolution = 20

/** One reading. Reading starts the next interval. */
export interface Reading {
  /** Resident memory in bytes. */
  readonly memory: number
  /** How late the event loop was at worst since the last reading, in ms. */
  readonly eventLoopDelay: number
}

/** Starts to watch; stops with the scope. */
export type Watch = Effect.Effect<() => Reading, never, Scope.Scope>

/** Watches this process. Does not keep it alive. */
const watchThisProcess: Watch = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const histogram = monitorEventLoopDelay({ resolution })
      histogram.enable()
      return histogram
    }),
    (histogram) => Effect.sync(() => histogram.disable())
  ),
  (histogram) => {
    let readAt = performance.now()
    return () => {
      const now = performance.now()
      // It counts from one turn of the loop to the next: two looks are due in any longer time, and if there were none, it stood
      const worst = histogram.count === 0 ? now - readAt - resolution : histogram.max / 1e6
      const late = Math.max(0, worst - resolution)
      readAt = now
      histogram.reset()
      return { memory: memoryUsage.rss(), eventLoopDelay: Math.round(late * 10) / 10 }
    }
  }
)

/** How it is watched: a simulated process, of which there are many in one, provides its own way. */
export const ProcessHealth: Context.Reference<Watch> = Context.Reference<Watch>("polyqueue/worker/ProcessHealth", {
  defaultValue: () => watchThisProcess
})

/** Starts to watch, in the way of this process. */
export const make: Watch = Effect.flatMap(ProcessHealth, (watch) => watch)
