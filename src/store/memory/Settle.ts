/**
 * What owners say of the attempts they hold: the end, a renewal, progress, or that a claim's outcome is unknown. Every
 * one of them applies only while the row is `processing` under that attempt and claim.
 */
import type { StoreError } from "../../JobError.ts"
import {
  type Lease,
  outcomeOf,
  type Renewal,
  type Settlement,
  type SettleOutcome,
  type StoredError
} from "../JobStoreDriver.ts"
import { refused } from "./Enqueue.ts"
import { exit, type Ending } from "./Exit.ts"
import type { JobRow } from "./JobRow.ts"
import type { JobTable } from "./JobTable.ts"
import { refusedJson } from "./Storable.ts"

const owned = (table: JobTable, lease: Lease): JobRow | undefined => {
  const row = table.get(lease.id)
  return row?.owner !== undefined && row.owner.claim === lease.claim && row.attempt === lease.attempt ? row : undefined
}

/** The first thing of this settlement that cannot be stored. */
export const refusal = (settlement: Settlement): StoreError | undefined => {
  const no = (what: string, why: string | undefined) =>
    why === undefined ? undefined : refused("settle", settlement.id, what, why)
  switch (settlement._tag) {
    case "Succeeded":
      return no("result", settlement.result === undefined ? undefined : refusedJson(settlement.result))
    case "Failed":
      return no("error", refusedError(settlement.error))
    default:
      return undefined
  }
}

/** An error is stored as JSON, its texts included. */
const refusedError = ({ message, stack, trace, value }: StoredError): string | undefined =>
  refusedJson(JSON.stringify([message, stack, trace])) ?? (value === undefined ? undefined : refusedJson(value))

/** The error as it is kept: without members that are undefined, and not the caller's object. */
const kept = ({ code, message, stack, trace, value }: StoredError): StoredError => ({
  code,
  message,
  ...(value === undefined ? {} : { value }),
  ...(stack === undefined ? {} : { stack }),
  ...(trace === undefined ? {} : { trace })
})

const ending = (now: number, settlement: Settlement): Ending => {
  const of = { outcome: outcomeOf(settlement), finalizedBy: "worker" } as const
  switch (settlement._tag) {
    case "Succeeded":
      return { ...of, next: { status: "succeeded" }, result: settlement.result ?? "null" }
    case "Failed":
      return {
        ...of,
        next: settlement.retryIn === undefined ? { status: "failed" } : { runAt: now + settlement.retryIn },
        error: kept(settlement.error)
      }
    case "Snoozed":
      return { ...of, next: { runAt: now + settlement.delay } }
    case "Released":
      return { ...of, next: { runAt: now } }
    case "Cancelled":
      return { ...of, next: { status: "cancelled" } }
  }
}

/** Writes one settlement whose data can be stored. */
export const settle = (table: JobTable, now: number, settlement: Settlement): SettleOutcome => {
  const row = owned(table, settlement)
  if (row !== undefined) return { _tag: "Settled", status: exit(table, now, row, ending(now, settlement)) }
  const earlier = table.attempts(settlement.id).find((record) => record.attempt === settlement.attempt)
  return earlier?.claim === settlement.claim && earlier.finalizedBy === "worker"
    ? { _tag: "AlreadyMine" }
    : { _tag: "LeaseLost" }
}

/** Extends the leases that are still owned. Nothing is ever locked in memory. */
export const renew = (table: JobTable, now: number, leases: ReadonlyArray<Lease>, lease: number): Renewal => {
  const lost: Array<Lease> = []
  const cancelled: Array<Lease> = []
  for (const held of leases) {
    const row = owned(table, held)
    if (row === undefined) {
      lost.push(held)
      continue
    }
    table.change(row, (row) => {
      row.owner!.leaseExpiresAt = now + lease
      const overran = row.job.timeoutThen === "ignore" && row.timeoutAt !== undefined && row.timeoutAt <= now
      if (overran && row.overranAt === undefined) row.overranAt = now
    })
    if (row.cancelRequestedAt !== undefined) cancelled.push(held)
  }
  return { lost, locked: [], cancelled }
}

/** Stores what owners report of their progress. */
export const progress = (
  table: JobTable,
  now: number,
  reports: ReadonlyArray<Lease & { readonly progress: string | undefined }>
): void => {
  for (const report of reports) {
    const row = owned(table, report)
    if (row === undefined) continue
    table.change(row, (row) => {
      if (report.progress !== undefined) row.progress = report.progress
      row.progressAt = now
    })
  }
}

/** Gives back what is held under these claims of this worker. */
export const abandon = (table: JobTable, now: number, worker: string, claims: ReadonlyArray<string>): number => {
  const given = new Set(claims)
  const rows = [...table.processing].filter((row) => row.owner!.worker === worker && given.has(row.owner!.claim))
  for (const row of rows) exit(table, now, row, { outcome: "released", finalizedBy: "worker", next: { runAt: now } })
  return rows.length
}
