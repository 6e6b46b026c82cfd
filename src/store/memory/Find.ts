/** Searching the in-memory table, and one job as the claim sees it. Looks at every row: for people, not for loops. */
import type { ClaimView, FindRequest, JobFilter, JobSummary } from "../JobStoreDriver.ts"
import { isSuspect, type JobRow, toRecord } from "./JobRow.ts"
import type { JobTable } from "./JobTable.ts"

const MAX_MESSAGE = 500

/** Whether a row matches. */
export const matches = (row: JobRow, now: number, filter: JobFilter): boolean => {
  const { job } = row
  const is = <A>(asked: A | undefined, actual: A) => asked === undefined || asked === actual
  const running = row.status === "processing"
  const timedOut = running && row.timeoutAt !== undefined && row.timeoutAt <= now
  const sign = Math.max(row.progressAt ?? 0, row.startedAt ?? 0)
  return (
    (filter.ids === undefined || filter.ids.some((id) => id.toLowerCase() === job.id)) &&
    (filter.status === undefined || filter.status.includes(row.status)) &&
    is(filter.type, job.type) &&
    is(filter.queue, job.queue) &&
    is(filter.worker, row.owner?.worker) &&
    is(filter.errorCode, row.error?.code) &&
    (filter.tag === undefined || job.tags.includes(filter.tag)) &&
    (filter.olderThan === undefined || row.enqueuedAt <= now - filter.olderThan) &&
    (filter.newerThan === undefined || row.enqueuedAt > now - filter.newerThan) &&
    (filter.endedFor === undefined || (row.finishedAt !== undefined && row.finishedAt <= now - filter.endedFor)) &&
    (filter.staleProgress === undefined || (running && sign <= now - filter.staleProgress)) &&
    is(filter.timedOut, timedOut) &&
    is(filter.cancelRequested, row.cancelRequestedAt !== undefined)
  )
}

const toSummary = (row: JobRow): JobSummary => {
  const {
    error,
    fence: _fence,
    metadata: _m,
    payload: _p,
    progress: _g,
    publishAt: _h,
    result: _r,
    ...rest
  } = toRecord(row)
  return {
    ...rest,
    error:
      error === undefined ? undefined : { code: error.code, message: [...error.message].slice(0, MAX_MESSAGE).join("") }
  }
}

/** A page, newest id first. */
export const find = (table: JobTable, now: number, request: FindRequest): ReadonlyArray<JobSummary> => {
  const after = request.after?.toLowerCase()
  return [...table.all()]
    .filter((row) => (after === undefined || row.job.id < after) && matches(row, now, request))
    .sort((a, b) => (a.job.id < b.job.id ? 1 : -1))
    .slice(0, Math.max(0, request.limit))
    .map(toSummary)
}

/** How many match. */
export const count = (table: JobTable, now: number, filter: JobFilter): number => {
  let n = 0
  for (const row of table.all()) if (matches(row, now, filter)) n += 1
  return n
}

/** One job as the claim sees it. */
export const view = (table: JobTable, now: number, id: string): ClaimView | undefined => {
  const row = table.get(id)
  if (row === undefined) return undefined
  return {
    job: toRecord(row),
    now,
    waiting: row.status === "queued" && row.runAt > now,
    suspect: row.status === "queued" && isSuspect(row),
    expired: row.owner !== undefined && row.owner.leaseExpiresAt <= now,
    pauses: table.pauses.holding(now, row.job.queue, row.job.type)
  }
}
