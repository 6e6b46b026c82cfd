/**
 * Every error of Polyqueue, typed: what a handler may answer with (verdicts), what a producer may meet
 * (`EnqueueError`), what a waiter may read (`JobStopped`, `JobNotFound`), and what the outside world may do to us
 * (`StoreError`, `BrokerError`). All of them carry a `message` that says what happened and what to do.
 */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

// --- verdicts: what a handler may fail with besides its own errors ---

/**
 * Ends the job as `failed` at once, whatever its retry policy says. Waiters get `JobStopped` with reason `terminal`.
 */
export class TerminalError extends Data.TaggedError("TerminalError")<{
  /** Shown to whoever waits for the job, and stored with it. */
  readonly message: string
  readonly cause?: unknown
}> {}

/**
 * Counts as a failure, but names its own delay: the next attempt never starts earlier than `delay` from now. The
 * attempt limit still applies.
 */
export class RetryAfter extends Data.TaggedError("RetryAfter")<{
  readonly delay: Duration.Input
  readonly cause?: unknown
}> {
  override readonly message: string = "the handler asked for another attempt later"
}

/**
 * Runs the job again after `delay` (at least one second) without counting a failure: "not yet". Bounded: after 1,000
 * snoozes the job ends as `failed` with reason `snoozedTooOften`.
 */
export class Snooze extends Data.TaggedError("Snooze")<{ readonly delay: Duration.Input }> {
  override readonly message: string = "the handler asked to be run later"
}

/** What a handler may fail with besides its own errors: it decides what happens to the job. */
export type Verdict = TerminalError | RetryAfter | Snooze

// --- producers and waiters ---

/** Why an enqueue was refused. */
export const EnqueueReason = Schema.Literals([
  "InvalidPayload",
  "PayloadTooLarge",
  "InvalidOptions",
  "IdConflict",
  "StoreUnavailable"
])
export type EnqueueReason = typeof EnqueueReason.Type

/**
 * The job was not enqueued, or (`StoreUnavailable`) its outcome is unknown. It carries the `id` made before the first
 * try: enqueueing again with `{ id }` is idempotent.
 */
export class EnqueueError extends Schema.TaggedError<EnqueueError>("polyqueue/EnqueueError")("EnqueueError", {
  id: Schema.String,
  reason: EnqueueReason,
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {}

/** Why a job ended without a result and without one of its own errors. */
export const StopReason = Schema.Literals([
  "terminal",
  "cancelled",
  "timedOut",
  "defect",
  "poison",
  "undecodable",
  "resultInvalid",
  "failedByAdmin",
  "snoozedTooOften"
])
export type StopReason = typeof StopReason.Type

/** The job ended, for good, for a reason that is not one of its own errors. */
export class JobStopped extends Schema.TaggedError<JobStopped>("polyqueue/JobStopped")("JobStopped", {
  id: Schema.String,
  reason: StopReason,
  message: Schema.String
}) {}

/** There is no job with this id: it never existed, is not committed yet, or retention removed it. */
export class JobNotFound extends Schema.TaggedError<JobNotFound>("polyqueue/JobNotFound")("JobNotFound", {
  id: Schema.String
}) {
  override get message() {
    return `no job with id ${this.id}: it never existed, is not committed yet, or retention removed it`
  }
}

// --- the outside world ---

/**
 * What went wrong between us and the store.
 *
 * - `Unavailable`: cannot connect, connection lost, server shutting down. The outcome of a write is unknown.
 * - `Timeout`: a statement or lock timeout. `Conflict`: serialization failure or deadlock: retry the transaction.
 * - `Refused`: the data cannot be stored. `Denied`: authentication or privileges.
 * - `NotMigrated`: tables missing or older than this version. `Foreign`: tables of that name which are not ours.
 * - `InsideTransaction`: waiting, cancelling or requeueing inside an open transaction would never end.
 * - `Undecodable`: a stored result does not fit the job's schema. `Unsupported`: not possible here. `Unexpected`: a bug.
 */
export const StoreReason = Schema.Literals([
  "Unavailable",
  "Timeout",
  "Conflict",
  "Refused",
  "Denied",
  "NotMigrated",
  "Foreign",
  "InsideTransaction",
  "Undecodable",
  "Unsupported",
  "Unexpected"
])
export type StoreReason = typeof StoreReason.Type

/** The store could not do what it was asked. `reason` says what kind of trouble, `message` what to do. */
export class StoreError extends Schema.TaggedError<StoreError>("polyqueue/StoreError")("StoreError", {
  reason: StoreReason,
  operation: Schema.String,
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  /** Worth another try later: nothing is wrong with the request itself. */
  get isTransient(): boolean {
    return this.reason === "Unavailable" || this.reason === "Timeout" || this.reason === "Conflict"
  }
}

/** What went wrong between us and a broker (`guides`: one taxonomy for all brokers). */
export const BrokerReason = Schema.Literals([
  "Unavailable",
  "Throttled",
  "QuotaExceeded",
  "QueueNotFound",
  "Unauthorized",
  "MessageRejected",
  "OutcomeUnknown",
  "Unsupported",
  "Misconfigured",
  "Unexpected"
])
export type BrokerReason = typeof BrokerReason.Type

/** The broker could not do what it was asked. Never loses a job: Postgres still knows it. */
export class BrokerError extends Schema.TaggedError<BrokerError>("polyqueue/BrokerError")("BrokerError", {
  reason: BrokerReason,
  operation: Schema.String,
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {}

/** A worker cannot start with these jobs or options. `message` names the option, its value and what is allowed. */
export class WorkerError extends Schema.TaggedError<WorkerError>("polyqueue/WorkerError")("WorkerError", {
  message: Schema.String
}) {}

/** Why an admin action was refused. `NotRunning`: the worker has stopped or died. */
export const AdminReason = Schema.Literals(["InvalidInput", "NotFound", "NotRunning"])
export type AdminReason = typeof AdminReason.Type

/** An admin action that makes no sense. Nothing was done. `message` says what is wrong and what is allowed. */
export class AdminError extends Schema.TaggedError<AdminError>("polyqueue/AdminError")("AdminError", {
  reason: AdminReason,
  message: Schema.String
}) {}
