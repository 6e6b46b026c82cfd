/**
 * Renewal: extends all leases of a worker in one statement, on a session of its own. What is locked by somebody is neither
 * lost nor renewed; it is said apart. Writes no indexed column. Answers only what the worker has to act upon.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { Lease, Renewal } from "../JobStoreDriver.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import { owned } from "./Exit.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import { byId, leaseColumns } from "./Settle.ts"
import type { Db } from "./Sessions.ts"

/** `$1` ids, `$2` attempts, `$3` claims, sorted by id; `$4` the lease. */
export const renewStatement = (names: Names, clock: DatabaseClock): string =>
  `with asked as materialized (
    select * from unnest((select $1::uuid[]), (select $2::int4[]), (select $3::uuid[]))
      with ordinality as t(id, attempt, claim, n)
  ), held as materialized (
    select t.n, j.* from asked t cross join lateral (
      select j.id from ${names.jobs} j
      where j.id = t.id and ${owned}
      for no key update skip locked
    ) j
  ), u as (
    update ${names.jobs} j set
      lease_expires_at = ${clock.moment} + $4::float8 * interval '1 millisecond',
      overran_at = case when j.overran_at is null and j.timeout_then = 'ignore'
        and j.started_at + j.timeout * interval '1 millisecond' <= ${clock.moment}
        then ${clock.moment} else j.overran_at end
    from held h where j.id = h.id
    returning h.n, j.cancel_requested_at is not null as cancelled
  )
  select n::int, 'cancelled' from u where cancelled
  union all
  select t.n::int, case when exists (select from ${names.jobs} j where j.id = t.id and ${owned})
    then 'locked' else 'lost' end
  from asked t where t.n not in (select n from u)`

/** `JobStoreDriver.renew`. */
export const make = (db: Db) => {
  const text = renewStatement(db.names, db.clock)
  return (leases: ReadonlyArray<Lease>, lease: number): Effect.Effect<Renewal, StoreError> => {
    const sorted = [...leases].sort(byId)
    return Effect.map(db.renewal("renew", text, [...leaseColumns(sorted), Params.float(lease)]), (rows) => {
      const renewal = { lost: [] as Array<Lease>, locked: [] as Array<Lease>, cancelled: [] as Array<Lease> }
      for (const [n, what] of rows as ReadonlyArray<[number, keyof Renewal]>) renewal[what].push(sorted[n - 1]!)
      return renewal
    })
  }
}
