/**
 * The reaper: the only SQL that ends attempts whose lease has expired. Any number of copies may run at once; the
 * predicate is checked again under the row's lock, so a renewal that came first wins.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { JobStoreDriver, Reaped, Status } from "../JobStoreDriver.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import { heldColumns, leave } from "./Exit.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import type { Db, Rows } from "./Sessions.ts"

/** ±20 %: rows that failed together do not come back together. */
export const jitter = "(0.8 + 0.4 * random())"

/** Crashes since the last requeue, with this one. */
const crashes = "j.crashes + 1 - j.crash_from"

/** `$1` limit, `$2` workers to leave alone; with ids, `$3` are the only ones looked at. */
export const reapStatement = (names: Names, clock: DatabaseClock, withIds: boolean): string =>
  `with held as materialized (
    select ${heldColumns}, null::bigint as n, 'crashed' as outcome,
      case when ${crashes} >= j.max_crashes then 'failed' else 'queued' end as next,
      case when ${crashes} = 1 then 0 else least(2000 * power(2, least(${crashes} - 2, 10)), 60000) * ${jitter} end as wait,
      null::jsonb as result,
      case when ${crashes} >= j.max_crashes
        then jsonb_build_object('code', 'poison', 'message', format('it crashed its worker %s times', ${crashes}))
        else jsonb_build_object('code', 'crashed', 'message',
          'its lease expired: the worker crashed, hung or lost its connection') end as error
    from ${names.jobs} j
    where j.status = 'processing' and j.lease_expires_at <= ${clock.now} and j.lease_owner <> all($2::text[])
      ${withIds ? "and j.id = any($3::uuid[])" : ""}
    order by j.lease_expires_at, j.id limit $1::int4 for no key update skip locked
  ), ${leave(names, clock, "reaper")}
  select id, type, queue, attempt, status from u`

/** Rows of `u`. */
export const toReaped = (rows: Rows): ReadonlyArray<Reaped> =>
  (rows as ReadonlyArray<[string, string, string, number, Status]>).map(([id, type, queue, attempt, status]) => ({
    id,
    type,
    queue,
    attempt,
    status
  }))

/** `JobStoreDriver.reap`. */
export const make = (db: Db) => {
  const sweep = reapStatement(db.names, db.clock, false)
  const named = reapStatement(db.names, db.clock, true)
  return (options: Parameters<JobStoreDriver["reap"]>[0]): Effect.Effect<ReadonlyArray<Reaped>, StoreError> => {
    const params = [Params.int(options.limit), Params.texts(options.exceptWorkers)]
    return Effect.map(
      options.ids === undefined
        ? db.work("reap", sweep, params)
        : db.work("reap", named, [...params, Params.uuids(options.ids)]),
      toReaped
    )
  }
}
