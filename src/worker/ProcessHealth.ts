/** How the process of a worker is doing: what it reports of itself besides its jobs. */
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
  /** How late the event loop was since the last reading, in ms: the 99th percentile. */
  readonly eventLoopDelay: number
}

/** Starts to watch; stops with the scope. Keeps no process alive. */
export const make: Effect.Effect<() => Reading, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const histogram = monitorEventLoopDelay({ resolution })
      histogram.enable()
      return histogram
    }),
    (histogram) => Effect.sync(() => histogram.disable())
  ),
  (histogram) => () => {
    // Nothing was counted when the loop has not turned since the last reading
    const late = histogram.count === 0 ? 0 : Math.max(0, histogram.percentile(99) / 1e6 - resolution)
    histogram.reset()
    return { memory: memoryUsage.rss(), eventLoopDelay: Math.round(late * 10) / 10 }
  }
)
