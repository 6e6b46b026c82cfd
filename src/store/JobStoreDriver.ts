/**
 * The contract of a job store: plain encoded data, few operations, obligations as sentences with MUST (each has a test
 * of the same words in the conformance suite, `polyqueue/testing`). Implementations are siblings of this file.
 *
 * Times are milliseconds: durations as numbers, instants as epoch milliseconds of the store's own clock.
 */
import type * as Effect from "effect/Effect"
import type { StopReason, StoreError } from "../JobError.ts"
import type { Announcer } from "./Announcer.ts"
import type { ControlDriver } from "./ControlDriver.ts"
import type { FleetDriver } from "./FleetDriver.ts"

export type * from "./ControlDriver.ts"
export type * from "./FleetDriver.ts"

// --- models ---

/** Where a job is. Waiting is `queued` with a `runAt` in the future; there is no other state for it. */
export type Status = "queued" | "processing" | "succeeded" | "failed" | "cancelled"

/** What a timeout does: another attempt, the end of the job, or only a record. */
export type TimeoutThen = "retry" | "fail" | "ignore"

/** A job as it is enqueued. All JSON is text, encoded by the caller. */
export interface NewJob {
  /** UUID made by the client before the first try. */
  readonly id: string
  /** True when this process just made the id: the log need not be asked for earlier attempts of it. */
  readonly freshId: boolean
  readonly type: string
  readonly queue: string
  /** 0 runs first … 9 last. */
  readonly priority: number
  /** Not before this long from the store's now. Ignored when `runAt` is set. */
  readonly delay: number
  /** Not before this instant. */
  readonly runAt: number | undefined
  /** JSON text. */
  readonly payload: string
  readonly maxAttempts: number
  readonly maxCrashes: number
  readonly maxSnoozes: number
  /** For maintenance, which has no Schedule: delay before attempt 2, 3, …; the last one repeats. */
  readonly retryDelays: ReadonlyArray<number>
  readonly timeout: number | undefined
  readonly timeoutThen: TimeoutThen
  /** Unique per type while in scope. */
  readonly key: string | undefined
  /** `retained`: until retention removes the row. `live`: until the job ends. */
  readonly keyScope: "retained" | "live"
  readonly tags: ReadonlyArray<string>
  /** JSON text of a flat object of strings: W3C trace context. */
  readonly metadata: string | undefined
  /** True when hints are published for it: every move to `queued` then makes a hint due. */
  readonly hinted: boolean
  /**
   * When a hint is due by the relay, after `runAt`. A producer that publishes itself says a few seconds here, and its own
   * publication then counts as the first.
   */
  readonly publishIn: number
}

/**
 * What became of one enqueued job. `IdConflict`: the id is taken by a job of another type or payload. `announced`: the
 * announcer's notification went out with its commit.
 */
export type EnqueueOutcome =
  | { readonly _tag: "Inserted"; readonly announced?: true }
  | { readonly _tag: "Duplicate"; readonly id: string }
  | { readonly _tag: "IdConflict" }
  | { readonly _tag: "Refused"; readonly error: StoreError }

/** Proof of ownership: every write of an owner carries it. */
export interface Lease {
  readonly id: string
  readonly attempt: number
  /** UUID of the claim call that took it. */
  readonly claim: string
}

/** A pool of slots: these job types of these queues share `limit` free slots. */
export interface ClaimPool {
  readonly ranges: ReadonlyArray<{ readonly queue: string; readonly type: string }>
  readonly limit: number
}

export interface ClaimRequest {
  /** Fresh UUID: the claim is named before it is made. */
  readonly claim: string
  readonly worker: string
  readonly lease: number
  readonly pools: ReadonlyArray<ClaimPool>
  /** How many jobs that crashed a worker before may be among them: 0 or 1. They do not count against `limit`s of 0. */
  readonly suspects: number
}

export interface HintClaimRequest extends Omit<ClaimRequest, "pools"> {
  readonly ids: ReadonlyArray<string>
  readonly types: ReadonlyArray<string>
}

