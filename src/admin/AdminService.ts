/** What `Admin` offers, as types. Durations are Effect durations; instants are epoch milliseconds of the store's clock. */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { AdminError, JobNotFound, StoreError } from "../JobError.ts"
import type {
  ActionOutcome,
  AttemptRecord,
  AuditRecord,
  AuditRequest,
  By,
  JobAction,
  JobFilter,
  JobRecord,
  JobSummary,
  Pause,
  PauseTarget,
  QueueStats,
  Status
} from "../store/JobStoreDriver.ts"
import type { WorkerRecord } from "../registry/WorkerRegistryDriver.ts"
import type { Explanation } from "./Explain.ts"

/** Which jobs, in people's units: `JobFilter` with durations. */
export interface Where extends Omit<
  JobFilter,
  "ids" | "status" | "olderThan" | "newerThan" | "endedFor" | "staleProgress"
> {
  readonly status?: Status | ReadonlyArray<Status> | undefined
  /** Enqueued at least this long ago. */
  readonly olderThan?: Duration.Input | undefined
  /** Enqueued less than this long ago. */
  readonly newerThan?: Duration.Input | undefined
  /** Ended at least this long ago. */
  readonly endedFor?: Duration.Input | undefined
  /** Running, without a sign of progress for at least this long. */
  readonly staleProgress?: Duration.Input | undefined
}

/** These jobs, or all that match. An empty `where` means all jobs that the action can be done to. */
export type Selection = { readonly ids: ReadonlyArray<string> } | { readonly where: Where }

/** How far a bulk action is. */
export interface ActionProgress {
  /** Jobs looked at so far. */
  readonly seen: number
  /** Jobs changed so far. */
  readonly done: number
}

/** Who does it and why, and how. */
export interface ActionOptions extends By {
  /** Called after each batch of at most `batchSize` jobs. */
  readonly onProgress?: ((progress: ActionProgress) => Effect.Effect<void>) | undefined
  /** Jobs per statement, 1 to 1,000. Default 500. */
  readonly batchSize?: number | undefined
  /** Stop after this many changed jobs. Default: no limit. */
  readonly limit?: number | undefined
}

/** What an action would do. */
export interface Preview {
  readonly action: JobAction
  /** Jobs it would change, as things are. */
  readonly count: number
  /** The first of them, newest first: at most 10. */
  readonly sample: ReadonlyArray<JobSummary>
  /** Of `ids`: the ones it could not change, with what they are. */
  readonly rest: ReadonlyArray<{ readonly id: string; readonly outcome: "ineligible" | "missing" }>
}

/** What an action did. */
export interface ActionReport {
  readonly action: JobAction
  /** Groups its rows in the audit log. */
  readonly operation: string
  /** Jobs changed. */
  readonly done: number
  /** How many per outcome, `done` among them. */
  readonly outcomes: Readonly<Partial<Record<ActionOutcome, number>>>
  /** What was not done: at most 1,000 of them. */
  readonly rest: ReadonlyArray<{ readonly id: string; readonly outcome: Exclude<ActionOutcome, "done"> }>
}

/** How long a pause lasts: until an instant, for a duration, or (neither) until somebody resumes it. */
export interface PauseOptions extends By {
  readonly until?: DateTime.DateTime.Input | undefined
  readonly duration?: Duration.Input | undefined
}

/** A queue as people see it. */
export interface QueueRecord extends QueueStats {
  /** The pauses that hold jobs of this queue: of the queue, of a type in it, of a type everywhere, of everything. */
  readonly pauses: ReadonlyArray<Pause>
  /** The whole queue is paused now. */
  readonly paused: boolean
  /** Live workers that work on it, and the slots of those that are not draining. */
  readonly workers: number
  readonly slots: number
}

/** A page of jobs. */
export interface JobPage {
  readonly jobs: ReadonlyArray<JobSummary>
  /** Hand it to the next call as `after`; undefined when this was the last page. */
  readonly next: string | undefined
}

/** A page of the audit log. */
export interface AuditPage {
  readonly records: ReadonlyArray<AuditRecord>
  readonly next: number | undefined
}

/** An action on jobs, by ids or in bulk: one statement per batch, each with its audit rows. */
export type Act = (selection: Selection, options: ActionOptions) => Effect.Effect<ActionReport, AdminError | StoreError>

