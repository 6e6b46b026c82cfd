/**
 * The relay's statement: takes hints that are due, priority by priority, and moves them forward before anybody publishes
 * them. So any number of relays publish a row once per period, and a crash in between only delays.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { DueHint, JobStoreDriver } from "../JobStoreDriver.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import type { Db } from "./Sessions.ts"

/** `$1` limit; `again`: also those that were published before. */
export const takeHintsStatement = (names: Names, clock: DatabaseClock, again: boolean): string => {
  const due = (publications: string) =>
    `(select j.ctid as row from ${names.jobs} j
      where j.publish_at is not null and j.publications ${publications} and j.priority = p.priority::int2
        and j.publish_at <= ${clock.now}
      order by j.publish_at limit $1::int4 for no key update skip locked)`
  return `with picked as materialized (
    select taken.row from generate_series(0, 9) as p(priority) cross join lateral (
      select row from ${due("= 0")} first${again ? ` union all select row from ${due("> 0")} again` : ""}
    ) taken limit $1::int4
  )
  update ${names.jobs} j set publications = j.publications + 1,
    publish_at = ${clock.moment} + least(10000 * power(2, least(j.publications, 10)), 600000) * interval '1 millisecond'
  where j.ctid = any(array(select row from picked))
  returning j.id, j.queue, j.type, j.priority::int, j.attempt, j.publications, date_part('epoch', j.run_at)::float8`
}

/** `JobStoreDriver.takeHints`. */
export const make = (db: Db) => {
  const first = takeHintsStatement(db.names, db.clock, false)
  const all = takeHintsStatement(db.names, db.clock, true)
  return (options: Parameters<JobStoreDriver["takeHints"]>[0]): Effect.Effect<ReadonlyArray<DueHint>, StoreError> =>
    Effect.map(db.work("takeHints", options.again ? all : first, [Params.int(options.limit)]), (rows) =>
      (rows as ReadonlyArray<[string, string, string, number, number, number, number]>)
        .map(([id, queue, type, priority, attempt, publication, runAt]) => ({
          hint: { id, queue, type, priority, attempt, publication },
          runAt
        }))
        .sort((a, b) => a.hint.priority - b.hint.priority || a.runAt - b.runAt || (a.hint.id < b.hint.id ? -1 : 1))
        .map(({ hint }) => hint)
    )
}