/** A job this worker now owns, for one attempt. */
export interface ClaimedJob extends Lease {
  readonly type: string
  readonly queue: string
  readonly priority: number
  /** Grows with every claim of this job, below 2^53. */
  readonly fence: number
  /** Decoded JSON (not yet decoded by the job's schema). */
  readonly payload: unknown
  /** Failures since the last requeue: what the retry schedule is replayed to. */
  readonly failures: number
  readonly snoozes: number
  readonly maxAttempts: number
  readonly maxSnoozes: number
  /** It crashed a worker since the last requeue: runs alone of its kind. */
  readonly suspect: boolean
  readonly timeout: number | undefined
  readonly timeoutThen: TimeoutThen
  readonly enqueuedAt: number
  readonly runAt: number
  readonly metadata: Readonly<Record<string, string>> | undefined
  /** `trace` of the last error: the attempt that this one follows. */
  readonly failedTrace: string | undefined
}

/**
 * What a hinted id turned out to be when it was not claimed (design rule 6).
 *
 * `terminal`, `missing`: nothing to do, ever. `waiting`: not due. `paused`: its queue or type is paused. `leased`:
 * somebody else owns it. `expired`: its owner's lease has ended and nobody has reaped it. `locked`: somebody holds its
 * row lock right now. `unhandled`: a type not asked for. `suspect`: claimable, but this worker may not take a suspect now.
 */
export type Disposition =
  | "terminal"
  | "missing"
  | "waiting"
  | "paused"
  | "leased"
  | "expired"
  | "locked"
  | "unhandled"
  | "suspect"

export interface HintClaims {
  readonly claimed: ReadonlyArray<ClaimedJob>
  readonly rest: ReadonlyArray<{ readonly id: string; readonly disposition: Disposition; readonly attempt: number }>
}

/** An error as it is stored with a job and with an attempt. JSON-safe. */
export interface StoredError {
  readonly code: "error" | "retryAfter" | "crashed" | StopReason
  readonly message: string
  /** The job's own error in encoded form (`code` `error`). JSON text. */
  readonly value?: string | undefined
  /** Rendered cause: stack and causes. */
  readonly stack?: string | undefined
  /** W3C `traceparent` of the attempt's span, when it was traced. */
  readonly trace?: string | undefined
}

/** The end of an attempt, as its owner reports it. */
export type Settlement = Lease &
  (
    | { readonly _tag: "Succeeded"; /** JSON text; undefined is JSON null. */ readonly result: string | undefined }
    | {
        readonly _tag: "Failed"
        readonly error: StoredError
        /** Delay before the next attempt, or undefined to give up. */
        readonly retryIn: number | undefined
      }
    | { readonly _tag: "Snoozed"; readonly delay: number }
    /** Given back because this worker asked the fiber to stop (or never started it): costs nothing. */
    | { readonly _tag: "Released" }
    /** Ended because cancel was requested. */
    | { readonly _tag: "Cancelled" }
  )

/** What an attempt that ends so is called in the log. */
export const outcomeOf = (settlement: Settlement): AttemptOutcome => {
  switch (settlement._tag) {
    case "Succeeded":
      return "succeeded"
    case "Failed":
      return settlement.error.code === "timedOut" ? "timedOut" : "failed"
    case "Snoozed":
      return "snoozed"
    case "Released":
      return "released"
    case "Cancelled":
      return "cancelled"
  }
}

/**
 * `Settled`: written now; `status` is what the job became (a requested cancel turns a retry into `cancelled`).
 * `AlreadyMine`: an earlier try of this very settle was written, only its reply was lost. `LeaseLost`: this attempt is
 * not the owner any more; nothing was written. `Locked`: somebody holds the row lock; try again alone. `Refused`: the
 * store cannot hold this data; nothing was written.
 */
export type SettleOutcome =
  | { readonly _tag: "Settled"; readonly status: Status }
  | { readonly _tag: "AlreadyMine" }
  | { readonly _tag: "LeaseLost" }
  | { readonly _tag: "Locked" }
  | { readonly _tag: "Refused"; readonly error: StoreError }

export interface Renewal {
  /** Not owned any more: stop the handler. */
  readonly lost: ReadonlyArray<Lease>
  /** Row lock held by somebody: not renewed this time, still owned. */
  readonly locked: ReadonlyArray<Lease>
  /** Cancel was requested: interrupt the handler. */
  readonly cancelled: ReadonlyArray<Lease>
}

/** How an attempt ended, in the log. */
export type AttemptOutcome = "succeeded" | "failed" | "timedOut" | "snoozed" | "released" | "cancelled" | "crashed"

/** One ended attempt. Append-only. */
export interface AttemptRecord {
  readonly jobId: string
  readonly attempt: number
  readonly claim: string
  readonly worker: string
  readonly outcome: AttemptOutcome
  readonly finalizedBy: "worker" | "reaper" | "admin"
  readonly claimedAt: number
  readonly endedAt: number
  readonly error: StoredError | undefined
}

