/** Retention: deletes what ended long enough ago, the oldest first, in bounded batches, around what others hold. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { Retention } from "../JobStoreDriver.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import type { Db } from "./Sessions.ts"

/** `$1` limit; ages in ms or null (for ever): `$2` succeeded, `$3` failed, `$4` cancelled, `$5` attempts. */
export const pruneStatement = (names: Names, clock: DatabaseClock): string => {
  const ended = (status: string, age: string) =>
    `(select j.ctid as row from ${names.jobs} j
      where j.status = '${status}' and j.finished_at <= ${clock.now} - ${age}::float8 * interval '1 millisecond'
      order by j.finished_at limit $1::int4 for update skip locked)`
  return `with expired as materialized (
    select row from (
      select row from ${ended("succeeded", "$2")} a
      union all select row from ${ended("failed", "$3")} b
      union all select row from ${ended("cancelled", "$4")} c
    ) ended limit $1::int4
  ), jobs as (
    delete from ${names.jobs} j where j.ctid = any(array(select row from expired)) returning 1
  ), attempts as (
    delete from ${names.attempts} a where a.ctid = any(array(
      select a.ctid from ${names.attempts} a
      where a.ended_at <= ${clock.now} - $5::float8 * interval '1 millisecond'
      limit $1::int4 for update skip locked
    )) returning 1
  )
  select (select count(*) from jobs)::int + (select count(*) from attempts)::int`
}

/** `JobStoreDriver.prune`. */
export const make = (db: Db) => {
  const text = pruneStatement(db.names, db.clock)
  return (retention: Retention, limit: number): Effect.Effect<number, StoreError> =>
    Effect.map(
      db.work("prune", text, [
        Params.int(limit),
        Params.float(retention.succeeded ?? null),
        Params.float(retention.failed ?? null),
        Params.float(retention.cancelled ?? null),
        Params.float(retention.attempts ?? null)
      ]),
      (rows) => Number(rows[0]?.[0])
    )
}
