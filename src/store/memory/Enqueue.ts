/**
 * Inserting jobs into the in-memory table: idempotent per id, one holder per unique key in scope, attempts numbered on
 * from what the log knows of the id. Refuses what Postgres would refuse, job by job.
 */
import { StoreError } from "../../JobError.ts"
import type { EnqueueOutcome, NewJob } from "../JobStoreDriver.ts"
import type { JobRow } from "./JobRow.ts"
import type { JobTable } from "./JobTable.ts"
import { refusedJson, refusedText, sameJson } from "./Storable.ts"

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

const MAX_NAME = 255
const MAX_KEY = 1_000
const MAX_INT = 2_147_483_647

/** Builds the error of data that cannot be stored: what, of which job, why. Never the data. */
export const refused = (operation: string, id: string, what: string, why: string): StoreError =>
  new StoreError({
    reason: "Refused",
    operation,
    message: `the ${what} of job ${id} cannot be stored: ${why}`
  })

/** Inserts the jobs that can be. Answers in order. */
export const enqueue = (table: JobTable, now: number, jobs: ReadonlyArray<NewJob>): ReadonlyArray<EnqueueOutcome> =>
  jobs.map((job) => enqueueOne(table, now, job))

const enqueueOne = (table: JobTable, now: number, job: NewJob): EnqueueOutcome => {
  const error = refusal(job)
  if (error !== undefined) return { _tag: "Refused", error }
  const known = table.get(job.id)
  if (known !== undefined) {
    return known.job.type === job.type && sameJson(known.job.payload, job.payload)
      ? { _tag: "Duplicate", id: known.job.id }
      : { _tag: "IdConflict" }
  }
  const holder = job.key === undefined ? undefined : table.holder(job.type, job.key)
  if (holder !== undefined) return { _tag: "Duplicate", id: holder.job.id }
  table.insert(newRow(job, now, job.freshId ? 0 : (table.attempts(job.id).at(-1)?.attempt ?? 0)))
  return { _tag: "Inserted" }
}

/** A limit as the column can hold it: without end becomes as good as without end. */
const limit = (value: number): number => Math.min(value, MAX_INT)

const newRow = (job: NewJob, now: number, attempt: number): JobRow => {
  const runAt = job.runAt ?? now + job.delay
  return {
    job: {
      ...job,
      id: job.id.toLowerCase(),
      maxAttempts: limit(job.maxAttempts),
      maxCrashes: limit(job.maxCrashes),
      maxSnoozes: limit(job.maxSnoozes),
      retryDelays: [...job.retryDelays],
      tags: [...job.tags]
    },
    enqueuedAt: now,
    status: "queued",
    runAt,
    publishAt: job.hinted ? runAt + job.publishIn : undefined,
    publications: job.hinted && job.publishIn > 0 ? 1 : 0,
    attempt,
    failures: 0,
    crashes: 0,
    interruptions: 0,
    snoozes: 0,
    retryFrom: 0,
    crashFrom: 0,
    fence: 0,
    owner: undefined,
    timeoutAt: undefined,
    overranAt: undefined,
    progress: undefined,
    progressAt: undefined,
    cancelRequestedAt: undefined,
    startedAt: undefined,
    finishedAt: undefined,
    result: undefined,
    error: undefined
  }
}

const refusedName = (name: string): string | undefined => (name === "" ? "it is empty" : refusedText(name, MAX_NAME))

const refusedInt = (value: number, least: number, most: number): string | undefined =>
  Number.isInteger(value) && value >= least && value <= most ? undefined : `it is not one of ${least} … ${most}`

const refusedLimit = (value: number, least: number): string | undefined => refusedInt(limit(value), least, MAX_INT)

/** What the table's columns and checks would refuse. */
const refusal = (job: NewJob): StoreError | undefined => {
  const no = (what: string, why: string | undefined) =>
    why === undefined ? undefined : refused("enqueue", job.id, what, why)
  const { key, maxAttempts, maxCrashes, maxSnoozes, metadata, priority, tags, timeout } = job
  const tag = tags.map((tag) => refusedText(tag)).find((why) => why !== undefined)
  return (
    no("id", uuid.test(job.id) ? undefined : "it is not a UUID") ??
    no("type", refusedName(job.type)) ??
    no("queue", refusedName(job.queue)) ??
    no("priority", refusedInt(priority, 0, 9)) ??
    no("limit", refusedLimit(maxAttempts, 1) ?? refusedLimit(maxCrashes, 1) ?? refusedLimit(maxSnoozes, 0)) ??
    no("timeout", timeout === undefined || timeout > 0 ? undefined : "it is not above zero") ??
    no("unique key", key === undefined ? undefined : refusedText(key, MAX_KEY)) ??
    no("tags", tag) ??
    no("payload", refusedJson(job.payload)) ??
    no("metadata", metadata === undefined ? undefined : refusedJson(metadata))
  )
}
