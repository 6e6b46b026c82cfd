/**
 * One row of the in-memory jobs table, and how the contract's views are read from it. JSON stays text, as in Postgres:
 * every reader gets a fresh value, and nothing a caller holds on to can change what is stored.
 */
import type { ClaimedJob, JobRecord, NewJob, Status, StoredError } from "../JobStoreDriver.ts"

/** Who owns a `processing` row, since when, and until when. */
export interface Owner {
  readonly claim: string
  readonly worker: string
  readonly claimedAt: number
  leaseExpiresAt: number
}

/** A row. What is `readonly` never changes after the insert; the rest changes only through `JobTable.change`. */
export interface JobRow {
  readonly job: Omit<NewJob, "freshId" | "delay" | "runAt" | "publishIn">
  readonly enqueuedAt: number
  status: Status
  runAt: number
  publishAt: number | undefined
  /** Hints published since the row became queued. */
  publications: number
  attempt: number
  failures: number
  crashes: number
  interruptions: number
  snoozes: number
  /** Where the last requeue restarted the budgets: failures and crashes are counted from here. */
  retryFrom: number
  crashFrom: number
  fence: number
  /** Set exactly while the row is `processing`. */
  owner: Owner | undefined
  timeoutAt: number | undefined
  overranAt: number | undefined
  progress: string | undefined
  progressAt: number | undefined
  cancelRequestedAt: number | undefined
  startedAt: number | undefined
  finishedAt: number | undefined
  result: string | undefined
  error: StoredError | undefined
}

/** Queued or processing: the job has not ended. */
export const isLive = (row: JobRow): boolean => row.status === "queued" || row.status === "processing"

/** It crashed a worker since the last requeue. */
export const isSuspect = (row: JobRow): boolean => row.crashes > row.crashFrom

/** Claim order inside one priority: the oldest `runAt`, then the id. */
export const byRunAt = (a: JobRow, b: JobRow): number => a.runAt - b.runAt || (a.job.id < b.job.id ? -1 : 1)

/** Claim order across priorities. */
export const byPriority = (a: JobRow, b: JobRow): number => a.job.priority - b.job.priority || byRunAt(a, b)

const parse = (text: string | undefined): unknown => (text === undefined ? undefined : JSON.parse(text))

const parseMetadata = (text: string | undefined): Readonly<Record<string, string>> | undefined =>
  text === undefined ? undefined : JSON.parse(text)

/** What its new owner is told of a row that was just claimed. */
export const toClaimed = (row: JobRow, claim: string): ClaimedJob => ({
  id: row.job.id,
  attempt: row.attempt,
  claim,
  type: row.job.type,
  queue: row.job.queue,
  priority: row.job.priority,
  fence: row.fence,
  payload: parse(row.job.payload),
  failures: row.failures - row.retryFrom,
  snoozes: row.snoozes,
  maxAttempts: row.job.maxAttempts,
  maxSnoozes: row.job.maxSnoozes,
  suspect: isSuspect(row),
  timeout: row.job.timeout,
  timeoutThen: row.job.timeoutThen,
  enqueuedAt: row.enqueuedAt,
  runAt: row.runAt,
  metadata: parseMetadata(row.job.metadata),
  failedTrace: row.error?.trace
})

/** The row as an inspector sees it. */
export const toRecord = (row: JobRow): JobRecord => ({
  id: row.job.id,
  type: row.job.type,
  queue: row.job.queue,
  status: row.status,
  priority: row.job.priority,
  runAt: row.runAt,
  attempt: row.attempt,
  failures: row.failures,
  crashes: row.crashes,
  interruptions: row.interruptions,
  snoozes: row.snoozes,
  maxAttempts: row.job.maxAttempts,
  maxCrashes: row.job.maxCrashes,
  payload: parse(row.job.payload),
  result: parse(row.result),
  error: row.error === undefined ? undefined : { ...row.error },
  key: row.job.key,
  tags: [...row.job.tags],
  metadata: parseMetadata(row.job.metadata),
  timeout: row.job.timeout,
  timeoutThen: row.job.timeoutThen,
  timeoutAt: row.timeoutAt,
  overranAt: row.overranAt,
  worker: row.owner?.worker,
  leaseExpiresAt: row.owner?.leaseExpiresAt,
  progress: parse(row.progress),
  progressAt: row.progressAt,
  cancelRequestedAt: row.cancelRequestedAt,
  publishAt: row.publishAt,
  fence: row.fence,
  enqueuedAt: row.enqueuedAt,
  startedAt: row.startedAt,
  finishedAt: row.finishedAt
})
