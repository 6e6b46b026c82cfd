/**
 * The only ways out of `processing` in the in-memory store. Each one logs the attempt, raises exactly one counter (or
 * ends the job), clears the owner, and lets a requested cancel win over everything but success.
 */
import type { AttemptOutcome, AttemptRecord, Status, StoredError } from "../JobStoreDriver.ts"
import type { JobRow } from "./JobRow.ts"
import type { JobTable } from "./JobTable.ts"

/** What follows an attempt: the job ends, or it waits for its next attempt until `runAt`. */
export type Next = { readonly status: "succeeded" | "failed" | "cancelled" } | { readonly runAt: number }

/** How an attempt ends. */
export interface Ending {
  readonly outcome: AttemptOutcome
  readonly finalizedBy: AttemptRecord["finalizedBy"]
  readonly next: Next
  readonly error?: StoredError | undefined
  /** JSON text, of a success. */
  readonly result?: string
}

const counters = {
  failed: "failures",
  timedOut: "failures",
  crashed: "crashes",
  released: "interruptions",
  snoozed: "snoozes"
} as const

/** The row waits: every move to `queued` makes a first hint due. */
export const toQueued = (row: JobRow, runAt: number): void => {
  row.status = "queued"
  row.runAt = runAt
  row.publishAt = row.job.hinted ? runAt : undefined
  row.publications = 0
}

/** The row has ended. */
export const toEnded = (row: JobRow, status: "succeeded" | "failed" | "cancelled", now: number): void => {
  row.status = status
  row.finishedAt = now
  row.publishAt = undefined
}

/** Ends the attempt of a `processing` row and answers what the job became. */
export const exit = (table: JobTable, now: number, row: JobRow, ending: Ending): Status => {
  table.log(row, ending.outcome, ending.finalizedBy, now, ending.error)
  table.change(row, (row) => {
    if (ending.outcome !== "succeeded" && ending.outcome !== "cancelled") row[counters[ending.outcome]] += 1
    row.owner = undefined
    row.timeoutAt = undefined
    if (ending.error !== undefined) row.error = ending.error
    if (ending.outcome === "succeeded") {
      row.error = undefined
      row.result = ending.result
      toEnded(row, "succeeded", now)
    } else if (row.cancelRequestedAt !== undefined) toEnded(row, "cancelled", now)
    else if ("status" in ending.next) toEnded(row, ending.next.status, now)
    else toQueued(row, ending.next.runAt)
  })
  return row.status
}