/** The control plane. */
export interface AdminService {
  /** Ended jobs run again: due now, published, budgets restored, counters kept. */
  readonly requeue: Act
  /** Live jobs end as `failed` at once (`JobStopped` with reason `failedByAdmin`). A running handler is interrupted at its next renewal. */
  readonly fail: Act
  /** Queued jobs end as `cancelled` at once; running ones are asked, and end when their handler has stopped. */
  readonly cancel: Act
  /** Queued jobs are due now, and published. A pause still holds them. */
  readonly runNow: Act
  /** Ended jobs are deleted. Their attempts and audit rows stay. */
  readonly purge: Act
  /** The dry run of any of them: changes and logs nothing. */
  readonly preview: (action: JobAction, selection: Selection) => Effect.Effect<Preview, AdminError | StoreError>

  /** Claims nothing of this queue any more. Running jobs go on. Replaces an earlier pause of the queue. */
  readonly pauseQueue: (queue: string, options: PauseOptions) => Effect.Effect<Pause, AdminError | StoreError>
  /** Ends that pause; false when there was none. */
  readonly resumeQueue: (queue: string, by: By) => Effect.Effect<boolean, AdminError | StoreError>
  /** The same for a job type, in one queue or (without `queue`) in all. */
  readonly pauseType: (
    type: string,
    options: PauseOptions & { readonly queue?: string | undefined }
  ) => Effect.Effect<Pause, AdminError | StoreError>
  readonly resumeType: (
    type: string,
    by: By & { readonly queue?: string | undefined }
  ) => Effect.Effect<boolean, AdminError | StoreError>
  /** The same for everything there is, in one row. */
  readonly pauseAll: (options: PauseOptions) => Effect.Effect<Pause, AdminError | StoreError>
  readonly resumeAll: (by: By) => Effect.Effect<boolean, AdminError | StoreError>
  /** Everything that is paused now. */
  readonly pauses: Effect.Effect<ReadonlyArray<Pause & PauseTarget>, StoreError>

  /**
   * The worker claims nothing new, gives back what has not started, and lets running jobs finish, however long they take.
   * Heard at its next heartbeat (15 s by default). `AdminError` with reason `NotFound` or `NotRunning`.
   */
  readonly drainWorker: (id: string, by: By) => Effect.Effect<WorkerRecord, AdminError | StoreError>
  /** Takes a drain back, as long as the worker has not stopped. */
  readonly resumeWorker: (id: string, by: By) => Effect.Effect<WorkerRecord, AdminError | StoreError>
  /** As when its process shuts down: drains, interrupts after its grace, gives back, says goodbye. Cannot be taken back. */
  readonly stopWorker: (id: string, by: By) => Effect.Effect<WorkerRecord, AdminError | StoreError>
  /**
   * Jobs run at once by the workers of this name, 0 to 10,000: of every pool (`Worker.Options.concurrency`), or of the one
   * that works on just this `queue`. Applied live at their next heartbeat, and by every worker of this name that starts later.
   * `undefined` takes it back: the code's own number again. Answers the live workers that will hear of it.
   */
  readonly setConcurrency: (
    name: string,
    concurrency: number | undefined,
    by: By & { readonly queue?: string | undefined }
  ) => Effect.Effect<ReadonlyArray<WorkerRecord>, AdminError | StoreError>

  /** Workers, newest start first; those that stopped or died stay listed for a day. */
  readonly workers: Effect.Effect<ReadonlyArray<WorkerRecord>, StoreError>
  /** Queues that have jobs, workers or a pause, by name. */
  readonly queues: Effect.Effect<ReadonlyArray<QueueRecord>, StoreError>
  /** A page of jobs, newest first. `limit` 1 to 1,000, default 50. */
  readonly jobs: (
    where?: Where & { readonly limit?: number | undefined; readonly after?: string | undefined }
  ) => Effect.Effect<JobPage, AdminError | StoreError>
  /** One job with payload and result. */
  readonly job: (id: string) => Effect.Effect<JobRecord, JobNotFound | StoreError>
  /** Its ended attempts, oldest first; they outlive it. */
  readonly attempts: (id: string) => Effect.Effect<ReadonlyArray<AttemptRecord>, StoreError>
  /** What was done, newest first. `limit` 1 to 1,000, default 50. */
  readonly audit: (request?: Partial<AuditRequest>) => Effect.Effect<AuditPage, AdminError | StoreError>
  /** Why this job is not running, and when it could: by the predicates of the claim. */
  readonly explain: (id: string) => Effect.Effect<Explanation, JobNotFound | StoreError>
}
