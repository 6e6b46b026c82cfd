/**
 * The backstop of timeouts, for workers that did not act: later than they would have, lease or not. It has no Schedule,
 * so the delay comes from the list that travels with the row.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { JobStoreDriver, Reaped } from "../JobStoreDriver.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import { heldColumns, leave } from "./Exit.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import { jitter, toReaped } from "./Reap.ts"
import type { Db } from "./Sessions.ts"

/** Failures since the last requeue, with this one. */
const failures = "j.failures + 1 - j.retry_from"

/** `$1` limit, `$2` grace. */
export const reapTimeoutsStatement = (names: Names, clock: DatabaseClock): string =>
  `with held as materialized (
    select ${heldColumns}, null::bigint as n, 'timedOut' as outcome,
      case when j.timeout_then = 'fail' or ${failures} >= j.max_attempts then 'failed' else 'queued' end as next,
      j.retry_delays[least(${failures}, cardinality(j.retry_delays))]::float8 * ${jitter} as wait,
      null::jsonb as result,
      jsonb_build_object('code', 'timedOut', 'message',
        format('it ran longer than its timeout of %s ms', j.timeout)) as error
    from ${names.jobs} j
    where j.status = 'processing' and j.timeout_then <> 'ignore'
      and j.started_at + (j.timeout + $2::float8) * interval '1 millisecond' <= ${clock.now}
    order by j.started_at, j.id limit $1::int4 for no key update skip locked
  ), ${leave(names, clock, "reaper")}
  select id, type, queue, attempt, status from u`

/** `JobStoreDriver.reapTimeouts`. */
export const make = (db: Db) => {
  const text = reapTimeoutsStatement(db.names, db.clock)
  return (options: Parameters<JobStoreDriver["reapTimeouts"]>[0]): Effect.Effect<ReadonlyArray<Reaped>, StoreError> =>
    Effect.map(db.work("reapTimeouts", text, [Params.int(options.limit), Params.float(options.grace)]), toReaped)
}
