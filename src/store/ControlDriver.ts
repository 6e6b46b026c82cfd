/**
 * The part of the job store's contract that people use: finding jobs, acting on many of them at once, pausing, and the
 * log of all that. `JobStoreDriver` extends it. Every action and its audit rows are one transition: both or neither.
 *
 * Times are milliseconds: durations as numbers, instants as epoch milliseconds of the store's own clock.
 */
import type * as Effect from "effect/Effect"
import type { StoreError } from "../JobError.ts"
import type { JobRecord, Status } from "./JobStoreDriver.ts"

/** Which jobs. What is left out does not matter; all that is said must hold. */
export interface JobFilter {
  readonly ids?: ReadonlyArray<string> | undefined
  /** One of these. */
  readonly status?: ReadonlyArray<Status> | undefined
  readonly type?: string | undefined
  readonly queue?: string | undefined
  /** Has this tag, among others. */
  readonly tag?: string | undefined
  /** Is being run by the worker of this id. */
  readonly worker?: string | undefined
  /** Its last error has this code: `error`, `timedOut`, `poison`, … */
  readonly errorCode?: string | undefined
  /** Enqueued at least this long ago. */
  readonly olderThan?: number | undefined
  /** Enqueued less than this long ago. */
  readonly newerThan?: number | undefined
  /** Ended at least this long ago. */
  readonly endedFor?: number | undefined
  /** Running, and has reported no progress (or its start) for at least this long. */
  readonly staleProgress?: number | undefined
  /** Running, and past its timeout, whatever the timeout does. */
  readonly timedOut?: boolean | undefined
  /** Somebody asked for its end, and it still runs (or was cancelled). */
  readonly cancelRequested?: boolean | undefined
}

/** A job in a list: without payload, result, metadata and progress, and of its error only what people read. */
export interface JobSummary extends Omit<
  JobRecord,
  "payload" | "result" | "metadata" | "progress" | "error" | "publishAt" | "fence"
> {
  readonly error: { readonly code: string; /** At most 500 characters. */ readonly message: string } | undefined
}

/** One page of a search. */
export interface FindRequest extends JobFilter {
  /** At most this many, newest id first. */
  readonly limit: number
  /** Continue after this id: the last one of the page before. */
  readonly after?: string | undefined
}

// --- actions on jobs ---

/**
 * `requeue`: an ended job runs again, its budgets start again, counters stay. `fail`: a queued job ends as `failed`; a
 * running one too, its attempt is logged (by `admin`) and its owner has lost it. `cancel`: a queued job ends; a running
 * one is asked to stop. `runNow`: a queued job is due now. `purge`: an ended job is deleted; its attempts stay.
 */
export type JobAction = "requeue" | "fail" | "cancel" | "runNow" | "purge"

/**
 * `done`. `ineligible`: its status does not allow it (requeue a live job, fail an ended one). `keyTaken`: another job holds
 * its unique key. `changed`: it does not match the filter any more. `locked`: somebody holds its row lock right now; nothing
 * was done, try again. `missing`: there is none.
 */
export type ActionOutcome = "done" | "ineligible" | "keyTaken" | "changed" | "locked" | "missing"

/** Who does something, and why: written to the audit log with it. */
export interface By {
  /** A person or a program; at most 255 characters. */
  readonly who: string
  readonly reason?: string | undefined
}

/** One batch of one action. */
export interface ActionRequest {
  readonly action: JobAction
  readonly ids: ReadonlyArray<string>
  /** Checked again when the row is held; one that does not match any more is `changed`. */
  readonly filter?: JobFilter | undefined
  readonly by: By
  /** Says in the audit log which rows belong together. UUID. */
  readonly operation: string
  /** Of what becomes queued: when a hint is due by the relay. As `NewJob.publishIn`. */
  readonly publishIn: number
}

/** What became of one job. */
export interface ActionResult {
  readonly id: string
  readonly outcome: ActionOutcome
  /** Of a job that is queued now: what its hint says. */
  readonly hint: { readonly queue: string; readonly priority: number; readonly attempt: number } | undefined
  /** What the job is now; undefined when it is gone. */
  readonly status: Status | undefined
}

