/**
 * When a worker has to look again: one probe per lane, as the claim. What is paused is due when its pause ends.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { ClaimPool } from "../JobStoreDriver.ts"
import { lanes, rangeColumns } from "./Claim.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import type { Names } from "./Names.ts"
import type { Db } from "./Sessions.ts"

/** `$1`, `$2`, `$3`: pool, queue and type of the ranges. */
export const nextDueStatement = (names: Names, clock: DatabaseClock): string =>
  `with recursive asked as materialized (
    select r.pool, r.queue, r.type
    from unnest((select $1::int4[]), (select $2::text[]), (select $3::text[])) as r(pool, queue, type)
  ), lanes as (
    ${lanes(names).replace("LANES", "lanes")}
  ), suspects as (
    ${lanes(names, "j.status = 'queued' and j.crashes > j.crash_from").replace("LANES", "suspects")}
  ), heads as (
    select greatest(l.head, (
      select max(coalesce(q.paused_until, 'infinity')) from ${names.queues} q
      where q.queue in ('', l.queue) and q.type in ('', l.type)
        and (q.paused_until is null or q.paused_until > ${clock.now})
    )) as at
    from (select * from lanes union all select * from suspects) l
  )
  select (date_part('epoch', min(at) - ${clock.now}) * 1000)::float8 from heads where at < 'infinity'`

/** `JobStoreDriver.nextDue`. */
export const make = (db: Db) => {
  const text = nextDueStatement(db.names, db.clock)
  return (ranges: ClaimPool["ranges"]): Effect.Effect<number | undefined, StoreError> =>
    Effect.map(db.work("nextDue", text, rangeColumns([{ ranges }])), (rows) => {
      const wait = rows[0]?.[0]
      return typeof wait === "number" ? Math.max(0, wait) : undefined
    })
}