/** A job as it stands. Payload and result are decoded JSON, not yet decoded by the job's schemas. */
export interface JobRecord {
  readonly id: string
  readonly type: string
  readonly queue: string
  readonly status: Status
  readonly priority: number
  readonly runAt: number
  readonly attempt: number
  readonly failures: number
  readonly crashes: number
  readonly interruptions: number
  readonly snoozes: number
  readonly maxAttempts: number
  readonly maxCrashes: number
  readonly payload: unknown
  readonly result: unknown
  readonly error: StoredError | undefined
  readonly key: string | undefined
  readonly tags: ReadonlyArray<string>
  readonly metadata: Readonly<Record<string, string>> | undefined
  readonly timeout: number | undefined
  readonly timeoutThen: TimeoutThen
  readonly timeoutAt: number | undefined
  /** Set once when a job with `then: "ignore"` ran past its timeout. */
  readonly overranAt: number | undefined
  readonly worker: string | undefined
  readonly leaseExpiresAt: number | undefined
  readonly progress: unknown
  readonly progressAt: number | undefined
  readonly cancelRequestedAt: number | undefined
  readonly publishAt: number | undefined
  readonly fence: number
  readonly enqueuedAt: number
  readonly startedAt: number | undefined
  readonly finishedAt: number | undefined
}

/** A job that maintenance moved, for metrics and logs. */
export interface Reaped {
  readonly id: string
  readonly type: string
  readonly queue: string
  readonly attempt: number
  readonly status: Status
}

/** A hint that is due to be published. */
export interface DueHint {
  readonly id: string
  readonly queue: string
  readonly type: string
  readonly priority: number
  readonly attempt: number
  /** How often this row was published since it became queued: 1 for the first time. */
  readonly publication: number
}

/** How long ended jobs are kept, per outcome; `undefined` keeps them for ever. */
export interface Retention {
  readonly succeeded: number | undefined
  readonly failed: number | undefined
  readonly cancelled: number | undefined
  readonly attempts: number | undefined
}

export interface ListFilter {
  readonly status?: Status | undefined
  readonly type?: string | undefined
  readonly queue?: string | undefined
  /** At most this many, newest id first. */
  readonly limit: number
  /** Continue after this id. */
  readonly after?: string | undefined
}

/** What `cancel` did. */
export type CancelOutcome = "cancelled" | "requested" | "ended" | "missing"

/** What `requeue` did. `keyTaken`: another live job holds its unique key. */
export type RequeueOutcome = "requeued" | "live" | "keyTaken" | "missing"

/** Jobs per queue and status, with the age of the oldest due one. */
export interface QueueStats {
  readonly queue: string
  readonly queued: number
  readonly waiting: number
  readonly processing: number
  readonly succeeded: number
  readonly failed: number
  readonly cancelled: number
  /** Milliseconds the oldest due job has waited. */
  readonly oldestAge: number | undefined
}

// --- the driver contract ---

/** What an implementation of the store fills. Every operation is one atomic transition per job. */
export interface JobStoreDriver extends ControlDriver, FleetDriver {
  /** True when the calling fiber is inside an open transaction of the store's database. */
  readonly inTransaction: Effect.Effect<boolean>
  /** Runs `effect` once the caller's outermost transaction has committed (at once when there is none). MUST drop it on rollback. */
  readonly afterCommit: (effect: Effect.Effect<void>) => Effect.Effect<void>

