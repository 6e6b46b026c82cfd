/**
 * A `JobFilter` as SQL over the alias `j`: only what was asked for is in the text, so that the planner sees plain
 * conditions and can use the indexes. All values are bound; statuses are ours, and written out to match partial indexes.
 */
import type { Parameter } from "@effect/sql-pg/PgTypes"
import type { JobFilter, Status } from "../JobStoreDriver.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import * as Params from "./Params.ts"

/** Collects the parameters of one statement. */
export interface Binder {
  readonly params: ReadonlyArray<Parameter>
  /** Adds a parameter; answers its name in the text. */
  readonly bind: (param: Parameter) => string
}

export const binder = (): Binder => {
  const params: Array<Parameter> = []
  return { params, bind: (param) => `$${params.push(param)}` }
}

const statuses: ReadonlyArray<Status> = ["queued", "processing", "succeeded", "failed", "cancelled"]

/** True for the rows that match. */
export const conditions = (filter: JobFilter, clock: DatabaseClock, { bind }: Binder): string => {
  const all: Array<string> = []
  const text = (column: string, value: string | undefined) => {
    if (value !== undefined) all.push(`${column} = ${bind(Params.text(value))}`)
  }
  const ago = (instant: string, comparison: string, age: number | undefined) => {
    if (age !== undefined) {
      all.push(`${instant} ${comparison} ${clock.now} - ${bind(Params.float(age))}::float8 * interval '1 millisecond'`)
    }
  }
  if (filter.ids !== undefined) all.push(`j.id = any(${bind(Params.uuids(filter.ids))}::uuid[])`)
  if (filter.status !== undefined) {
    const asked = statuses.filter((status) => filter.status?.includes(status))
    all.push(asked.length === 0 ? "false" : `j.status in (${asked.map((status) => `'${status}'`).join(", ")})`)
  }
  text("j.type", filter.type)
  text("j.queue", filter.queue)
  text("j.lease_owner", filter.worker)
  text("j.error->>'code'", filter.errorCode)
  if (filter.tag !== undefined) all.push(`${bind(Params.text(filter.tag))} = any(j.tags)`)
  ago("j.enqueued_at", "<=", filter.olderThan)
  ago("j.enqueued_at", ">", filter.newerThan)
  ago("j.finished_at", "<=", filter.endedFor)
  if (filter.staleProgress !== undefined) {
    all.push("j.status = 'processing'")
    // What an earlier attempt reported is older than this one's start
    ago("greatest(j.progress_at, j.started_at)", "<=", filter.staleProgress)
  }
  if (filter.timedOut !== undefined) {
    const late = `j.status = 'processing' and j.started_at + j.timeout * interval '1 millisecond' <= ${clock.now}`
    all.push(filter.timedOut ? late : `(${late}) is not true`)
  }
  if (filter.cancelRequested !== undefined) {
    all.push(`j.cancel_requested_at is ${filter.cancelRequested ? "not null" : "null"}`)
  }
  return all.length === 0 ? "true" : all.join(" and ")
}
