/** What the duties of maintenance share. Durations in ms. */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Broker } from "../Broker.ts"
import type { JobStore } from "../JobStore.ts"
import type { Metrics } from "../Metrics.ts"
import type { Reaped, Retention } from "../store/JobStoreDriver.ts"
import type { WorkerRegistry } from "../WorkerRegistry.ts"

export interface MaintenanceContext {
  readonly store: JobStore["Service"]
  readonly registry: WorkerRegistry["Service"]
  readonly broker: Broker["Service"]
  readonly metrics: Metrics["Service"]
  readonly clock: Clock.Clock
  /** Workers of this process: it never reaps its own attempts, whose renewals it may be holding up itself. */
  readonly ownWorkers: ReadonlyArray<string>
  readonly lease: number
  readonly interruptGrace: number
  readonly sweepEvery: number
  readonly staleAfter: number
  readonly retention: Retention
  /** True while receives of hints come back empty: only then are hints published again. */
  readonly receivesEmpty: () => boolean
}

/** Rows per statement of a sweep. */
export const batch = 500

/**
 * Runs a bounded step until it has nothing left, pausing briefly in between so that a long backlog does not crowd out the
 * work itself.
 */
export const untilDone = <E>(step: Effect.Effect<number, E>): Effect.Effect<void, E> =>
  Effect.flatMap(step, (count) =>
    count < batch ? Effect.void : Effect.andThen(Effect.sleep("10 millis"), untilDone(step))
  )

/** Counts what a sweep moved, and wakes workers for what is due again. */
export const report = (
  { broker, metrics }: MaintenanceContext,
  rows: ReadonlyArray<Reaped>,
  outcome: "crashed" | "timedOut"
): Effect.Effect<void> => {
  if (rows.length === 0) return Effect.void
  if (metrics.enabled) {
    for (const row of rows) {
      metrics.record({ _tag: "Reaped", queue: row.queue, type: row.type, outcome, final: row.status !== "queued" })
    }
  }
  const again = rows.filter((row) => row.status === "queued")
  const log = Effect.logWarning(
    `${outcome === "crashed" ? "lease expired" : "timed out"}: ${rows.length} attempts ended, ${again.length} jobs queued again`,
    rows.slice(0, 10).map((row) => `${row.type} ${row.id} attempt ${row.attempt}: ${row.status}`)
  )
  // Through a broker that carries hints the relay publishes them, in claim order
  if (again.length === 0 || broker.capabilities.carriesHints) return log
  const hints = again.map((row) => ({
    jobId: row.id,
    queue: row.queue,
    priority: 5,
    attempt: row.attempt,
    publication: 1
  }))
  return Effect.andThen(log, Effect.ignore(broker.publish(hints)))
}
