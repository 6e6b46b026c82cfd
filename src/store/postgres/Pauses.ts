/**
 * What is paused: rows of `…_queues`, which every claim looks at. An empty queue is every queue, an empty type every type.
 * A pause and its audit row are one statement.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { ControlDriver, Pause, PauseTarget } from "../JobStoreDriver.ts"
import { insertAudit } from "./AuditLog.ts"
import { type DatabaseClock, millis } from "./DatabaseClock.ts"
import { binder } from "./Filter.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import { type Db, refuseSingle } from "./Sessions.ts"

/** True for a pause that has not ended. */
const active = (clock: DatabaseClock): string => `(q.paused_until is null or q.paused_until > ${clock.now})`

const columns = `q.queue, q.type, ${millis("q.paused_at")}, ${millis("q.paused_until")}, q.reason`

type Row = [queue: string, type: string, since: number, until: number | null, reason: string | null]

const toPause = ([queue, type, since, until, reason]: Row): Pause => ({
  queue: queue === "" ? undefined : queue,
  type: type === "" ? undefined : type,
  since,
  until: until ?? undefined,
  reason: reason ?? undefined
})

/** Pauses that hold a job of this queue and type, as JSON. */
export const pausesJson = (names: Names, clock: DatabaseClock, queue: string, type: string): string =>
  `(select json_agg(json_build_array(${columns}) order by q.queue collate "C", q.type collate "C")::text
    from ${names.queues} q
    where q.queue in ('', ${queue}) and q.type in ('', ${type}) and ${active(clock)})`

/** What `pausesJson` answered. */
export const fromJson = (text: string | null): ReadonlyArray<Pause> =>
  text === null ? [] : (JSON.parse(text) as ReadonlyArray<Row>).map(toPause)

/** How the audit log names what is paused. */
export const targetOf = ({ queue, type }: PauseTarget): string =>
  type === undefined ? (queue ?? "*") : `${queue ?? "*"}/${type}`

const state = `jsonb_strip_nulls(jsonb_build_object('until', ${millis("q.paused_until")}, 'reason', q.reason))`

/** `ControlDriver.pause`. */
export const makePause = (db: Db): ControlDriver["pause"] =>
  Effect.fnUntraced(function* (request): Effect.fn.Return<Pause, StoreError> {
    yield* refuseSingle(db, "pause")
    const { clock, names } = db
    const values = binder()
    const [queue, type, reason] = [request.queue ?? "", request.type ?? "", request.by.reason ?? null].map((value) =>
      values.bind(Params.text(value))
    )
    const until = values.bind(Params.float(request.until ?? null))
    const duration = values.bind(Params.float(request.duration ?? null))
    const text = `with old as materialized (
        select ${state} as before from ${names.queues} q
        where q.queue = ${queue} and q.type = ${type} and ${active(clock)}
      ), q as (
        insert into ${names.queues} as q (queue, type, paused_at, paused_until, reason)
        select ${queue}, ${type}, c.at, coalesce(to_timestamp(${until}::float8 / 1000),
          c.at + ${duration}::float8 * interval '1 millisecond'), ${reason} from (select ${clock.moment} as at) c
        on conflict (queue, type) do update set paused_at = excluded.paused_at, paused_until = excluded.paused_until,
          reason = excluded.reason
        returning q.*
      ), written as (
        ${insertAudit(
          names,
          clock,
          values,
          { action: "pause", kind: "queue", by: request.by, operation: request.operation },
          {
            target: `${values.bind(Params.text(targetOf(request)))}::text`,
            before: "(select before from old)",
            after: state,
            from: "q"
          }
        )}
      )
      select ${columns} from q`
    const [row] = (yield* db.work("pause", text, values.params)) as ReadonlyArray<Row>
    return toPause(row!)
  })

/** `ControlDriver.resume`. */
export const makeResume = (db: Db): ControlDriver["resume"] =>
  Effect.fnUntraced(function* (request): Effect.fn.Return<boolean, StoreError> {
    yield* refuseSingle(db, "resume")
    const { clock, names } = db
    const values = binder()
    const queue = values.bind(Params.text(request.queue ?? ""))
    const type = values.bind(Params.text(request.type ?? ""))
    const text = `with gone as (
        delete from ${names.queues} q where q.queue = ${queue} and q.type = ${type} returning q.*
      ), q as (
        select q.* from gone q where ${active(clock)}
      ), written as (
        ${insertAudit(
          names,
          clock,
          values,
          { action: "resume", kind: "queue", by: request.by, operation: request.operation },
          {
            target: `${values.bind(Params.text(targetOf(request)))}::text`,
            before: state,
            after: "null::jsonb",
            from: "q"
          }
        )}
      )
      select count(*)::int from q`
    const rows = yield* db.work("resume", text, values.params)
    return Number(rows[0]?.[0]) > 0
  })

/** `ControlDriver.pauses`. */
export const makePauses = (db: Db): ControlDriver["pauses"] =>
  Effect.map(
    db.ambient(
      "pauses",
      `select ${columns} from ${db.names.queues} q where ${active(db.clock)}
        order by q.queue collate "C", q.type collate "C"`,
      []
    ),
    (rows) => (rows as ReadonlyArray<Row>).map(toPause)
  )
