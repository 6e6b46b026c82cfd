/**
 * How the workers of this process are doing. Every worker registers itself here when it starts, and is gone from here when it
 * has stopped; whoever asks gets a report. `polyqueue/health` serves it over HTTP.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/** One background loop. */
export interface LoopHealth {
  readonly name: string
  /** Milliseconds since it last ended a round well. */
  readonly ago: number
  /** Milliseconds it may take when all is well; absent for loops that wait for events. */
  readonly limit?: number
  /** It is over its limit, or has failed for longer than 10 s. */
  readonly late: boolean
  /** It has not even failed for five times its limit: something does not come back. */
  readonly stuck: boolean
}

/** One worker. */
export interface WorkerReport {
  readonly name: string
  readonly state: "running" | "draining"
  readonly running: number
  readonly slots: number
  readonly loops: ReadonlyArray<LoopHealth>
  /** Why it is not ready, as sentences; empty when it is. */
  readonly problems: ReadonlyArray<string>
}

/** All workers of this process. */
export interface HealthReport {
  /** No loop is stuck: false is a reason to restart the process. */
  readonly live: boolean
  /** Every worker claims, or has nothing to claim: false is a reason to look, not to restart. */
  readonly ready: boolean
  /** Why it is not ready, as sentences. */
  readonly problems: ReadonlyArray<string>
  readonly workers: ReadonlyArray<WorkerReport>
}

/** What a worker registers. */
export interface Probe {
  readonly name: string
  /** Asks nobody. */
  readonly loops: () => ReadonlyArray<LoopHealth>
  /** May ask the store; never fails, and answers within a few seconds. */
  readonly report: Effect.Effect<WorkerReport>
}

/** Where workers register. */
export interface Registry {
  /** Adds a worker; answers how to remove it. */
  readonly add: (probe: Probe) => () => void
  /** Asks all workers. Never fails; answers within a few seconds. */
  readonly report: Effect.Effect<HealthReport>
  /** Only what liveness needs: asks no database, so that one that is away is no reason to restart. */
  readonly alive: Effect.Effect<Pick<HealthReport, "live" | "problems">>
}

const noWorker = "no worker runs in this process: it has not started yet, or it has stopped"

/** A registry of its own, for tests and for processes that keep several applications apart. */
export const make = (): Registry => {
  const probes = new Set<Probe>()
  return {
    add: (probe) => {
      probes.add(probe)
      return () => void probes.delete(probe)
    },
    report: Effect.map(
      Effect.suspend(() => Effect.forEach(probes, (probe) => probe.report, { concurrency: "unbounded" })),
      (workers): HealthReport => {
        const problems =
          workers.length === 0
            ? [noWorker]
            : workers.flatMap(({ name, problems }) => problems.map((one) => `${name}: ${one}`))
        const live = workers.every(({ loops }) => loops.every(({ stuck }) => !stuck))
        return { live, ready: problems.length === 0, problems, workers }
      }
    ),
    alive: Effect.sync(() => {
      const problems = Array.from(probes).flatMap(({ loops, name }) =>
        loops().flatMap((loop) =>
          loop.stuck ? [`${name}: the loop ${loop.name} has not come back for ${loop.ago} ms`] : []
        )
      )
      return { live: problems.length === 0, problems }
    })
  }
}

/** The registry in force. Default: one for this process. */
export const WorkerHealth: Context.Reference<Registry> = Context.Reference<Registry>("polyqueue/WorkerHealth", {
  defaultValue: make
})
