/** Gives back what is held under claims whose outcome was unknown: nothing of it was started, so it costs nothing. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import { heldColumns, leave } from "./Exit.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import type { Db } from "./Sessions.ts"

/** `$1` worker, `$2` claims. */
export const abandonStatement = (names: Names, clock: DatabaseClock): string =>
  `with held as materialized (
    select ${heldColumns}, null::bigint as n, 'released' as outcome, 'queued' as next, null::float8 as wait,
      null::jsonb as result, null::jsonb as error
    from ${names.jobs} j
    where j.status = 'processing' and j.lease_owner = $1::text and j.claim = any($2::uuid[])
    order by j.id for no key update skip locked
  ), ${leave(names, clock, "worker")}
  select count(*)::int from u`

/** `JobStoreDriver.abandon`. */
export const make = (db: Db) => {
  const text = abandonStatement(db.names, db.clock)
  return (worker: string, claims: ReadonlyArray<string>): Effect.Effect<number, StoreError> =>
    Effect.map(db.work("abandon", text, [Params.text(worker), Params.uuids(claims)]), (rows) => Number(rows[0]?.[0]))
}
