/** Explicit progress of running attempts: stale leases and locked rows are left alone. Writes no indexed column. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { Lease } from "../JobStoreDriver.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import { owned } from "./Exit.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import { byId, leaseColumns } from "./Settle.ts"
import type { Db } from "./Sessions.ts"

/** `$1` ids, `$2` attempts, `$3` claims, sorted by id; `$4` JSON texts or null. */
export const progressStatement = (names: Names, clock: DatabaseClock): string =>
  `with held as materialized (
    select t.progress::jsonb as progress, j.id from unnest(
      (select $1::uuid[]), (select $2::int4[]), (select $3::uuid[]), (select $4::text[])
    ) as t(id, attempt, claim, progress)
    cross join lateral (
      select j.id from ${names.jobs} j where j.id = t.id and ${owned} for no key update skip locked
    ) j
  )
  update ${names.jobs} j set progress = coalesce(h.progress, j.progress), progress_at = ${clock.moment}
  from held h where j.id = h.id`

/** `JobStoreDriver.progress`. */
export const make = (db: Db) => {
  const text = progressStatement(db.names, db.clock)
  return (
    reports: ReadonlyArray<Lease & { readonly progress: string | undefined }>
  ): Effect.Effect<void, StoreError> => {
    if (reports.length === 0) return Effect.void
    // The last report of a lease wins: one statement changes a row once
    const last = new Map(reports.map((report) => [`${report.id} ${report.attempt} ${report.claim}`, report]))
    for (const report of reports) {
      if (report.progress === undefined) continue
      const kept = last.get(`${report.id} ${report.attempt} ${report.claim}`)
      if (kept?.progress === undefined) last.set(`${report.id} ${report.attempt} ${report.claim}`, report)
    }
    const sorted = [...last.values()].sort(byId)
    const texts = Params.texts(sorted.map(({ progress }) => progress))
    return Effect.asVoid(db.work("progress", text, [...leaseColumns(sorted), texts]))
  }
}
