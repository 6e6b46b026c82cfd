/** What people do to many jobs and to queues of the in-memory store: judged, done and logged row by row, in one step. */
import type {
  ActionOutcome,
  ActionRequest,
  ActionResult,
  By,
  JobAction,
  Pause,
  PauseTarget,
  StoredError
} from "../JobStoreDriver.ts"
import { exit, toEnded, toQueued } from "./Exit.ts"
import { matches } from "./Find.ts"
import { isLive, type JobRow } from "./JobRow.ts"
import type { JobTable } from "./JobTable.ts"
import { targetOf } from "./Pauses.ts"

/** Whether its status allows the action. */
const isEligible = (row: JobRow, action: JobAction): boolean => {
  switch (action) {
    case "requeue":
    case "purge":
      return !isLive(row)
    case "runNow":
      return row.status === "queued"
    case "fail":
      return isLive(row)
    case "cancel":
      return row.status === "queued" || (row.status === "processing" && row.cancelRequestedAt === undefined)
  }
}

/** What the audit log says of a row. Never a payload. Members without a value are left out. */
const stateOf = (row: JobRow): object => ({
  status: row.status,
  type: row.job.type,
  queue: row.job.queue,
  attempt: row.attempt,
  failures: row.failures,
  crashes: row.crashes,
  runAt: Math.round(row.runAt),
  ...(row.owner === undefined ? {} : { worker: row.owner.worker }),
  ...(row.error === undefined ? {} : { error: row.error.code }),
  ...(row.cancelRequestedAt === undefined ? {} : { cancelRequested: true })
})

const judge = (table: JobTable, now: number, row: JobRow, { action, filter }: ActionRequest): ActionOutcome => {
  if (filter !== undefined && !matches(row, now, filter)) return "changed"
  if (!isEligible(row, action)) return "ineligible"
  const holder = action !== "requeue" || row.job.key === undefined ? undefined : table.holder(row.job.type, row.job.key)
  return holder !== undefined && holder !== row ? "keyTaken" : "done"
}

/** A first hint is due after the grace of whoever publishes it now. */
const publish = (row: JobRow, now: number, publishIn: number): void => {
  if (!row.job.hinted) return
  row.publishAt = now + publishIn
  row.publications = publishIn > 0 ? 1 : 0
}

const change = (table: JobTable, now: number, row: JobRow, request: ActionRequest): void => {
  switch (request.action) {
    case "requeue":
      return table.change(row, (row) => {
        row.retryFrom = row.failures
        row.crashFrom = row.crashes
        row.result = undefined
        row.error = undefined
        row.finishedAt = undefined
        row.cancelRequestedAt = undefined
        toQueued(row, now)
        publish(row, now, request.publishIn)
      })
    case "runNow":
      return table.change(row, (row) => {
        row.runAt = Math.min(row.runAt, now)
        publish(row, now, request.publishIn)
      })
    case "cancel":
      return table.change(row, (row) => {
        row.cancelRequestedAt = now
        if (row.status === "queued") toEnded(row, "cancelled", now)
      })
    case "fail": {
      const why = request.by.reason === undefined ? "" : `: ${request.by.reason}`
      const error: StoredError = { code: "failedByAdmin", message: `${request.by.who} failed it${why}` }
      if (row.status === "processing") {
        exit(table, now, row, { outcome: "failed", finalizedBy: "admin", next: { status: "failed" }, error })
        return
      }
      return table.change(row, (row) => {
        row.error = error
        toEnded(row, "failed", now)
      })
    }
    case "purge":
      return table.delete(row)
  }
}

const actOne = (table: JobTable, now: number, id: string, request: ActionRequest): ActionResult => {
  const row = table.get(id)
  if (row === undefined) return { id, outcome: "missing", hint: undefined, status: undefined }
  const outcome = judge(table, now, row, request)
  if (outcome !== "done") return { id, outcome, hint: undefined, status: row.status }
  const before = stateOf(row)
  change(table, now, row, request)
  const isGone = request.action === "purge"
  table.audit.write(now, {
    action: request.action,
    kind: "job",
    operation: request.operation,
    target: row.job.id,
    by: request.by,
    before,
    after: isGone ? undefined : stateOf(row)
  })
  const runs = request.action === "requeue" || request.action === "runNow"
  const { attempt, job } = row
  return {
    id,
    outcome,
    hint: runs ? { queue: job.queue, priority: job.priority, attempt } : undefined,
    status: isGone ? undefined : row.status
  }
}

/** Acts on jobs; answers in order, an id named twice alike. */
export const act = (table: JobTable, now: number, request: ActionRequest): ReadonlyArray<ActionResult> => {
  const ids = request.ids.map((id) => id.toLowerCase())
  const results = new Map([...new Set(ids)].sort().map((id) => [id, actOne(table, now, id, request)]))
  return ids.map((id) => results.get(id)!)
}

/** What the audit log says of a pause. */
const stateOfPause = ({ reason, until }: Pause): object => ({
  ...(until === undefined ? {} : { until }),
  ...(reason === undefined ? {} : { reason })
})

/** Pauses a target, in place of an earlier pause of it. */
export const pause = (
  table: JobTable,
  now: number,
  request: PauseTarget & {
    readonly until?: number | undefined
    readonly duration?: number | undefined
    readonly by: By
    readonly operation: string
  }
): Pause => {
  const { by, duration, operation, queue, type } = request
  const before = table.pauses.get(now, request)
  const until = request.until ?? (duration === undefined ? undefined : now + duration)
  const made: Pause = { queue, type, since: now, until, reason: by.reason }
  table.pauses.set(made)
  table.audit.write(now, {
    action: "pause",
    kind: "queue",
    operation,
    target: targetOf(request),
    by,
    before: before === undefined ? undefined : stateOfPause(before),
    after: stateOfPause(made)
  })
  return made
}

/** Ends the pause of exactly this target; false when there is none. */
export const resume = (
  table: JobTable,
  now: number,
  request: PauseTarget & { readonly by: By; readonly operation: string }
): boolean => {
  const before = table.pauses.delete(now, request)
  if (before === undefined) return false
  table.audit.write(now, {
    action: "resume",
    kind: "queue",
    operation: request.operation,
    target: targetOf(request),
    by: request.by,
    before: stateOfPause(before),
    after: undefined
  })
  return true
}
