/**
 * Cancel and requeue: what a person does to a job. Always on a session of our own, never in the caller's transaction,
 * where they would lock a job row until its end.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { StoreError } from "../../JobError.ts"
import type { CancelOutcome, RequeueOutcome } from "../JobStoreDriver.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import { fromSqlError, sqlState } from "./Failure.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import { type Db, refuseSingle } from "./Sessions.ts"

/** `$1` ids, sorted. Waits for a row that somebody holds (a claim, a settle), at most for the lock timeout. */
export const cancelStatement = (names: Names, clock: DatabaseClock): string =>
  `with held as materialized (
    select j.* from unnest((select $1::uuid[])) as t(id) cross join lateral (
      select j.id, j.status from ${names.jobs} j where j.id = t.id for no key update
    ) j
  ), u as (
    update ${names.jobs} j set
      status = case when j.status = 'queued' then 'cancelled' else j.status end,
      finished_at = case when j.status = 'queued' then ${clock.moment} else j.finished_at end,
      publish_at = null,
      cancel_requested_at = coalesce(j.cancel_requested_at, ${clock.moment})
    where j.id = any(array(select id from held where status in ('queued', 'processing')))
      and j.status in ('queued', 'processing')
    returning j.id, j.status
  )
  select h.id, coalesce((select u.status from u where u.id = h.id), 'ended') from held h`

/** `$1` id. Counters stay; the budgets start again where they are. */
export const requeueStatement = (names: Names, clock: DatabaseClock): string =>
  `with held as materialized (
    select j.id, j.status, ${clock.moment} as at from ${names.jobs} j where j.id = $1::uuid for no key update
  ), u as (
    update ${names.jobs} j set status = 'queued', run_at = h.at, publish_at = case when j.hinted then h.at end,
      publications = 0, retry_from = j.failures, crash_from = j.crashes, result = null, error = null,
      finished_at = null, cancel_requested_at = null
    from held h where j.id = h.id and h.status in ('succeeded', 'failed', 'cancelled')
    returning j.id
  )
  select case when exists (select from u) then 'requeued' else 'live' end from held`

/** `JobStoreDriver.cancel`. */
export const makeCancel = (db: Db) => {
  const text = cancelStatement(db.names, db.clock)
  return Effect.fnUntraced(function* (
    ids: ReadonlyArray<string>
  ): Effect.fn.Return<ReadonlyArray<CancelOutcome>, StoreError> {
    if (ids.length === 0) return []
    yield* refuseSingle(db, "cancel")
    const rows = yield* db.work("cancel", text, [Params.uuids([...new Set(ids)].sort())])
    const became = new Map(rows as ReadonlyArray<[string, "cancelled" | "processing" | "ended"]>)
    return ids.map((id) => {
      const status = became.get(id.toLowerCase())
      return status === undefined ? "missing" : status === "processing" ? "requested" : status
    })
  })
}

/** `JobStoreDriver.requeue`. */
export const makeRequeue = (db: Db) => {
  const text = requeueStatement(db.names, db.clock)
  return Effect.fnUntraced(function* (id: string): Effect.fn.Return<RequeueOutcome, StoreError> {
    yield* refuseSingle(db, "requeue")
    const rows = yield* db
      .pool()
      .client.unsafe(text, [Params.uuid(id)])
      .values.pipe(
        Effect.catchTag("SqlError", (error: SqlError) =>
          sqlState(error) === "23505" ? Effect.succeed([["keyTaken"]]) : Effect.fail(fromSqlError("requeue", error))
        )
      )
    const [row] = rows as ReadonlyArray<[RequeueOutcome]>
    return row === undefined ? "missing" : row[0]
  })
}