// --- pausing ---

/** What is paused. Without `queue`: in every queue. Without `type`: every type. Neither: everything. */
export interface PauseTarget {
  readonly queue?: string | undefined
  readonly type?: string | undefined
}

/** Something that is paused now. */
export interface Pause extends PauseTarget {
  readonly since: number
  /** Ends by itself then; undefined: somebody must resume it. */
  readonly until: number | undefined
  readonly reason: string | undefined
}

// --- the log ---

/** What was done, to what, by whom. Append-only. */
export interface AuditRecord {
  /** Grows with time; the cursor of a listing. */
  readonly id: number
  readonly at: number
  readonly who: string
  readonly reason: string | undefined
  readonly action: JobAction | "pause" | "resume" | "drainWorker" | "resumeWorker" | "stopWorker" | "setConcurrency"
  /** Rows of one call share it. UUID. */
  readonly operation: string
  readonly kind: "job" | "queue" | "worker"
  /** Id of the job or of the worker, name of the worker (`setConcurrency`), `queue` or `queue/type` of a pause, `*` for all. */
  readonly target: string
  /** JSON; undefined: there was nothing. Never a payload or a result. */
  readonly before: unknown
  /** JSON; undefined: there is nothing any more. */
  readonly after: unknown
}

/** One page of the log. */
export interface AuditRequest {
  readonly target?: string | undefined
  readonly action?: AuditRecord["action"] | undefined
  readonly operation?: string | undefined
  readonly who?: string | undefined
  /** At most this many, newest first. */
  readonly limit: number
  /** Continue after this id. */
  readonly after?: number | undefined
}

// --- why a job does not run ---

/** What the claim sees of one job, by its own predicates, at one moment. */
export interface ClaimView {
  readonly job: JobRecord
  readonly now: number
  /** Queued and not due yet. */
  readonly waiting: boolean
  /** It crashed a worker since the last requeue: a worker takes at most one of these at a time. */
  readonly suspect: boolean
  /** Processing, and its lease has ended: the reaper takes it next. */
  readonly expired: boolean
  /** Pauses that hold it. */
  readonly pauses: ReadonlyArray<Pause>
}

/** What a store does for people. */
export interface ControlDriver {
  /** Jobs that match, newest id first, without payloads. MUST be stable under `after` while jobs come and go. */
  readonly find: (request: FindRequest) => Effect.Effect<ReadonlyArray<JobSummary>, StoreError>
  /** How many jobs match. Reads all of them: for people. */
  readonly count: (filter: JobFilter) => Effect.Effect<number, StoreError>
  /**
   * Acts on jobs, answering in order. MUST write the change and its audit row together; MUST NOT change or log a job that is
   * not eligible or does not match `filter` when held; MUST NOT wait for a row lock; MUST log the attempt that `fail` ends,
   * raise its counter, and make its owner's lease lost. Own transaction, never the caller's.
   */
  readonly act: (request: ActionRequest) => Effect.Effect<ReadonlyArray<ActionResult>, StoreError>
  /**
   * No claim takes a job of this target from now on, until `until` (epoch ms) or `duration` from now, or `resume`. MUST
   * replace an earlier pause of the same target, and write its audit row with it. Running jobs go on.
   */
  readonly pause: (
    request: PauseTarget & {
      readonly until?: number | undefined
      readonly duration?: number | undefined
      readonly by: By
      readonly operation: string
    }
  ) => Effect.Effect<Pause, StoreError>
  /** Ends the pause of exactly this target. Answers false, and logs nothing, when there is none. */
  readonly resume: (
    request: PauseTarget & { readonly by: By; readonly operation: string }
  ) => Effect.Effect<boolean, StoreError>
  /** Everything that is paused now, by queue and type. */
  readonly pauses: Effect.Effect<ReadonlyArray<Pause>, StoreError>
  /** One job as the claim sees it. */
  readonly view: (id: string) => Effect.Effect<ClaimView | undefined, StoreError>
  /** What was done to jobs and queues, newest first. */
  readonly audit: (request: AuditRequest) => Effect.Effect<ReadonlyArray<AuditRecord>, StoreError>
}
