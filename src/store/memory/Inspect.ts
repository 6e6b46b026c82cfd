/**
 * Looking at the in-memory store, and the two things a person does to a job: cancel it and run it again.
 */
import type { CancelOutcome, JobRecord, ListFilter, QueueStats, RequeueOutcome } from "../JobStoreDriver.ts"
import { toEnded, toQueued } from "./Exit.ts"
import { isLive, toRecord } from "./JobRow.ts"
import type { JobTable } from "./JobTable.ts"

/** The jobs of these ids that exist, each once. */
export const get = (table: JobTable, ids: ReadonlyArray<string>): ReadonlyArray<JobRecord> =>
  [...new Set(ids)].flatMap((id) => {
    const row = table.get(id)
    return row === undefined ? [] : [toRecord(row)]
  })

/** Which of these have ended or do not exist. */
export const ended = (table: JobTable, ids: ReadonlyArray<string>): ReadonlyArray<string> =>
  [...new Set(ids)].filter((id) => {
    const row = table.get(id)
    return row === undefined || !isLive(row)
  })

/** A page of jobs, newest id first. Looks at every row: for people, not for loops. */
export const list = (table: JobTable, filter: ListFilter): ReadonlyArray<JobRecord> =>
  [...table.all()]
    .filter(
      ({ job, status }) =>
        (filter.status === undefined || status === filter.status) &&
        (filter.type === undefined || job.type === filter.type) &&
        (filter.queue === undefined || job.queue === filter.queue) &&
        (filter.after === undefined || job.id < filter.after)
    )
    .sort((a, b) => (a.job.id < b.job.id ? 1 : -1))
    .slice(0, Math.max(0, filter.limit))
    .map(toRecord)

type Counts = { -readonly [Key in keyof QueueStats]: QueueStats[Key] }

/** Jobs per queue, by name. */
export const stats = (table: JobTable, now: number): ReadonlyArray<QueueStats> => {
  const queues = new Map<string, Counts>()
  for (const { job, runAt, status } of table.all()) {
    let counts = queues.get(job.queue)
    if (counts === undefined) {
      const none = { queued: 0, waiting: 0, processing: 0, succeeded: 0, failed: 0, cancelled: 0 }
      counts = { queue: job.queue, ...none, oldestAge: undefined }
      queues.set(job.queue, counts)
    }
    if (status === "queued" && runAt > now) counts.waiting += 1
    else counts[status] += 1
    if (status === "queued" && runAt <= now) counts.oldestAge = Math.max(counts.oldestAge ?? 0, now - runAt)
  }
  return [...queues.values()].sort((a, b) => (a.queue < b.queue ? -1 : 1))
}

/** Ends queued jobs; asks the owners of running ones to stop. Answers in order, an id named twice alike. */
export const cancel = (table: JobTable, now: number, ids: ReadonlyArray<string>): ReadonlyArray<CancelOutcome> => {
  const outcomes = new Map([...new Set(ids)].map((id) => [id, cancelOne(table, now, id)]))
  return ids.map((id) => outcomes.get(id)!)
}

const cancelOne = (table: JobTable, now: number, id: string): CancelOutcome => {
  const row = table.get(id)
  if (row === undefined) return "missing"
  switch (row.status) {
    case "queued":
      table.change(row, (row) => {
        row.cancelRequestedAt = now
        toEnded(row, "cancelled", now)
      })
      return "cancelled"
    case "processing":
      table.change(row, (row) => {
        row.cancelRequestedAt ??= now
      })
      return "requested"
    default:
      return "ended"
  }
}

/** Lets an ended job run again: counters stay, the budgets start again at them. */
export const requeue = (table: JobTable, now: number, id: string): RequeueOutcome => {
  const row = table.get(id)
  if (row === undefined) return "missing"
  if (isLive(row)) return "live"
  const holder = row.job.key === undefined ? undefined : table.holder(row.job.type, row.job.key)
  if (holder !== undefined && holder !== row) return "keyTaken"
  table.change(row, (row) => {
    row.retryFrom = row.failures
    row.crashFrom = row.crashes
    row.result = undefined
    row.error = undefined
    row.finishedAt = undefined
    row.cancelRequestedAt = undefined
    toQueued(row, now)
  })
  return "requeued"
}
