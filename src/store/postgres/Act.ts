/**
 * What people do to many jobs: lock the rows that nobody holds, judge each under its lock, change it, log the attempt that
 * ends, and write the audit row, all in one statement per batch. Always on a session of our own.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { StoreError } from "../../JobError.ts"
import type { ActionOutcome, ActionRequest, ActionResult, JobAction, Status } from "../JobStoreDriver.ts"
import { insertAudit } from "./AuditLog.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import { leave } from "./Exit.ts"
import { fromSqlError, sqlState } from "./Failure.ts"
import { type Binder, binder, conditions } from "./Filter.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import { type Db, refuseSingle } from "./Sessions.ts"

const ended = "j.status in ('succeeded', 'failed', 'cancelled')"

/** Whether its status allows the action. */
const eligible: Record<JobAction, string> = {
  requeue: ended,
  purge: ended,
  runNow: "j.status = 'queued'",
  fail: "j.status in ('queued', 'processing')",
  cancel: "(j.status = 'queued' or (j.status = 'processing' and j.cancel_requested_at is null))"
}

/** What the audit log says of a row. Never a payload. */
const state = `jsonb_strip_nulls(jsonb_build_object('status', j.status, 'type', j.type, 'queue', j.queue,
    'attempt', j.attempt, 'failures', j.failures, 'crashes', j.crashes,
    'runAt', round((date_part('epoch', j.run_at) * 1000)::numeric)::bigint, 'worker', j.lease_owner,
    'error', j.error->>'code', 'cancelRequested', case when j.cancel_requested_at is not null then true end))`

const keyTaken = (names: Names): string =>
  `exists (select from ${names.jobs} k where k.type = h.type and k.unique_key = h.unique_key and k.id <> h.id
    and k.unique_key is not null and (not k.unique_live or k.status in ('queued', 'processing')))`

const hint = "u.queue, u.priority::int, u.attempt, u.status"
const noHint = "null::text as queue, null::int4 as priority, null::int4 as attempt"
/** One changed row: what the log and the answer need. */
const returning = `returning j.id, j.queue, j.priority, j.attempt, j.status, h.before, ${state} as after`

/** The CTEs that change the rows of `go`, the last of them `done`: id, before, after, and what the answer says. */
const change = (names: Names, clock: DatabaseClock, { bind }: Binder, request: ActionRequest): string => {
  const publish = () => {
    const grace = bind(Params.float(request.publishIn))
    return `publish_at = case when j.hinted then ${clock.moment} + ${grace}::float8 * interval '1 millisecond' end,
      publications = case when j.hinted and ${grace}::float8 > 0 then 1 else 0 end`
  }
  const update = (set: string, answer = hint) =>
    `u as (update ${names.jobs} j set ${set} from go h where j.id = h.id ${returning}),
    done as (select u.id, u.before, u.after, ${answer} from u)`
  const silent = `${noHint}, u.status`
  switch (request.action) {
    case "requeue":
      return update(`status = 'queued', run_at = ${clock.moment}, retry_from = j.failures, crash_from = j.crashes,
        result = null, error = null, finished_at = null, cancel_requested_at = null, ${publish()}`)
    case "runNow":
      return update(`run_at = least(j.run_at, ${clock.moment}), ${publish()}`)
    case "cancel":
      return update(
        `status = case when j.status = 'queued' then 'cancelled' else j.status end, publish_at = null,
        finished_at = case when j.status = 'queued' then ${clock.moment} end, cancel_requested_at = ${clock.moment}`,
        silent
      )
    case "purge":
      return `u as (delete from ${names.jobs} j using go h where j.id = h.id returning j.id, h.before),
      done as (select u.id, u.before, null::jsonb as after, ${noHint}, null::text as status from u)`
    case "fail": {
      const why = request.by.reason === undefined ? "" : `: ${request.by.reason}`
      const message = bind(Params.text(`${request.by.who} failed it${why}`))
      const error = `jsonb_build_object('code', 'failedByAdmin', 'message', ${message}::text)`
      return `held as (
        select h.id, h.claim, h.lease_owner, h.started_at, h.cancelled, null::bigint as n, 'failed' as outcome,
          'failed' as next, null::float8 as wait, null::jsonb as result, ${error} as error, h.before
        from go h where h.status = 'processing'
      ), ${leave(names, clock, "admin", "h.before")}, q as (
        update ${names.jobs} j set status = 'failed', finished_at = ${clock.moment}, publish_at = null, error = ${error}
        from go h where h.status = 'queued' and j.id = h.id ${returning}
      ), done as (
        select u.id, u.before, (u.before - 'worker') || jsonb_build_object('status', u.status, 'error', 'failedByAdmin',
          'failures', (u.before->>'failures')::int + 1) as after, ${noHint}, u.status from u
        union all select u.id, u.before, u.after, ${noHint}, u.status from q u
      )`
    }
  }
}

