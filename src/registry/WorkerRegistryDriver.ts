/**
 * The contract of a worker registry: who is alive, what they run and can decode. Informational for people and for
 * maintenance; ownership of jobs is the store's alone. Implementations are siblings of this file.
 */
import type * as Effect from "effect/Effect"
import type { StoreError } from "../JobError.ts"

/** `running`, `draining` (claims nothing new), `stopped` (said goodbye), `dead` (stopped beating; may come back). */
export type WorkerStatus = "running" | "draining" | "stopped" | "dead"

/** What a worker says of itself with every beat. */
export interface WorkerInfo {
  /** Random per start: a restarted process is another worker. */
  readonly id: string
  readonly host: string
  readonly pid: number
  readonly name: string
  /** Version of Polyqueue, and of the application where it says so. */
  readonly version: string
  readonly queues: ReadonlyArray<string>
  /** Job types it has handlers for. */
  readonly jobTypes: ReadonlyArray<string>
  readonly slots: number
  /** Ids of the jobs it runs now (at most 100 are reported). */
  readonly running: ReadonlyArray<string>
  readonly runningCount: number
  readonly status: "running" | "draining"
}

export interface WorkerRecord extends Omit<WorkerInfo, "status"> {
  readonly status: WorkerStatus
  readonly startedAt: number
  readonly heartbeatAt: number
}

export interface WorkerRegistryDriver {
  /** Writes this worker's row. MUST bring a worker that was taken for dead back to life. */
  readonly heartbeat: (info: WorkerInfo) => Effect.Effect<void, StoreError>
  /** Says goodbye: `stopped`. */
  readonly stop: (id: string) => Effect.Effect<void, StoreError>
  /** Marks workers dead that have not beaten for `threshold` ms; answers their ids. MUST mark each at most once per death. */
  readonly reapStale: (threshold: number) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Removes rows of workers that stopped or died more than `age` ms ago; answers how many. */
  readonly prune: (age: number) => Effect.Effect<number, StoreError>
  readonly list: Effect.Effect<ReadonlyArray<WorkerRecord>, StoreError>
}
