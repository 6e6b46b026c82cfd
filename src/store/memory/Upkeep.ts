/**
 * Maintenance of the in-memory store: expired leases, overdue timeouts, due hints, retention. Every one is bounded by a
 * limit and takes what has waited longest.
 */
import type { DueHint, JobStoreDriver, Reaped, Retention } from "../JobStoreDriver.ts"
import { exit, type Next } from "./Exit.ts"
import { byPriority, type JobRow } from "./JobRow.ts"
import { endings, type JobTable } from "./JobTable.ts"

const CRASH_BACKOFF = 2_000
const CRASH_BACKOFF_CAP = 60_000
const HINT_PERIOD = 10_000
const HINT_PERIOD_CAP = 600_000
const JITTER = 0.2

/** A delay ±20 %: rows that failed together do not come back together. */
const jittered = (delay: number, random: () => number): number =>
  Math.round(delay * (1 - JITTER + 2 * JITTER * random()))

const reaped = (row: JobRow): Reaped => ({
  id: row.job.id,
  type: row.job.type,
  queue: row.job.queue,
  attempt: row.attempt,
  status: row.status
})

/** Ends attempts whose lease has expired, the longest expired first. */
export const reap = (
  table: JobTable,
  now: number,
  random: () => number,
  options: Parameters<JobStoreDriver["reap"]>[0]
): ReadonlyArray<Reaped> => {
  const ids = options.ids === undefined ? undefined : new Set(options.ids)
  const due = [...table.processing].filter(
    ({ job, owner }) =>
      owner!.leaseExpiresAt <= now && !options.exceptWorkers.includes(owner!.worker) && (ids?.has(job.id) ?? true)
  )
  due.sort((a, b) => a.owner!.leaseExpiresAt - b.owner!.leaseExpiresAt || (a.job.id < b.job.id ? -1 : 1))
  return due.slice(0, options.limit).map((row) => {
    const crashes = row.crashes + 1 - row.crashFrom
    const poison = crashes >= row.job.maxCrashes
    const delay = crashes === 1 ? 0 : Math.min(CRASH_BACKOFF * 2 ** (crashes - 2), CRASH_BACKOFF_CAP)
    exit(table, now, row, {
      outcome: "crashed",
      finalizedBy: "reaper",
      next: poison ? { status: "failed" } : { runAt: now + jittered(delay, random) },
      error: poison
        ? { code: "poison", message: `it crashed its worker ${crashes} times` }
        : { code: "crashed", message: "its lease expired: the worker crashed, hung or lost its connection" }
    })
    return reaped(row)
  })
}

/** Ends attempts that ran past their timeout by `grace`, the longest running first. */
export const reapTimeouts = (
  table: JobTable,
  now: number,
  random: () => number,
  options: Parameters<JobStoreDriver["reapTimeouts"]>[0]
): ReadonlyArray<Reaped> => {
  const due = [...table.processing].filter(
    ({ job, timeoutAt }) => job.timeoutThen !== "ignore" && timeoutAt !== undefined && timeoutAt + options.grace <= now
  )
  due.sort((a, b) => a.startedAt! - b.startedAt! || (a.job.id < b.job.id ? -1 : 1))
  return due.slice(0, options.limit).map((row) => {
    exit(table, now, row, {
      outcome: "timedOut",
      finalizedBy: "reaper",
      next: afterTimeout(row, now, random),
      error: { code: "timedOut", message: `it ran longer than its timeout of ${row.job.timeout} ms` }
    })
    return reaped(row)
  })
}

const afterTimeout = (row: JobRow, now: number, random: () => number): Next => {
  const failures = row.failures + 1 - row.retryFrom
  if (row.job.timeoutThen === "fail" || failures >= row.job.maxAttempts) return { status: "failed" }
  const delay = row.job.retryDelays[failures - 1] ?? row.job.retryDelays.at(-1) ?? 0
  return { runAt: now + jittered(delay, random) }
}

/**
 * Takes hints that are due and moves their `publishAt` forward, further with every publication. Within a priority, what
 * was never published goes before what was.
 */
export const takeHints = (
  table: JobTable,
  now: number,
  options: Parameters<JobStoreDriver["takeHints"]>[0]
): ReadonlyArray<DueHint> => {
  for (let row = table.hintsAhead.first; row !== undefined && row.publishAt! <= now; row = table.hintsAhead.first) {
    table.hintsAhead.delete(row)
    const due = row.publications === 0 ? table.hintsFirst : table.hintsAgain
    due.add(row)
  }
  const rows: Array<JobRow> = []
  while (rows.length < options.limit) {
    const fresh = table.hintsFirst.first
    const again = options.again ? table.hintsAgain.first : undefined
    const row = fresh === undefined || (again !== undefined && again.job.priority < fresh.job.priority) ? again : fresh
    if (row === undefined) break
    table.change(row, (row) => {
      row.publishAt = now + Math.min(HINT_PERIOD * 2 ** row.publications, HINT_PERIOD_CAP)
      row.publications += 1
    })
    rows.push(row)
  }
  return rows.sort(byPriority).map((row) => ({
    id: row.job.id,
    queue: row.job.queue,
    type: row.job.type,
    priority: row.job.priority,
    attempt: row.attempt,
    publication: row.publications
  }))
}

/** Deletes what retention lets go, the longest ended first: at most `limit` jobs and as many attempts. */
export const prune = (table: JobTable, now: number, retention: Retention, limit: number): number => {
  const jobs: Array<JobRow> = []
  for (const status of endings) {
    const age = retention[status]
    if (age === undefined) continue
    for (const row of table.ended(status)) {
      if (jobs.length >= limit || row.finishedAt! + age > now) break
      jobs.push(row)
    }
  }
  for (const row of jobs) table.delete(row)
  let attempts = 0
  if (retention.attempts !== undefined) {
    for (const record of table.attemptsByAge()) {
      if (attempts >= limit || record.endedAt + retention.attempts > now) break
      table.deleteAttempt(record)
      attempts += 1
    }
  }
  return jobs.length + attempts
}
