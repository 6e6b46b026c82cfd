/**
 * The contract of a worker registry: who is alive, what they run and can decode, and what they are told to do.
 * Informational for people and for maintenance; ownership of jobs is the store's alone. Implementations are siblings of
 * this file.
 */
import type * as Effect from "effect/Effect"
import type { StoreError } from "../JobError.ts"
import type { AuditRecord, AuditRequest, By } from "../store/JobStoreDriver.ts"

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
  /** Resident memory of its process, in bytes. */
  readonly memory: number
  /** How late its event loop was at worst since the last beat, in ms: what blocks it holds up every job and lease. */
  readonly eventLoopDelay: number
}

/** What a worker may be told: claim nothing new, or stop as if its process shut down. */
export type WorkerOrder = "drain" | "stop"

/** What a worker is told with every beat. */
export interface WorkerOrders {
  readonly told: WorkerOrder | undefined
  /** Jobs run at once, for workers of its name: per queue; the one without a queue is for every pool. */
  readonly concurrency: ReadonlyArray<{ readonly queue: string | undefined; readonly concurrency: number }>
}

/** A number that people have set, by the name of the workers. */
export interface ConcurrencySetting {
  readonly name: string
  readonly queue: string | undefined
  readonly concurrency: number
}

export interface WorkerRecord extends Omit<WorkerInfo, "status"> {
  readonly status: WorkerStatus
  /** What it was told, whether it has heard it or not. */
  readonly told: WorkerOrder | undefined
  readonly startedAt: number
  readonly heartbeatAt: number
}

export interface WorkerRegistryDriver {
  /** Writes this worker's row, and answers what it is told. MUST bring a worker that was taken for dead back to life. */
  readonly heartbeat: (info: WorkerInfo) => Effect.Effect<WorkerOrders, StoreError>
  /** Says goodbye: `stopped`. */
  readonly stop: (id: string) => Effect.Effect<void, StoreError>
  /** Marks workers dead that have not beaten for `threshold` ms; answers their ids. MUST mark each at most once per death. */
  readonly reapStale: (threshold: number) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Removes rows of workers that stopped or died more than `age` ms ago; answers how many. */
  readonly prune: (age: number) => Effect.Effect<number, StoreError>
  readonly list: Effect.Effect<ReadonlyArray<WorkerRecord>, StoreError>
  /**
   * Tells a live worker something, or (undefined) takes a drain back; it hears it with its next beat. Answers the worker as
   * it was found, or undefined; MUST tell and log nothing when it has stopped or died, or was told to stop. MUST write its
   * audit row with it.
   */
  readonly tell: (request: {
    readonly id: string
    readonly order: WorkerOrder | undefined
    readonly by: By
    readonly operation: string
  }) => Effect.Effect<Pick<WorkerRecord, "status" | "told"> | undefined, StoreError>
  /**
   * Sets how many jobs the workers of a name run at once, of one queue or (undefined) of every pool; undefined takes it
   * back. MUST outlive the workers; MUST write its audit row with it.
   */
  readonly setConcurrency: (request: {
    readonly name: string
    readonly queue: string | undefined
    readonly concurrency: number | undefined
    readonly by: By
    readonly operation: string
  }) => Effect.Effect<void, StoreError>
  /** Everything set by `setConcurrency`, by name and queue. */
  readonly concurrency: Effect.Effect<ReadonlyArray<ConcurrencySetting>, StoreError>
  /** What was done to workers, newest first. */
  readonly audit: (request: AuditRequest) => Effect.Effect<ReadonlyArray<AuditRecord>, StoreError>
}