  /**
   * Inserts jobs: in the caller's transaction if there is one, all or none of the *valid* ones. Answers in order.
   * MUST be idempotent per id; MUST refuse an id taken by another type or payload (compared as JSON); a unique key in
   * scope MUST answer with the job that holds it, only if that job is committed or of the same transaction.
   * MUST NOT lock an existing job row. MUST start `attempt` above the highest logged attempt of that id unless `freshId`.
   * MAY let `announcer` have its say within the statement, but never in the caller's transaction; MUST NOT fail for that.
   */
  readonly enqueue: (
    jobs: ReadonlyArray<NewJob>,
    announcer?: Announcer
  ) => Effect.Effect<ReadonlyArray<EnqueueOutcome>, StoreError>
  /**
   * Takes due jobs in claim order (priority, then the oldest `runAt`, then id; between types of one priority the type
   * with the oldest head first), skipping locked ones. MUST take only `queued` due jobs of the asked ranges, MUST never
   * give one job to two claims, MUST count the attempt and raise the fence, MUST compute the lease after the row is held.
   */
  readonly claim: (request: ClaimRequest) => Effect.Effect<ReadonlyArray<ClaimedJob>, StoreError>
  /** Claims named ids (hints). Answers for every id: claimed, or what it is. Same obligations as `claim`. */
  readonly claimHinted: (request: HintClaimRequest) => Effect.Effect<HintClaims, StoreError>
  /** Milliseconds until the earliest `runAt` in these ranges; 0 if one is due; undefined if there is none. */
  readonly nextDue: (ranges: ClaimPool["ranges"]) => Effect.Effect<number | undefined, StoreError>
  /**
   * Ends attempts. Answers in order. MUST write only while the job is `processing` under that (attempt, claim); MUST write
   * job and attempts log together; MUST let a requested cancel win over anything but success; MUST NOT wait for a row
   * lock longer than a few milliseconds, and say which are `Locked`; MUST fail the whole call with reason `Refused` and
   * write nothing when the data of any row cannot be stored.
   */
  readonly settle: (
    worker: string,
    settlements: ReadonlyArray<Settlement>
  ) => Effect.Effect<ReadonlyArray<SettleOutcome>, StoreError>
  /** Extends leases to now + `lease`. MUST NOT wait for a row lock. Records an overrun of `ignore` timeouts once. */
  readonly renew: (leases: ReadonlyArray<Lease>, lease: number) => Effect.Effect<Renewal, StoreError>
  /** Stores explicit progress (JSON text; undefined: only the time). Stale leases are ignored. MUST NOT wait for a row lock. */
  readonly progress: (
    reports: ReadonlyArray<Lease & { readonly progress: string | undefined }>
  ) => Effect.Effect<void, StoreError>
  /** Gives back every job held under these claims (their call's outcome was unknown). Answers how many. */
  readonly abandon: (worker: string, claims: ReadonlyArray<string>) => Effect.Effect<number, StoreError>

  readonly get: (ids: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<JobRecord>, StoreError>
  /** Which of these ids have ended or do not exist. Cheap: asked repeatedly by waiters. */
  readonly ended: (ids: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>, StoreError>
  readonly attempts: (id: string) => Effect.Effect<ReadonlyArray<AttemptRecord>, StoreError>
  readonly list: (filter: ListFilter) => Effect.Effect<ReadonlyArray<JobRecord>, StoreError>
  readonly stats: Effect.Effect<ReadonlyArray<QueueStats>, StoreError>
  /** Queued: ends at once. Processing: a request, which the owner's next renewal sees. Own transaction, never the caller's. */
  readonly cancel: (ids: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<CancelOutcome>, StoreError>
  /** Ended jobs run again: counters stay, the budget and the replay start again here. Own transaction. */
  readonly requeue: (id: string) => Effect.Effect<RequeueOutcome, StoreError>

  // maintenance: right with any number of copies running at once, bounded by `limit`
  /**
   * Ends attempts whose lease has expired: `crashes` + 1, then `cancelled` (requested), `failed` (poison) or `queued` with
   * crash back-off (none the first time). The only code that does so. Skips rows of `exceptWorkers`. With `ids`, only those.
   */
  readonly reap: (options: {
    readonly limit: number
    readonly exceptWorkers: ReadonlyArray<string>
    readonly ids?: ReadonlyArray<string> | undefined
  }) => Effect.Effect<ReadonlyArray<Reaped>, StoreError>
  /** Ends attempts past their timeout by `grace` (strategies `retry` and `fail` only), lease or not. */
  readonly reapTimeouts: (options: {
    readonly limit: number
    readonly grace: number
  }) => Effect.Effect<ReadonlyArray<Reaped>, StoreError>
  /**
   * Hints due now, in claim order. MUST move their `publishAt` forward (10 s, doubling to 10 min) before answering, so
   * that any number of relays publish a row once per period. `again: false` takes first publications only.
   */
  readonly takeHints: (options: {
    readonly limit: number
    readonly again: boolean
  }) => Effect.Effect<ReadonlyArray<DueHint>, StoreError>
  /** Deletes ended jobs and old attempts past retention, at most `limit` of each. Answers how many rows went. */
  readonly prune: (retention: Retention, limit: number) => Effect.Effect<number, StoreError>
}