const statement = (names: Names, clock: DatabaseClock, request: ActionRequest) => {
  const values = binder()
  const ids = values.bind(Params.uuids(request.ids))
  const matches = request.filter === undefined ? "true" : conditions(request.filter, clock, values)
  const strength = request.action === "purge" ? "update" : "no key update"
  const text = `with asked as materialized (
    select t.id from unnest((select ${ids}::uuid[])) as t(id)
  ), locked as materialized (
    select j.* from asked t cross join lateral (
      select j.id, j.type, j.unique_key, j.status, j.claim, j.lease_owner, j.started_at,
        j.cancel_requested_at is not null as cancelled, ${state} as before,
        case when (${matches}) is not true then 'changed' when ${eligible[request.action]} then 'done'
          else 'ineligible' end as verdict
      from ${names.jobs} j where j.id = t.id for ${strength} skip locked
    ) j
  ), judged as materialized (
    select h.*, ${
      request.action === "requeue"
        ? `case when h.verdict = 'done' and h.unique_key is not null and ${keyTaken(names)} then 'keyTaken' else h.verdict end`
        : "h.verdict"
    } as outcome from locked h
  ), go as materialized (
    select h.* from judged h where h.outcome = 'done'
  ), ${change(names, clock, values, request)}, written as (
    ${insertAudit(
      names,
      clock,
      values,
      { action: request.action, kind: "job", by: request.by, operation: request.operation },
      { target: "d.id::text", before: "d.before", after: "d.after", from: "done d" }
    )}
  )
  select d.id::text, 'done', d.queue, d.priority, d.attempt, d.status from done d
  union all select h.id::text, h.outcome, ${noHint}, h.status from judged h where h.outcome <> 'done'
  union all select t.id::text, case when exists (select from ${names.jobs} j where j.id = t.id) then 'locked'
    else 'missing' end, ${noHint}, null from asked t where t.id not in (select id from locked)`
  return { text, params: values.params }
}

type Row = [
  id: string,
  outcome: ActionOutcome,
  queue: string | null,
  priority: number | null,
  attempt: number | null,
  status: Status | null
]

const toResult = ([id, outcome, queue, priority, attempt, status]: Row): ActionResult => ({
  id,
  outcome,
  hint: queue === null || priority === null || attempt === null ? undefined : { queue, priority, attempt },
  status: status ?? undefined
})

/** `ControlDriver.act`. */
export const make = (db: Db) => {
  const run = (request: ActionRequest): Effect.Effect<ReadonlyArray<ActionResult>, StoreError> => {
    const { params, text } = statement(db.names, db.clock, request)
    return Effect.catchTag(
      Effect.map(db.pool().client.unsafe(text, params).values, (rows) =>
        (rows as unknown as ReadonlyArray<Row>).map(toResult)
      ),
      "SqlError",
      (error: SqlError) => {
        // Two of the batch share a unique key: the first to come gets it
        if (request.action !== "requeue" || sqlState(error) !== "23505") return Effect.fail(fromSqlError("act", error))
        const [first] = request.ids
        if (request.ids.length === 1 && first !== undefined) {
          return Effect.succeed([{ id: first, outcome: "keyTaken", hint: undefined, status: undefined } as const])
        }
        const half = request.ids.length >> 1
        return Effect.zipWith(
          run({ ...request, ids: request.ids.slice(0, half) }),
          run({ ...request, ids: request.ids.slice(half) }),
          (a, b) => [...a, ...b]
        )
      }
    )
  }
  return Effect.fnUntraced(function* (
    request: ActionRequest
  ): Effect.fn.Return<ReadonlyArray<ActionResult>, StoreError> {
    if (request.ids.length === 0) return []
    yield* refuseSingle(db, request.action)
    const asked = request.ids.map((id) => id.toLowerCase())
    const results = new Map(
      (yield* run({ ...request, ids: [...new Set(asked)].sort() })).map((result) => [result.id, result])
    )
    return asked.map((id) => results.get(id)!)
  })
}
