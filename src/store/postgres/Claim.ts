/**
 * The claim: one statement for all pools of a worker. It walks the (queue, type, priority) lanes that have jobs, head by
 * head, in the order of priority and then of the oldest head, and locks nothing it does not take. So a million future
 * jobs of a better priority, jobs of types nobody asked for, and paused queues cost it nothing.
 *
 * `now()` decides what is due (an index condition); the lease is computed after the row is held. Rows are taken by their
 * `ctid`, which the lock pins: always a TID scan, whatever the statistics say.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { ClaimedJob, ClaimPool, ClaimRequest, TimeoutThen } from "../JobStoreDriver.ts"
import { type DatabaseClock, millis } from "./DatabaseClock.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import type { Db, Rows } from "./Sessions.ts"

/** True for the rows of `queue` and `type` while they are paused: that queue or all, that type or all. */
export const paused = (names: Names, clock: DatabaseClock, queue: string, type: string): string =>
  `exists (select from ${names.queues} q where q.queue in ('', ${queue}) and q.type in ('', ${type})
    and (q.paused_until is null or q.paused_until > ${clock.now}))`

const healthy = "j.status = 'queued' and j.crashes <= j.crash_from"
/** A queued job that crashed a worker since the last requeue. */
export const suspicious = "j.status = 'queued' and j.crashes > j.crash_from"

/** The lanes of `asked` that have a queued job, each with the earliest `run_at` in it: one index probe per lane. */
export const lanes = (names: Names, condition = healthy): string => {
  const head = (after: string) =>
    `select j.priority, j.run_at from ${names.jobs} j
      where ${condition} and j.queue = l.queue and j.type = l.type${after}
      order by j.priority, j.run_at, j.id limit 1`
  return `select l.*, h.priority, h.run_at as head from asked l cross join lateral (${head("")}) h
    union all
    select l.pool, l.queue, l.type, h.priority, h.run_at
    from LANES l cross join lateral (${head(" and j.priority > l.priority")}) h`
}

/**
 * What every claim writes. `$1` claim, `$2` worker, `$3` lease. The clock is read once per statement, and after `rows` have
 * been locked: they are needed for the first row, a subquery in SET is not evaluated before it.
 */
export const take = (names: Names, clock: DatabaseClock, rows: string): string =>
  `update ${names.jobs} j set status = 'processing', attempt = j.attempt + 1, claim = $1::uuid, lease_owner = $2::text,
    started_at = (select ${clock.moment}),
    lease_expires_at = (select ${clock.moment} + $3::float8 * interval '1 millisecond'),
    fence = greatest(j.fence + 1, (select (date_part('epoch', ${clock.moment}) * 1000000)::bigint)),
    publish_at = null, publications = 0
  where j.ctid = any(array(${rows}))
  returning ${claimed}`

const claimed = `j.id, j.attempt, j.type, j.queue, j.priority::int, j.fence::float8, j.payload,
    j.failures - j.retry_from, j.snoozes, j.max_attempts, j.max_snoozes, j.crashes > j.crash_from,
    j.timeout::float8, j.timeout_then, ${millis("j.enqueued_at")}, ${millis("j.run_at")}, j.metadata, j.error ->> 'trace'`

type ClaimedRow = [
  id: string,
  attempt: number,
  type: string,
  queue: string,
  priority: number,
  fence: number,
  payload: unknown,
  failures: number,
  snoozes: number,
  maxAttempts: number,
  maxSnoozes: number,
  suspect: boolean,
  timeout: number | null,
  timeoutThen: TimeoutThen,
  enqueuedAt: number,
  runAt: number,
  metadata: Readonly<Record<string, string>> | null,
  failedTrace: string | null
]

/** Rows of `take`, in claim order: RETURNING has none. */
export const toClaimed = (claim: string, rows: Rows): ReadonlyArray<ClaimedJob> =>
  (rows as ReadonlyArray<ClaimedRow>)
    .map((row): ClaimedJob => ({
      claim,
      id: row[0],
      attempt: row[1],
      type: row[2],
      queue: row[3],
      priority: row[4],
      fence: row[5],
      payload: row[6],
      failures: row[7],
      snoozes: row[8],
      maxAttempts: row[9],
      maxSnoozes: row[10],
      suspect: row[11],
      timeout: row[12] ?? undefined,
      timeoutThen: row[13],
      enqueuedAt: row[14],
      runAt: row[15],
      metadata: row[16] ?? undefined,
      failedTrace: row[17] ?? undefined
    }))
    .sort((a, b) => a.priority - b.priority || a.runAt - b.runAt || (a.id < b.id ? -1 : 1))

const lock = (names: Names, clock: DatabaseClock, condition: string, limit: string): string =>
  `select j.ctid as row from ${names.jobs} j
    where ${condition} and j.queue = l.queue and j.type = l.type and j.priority = l.priority and j.run_at <= ${clock.now}
    order by j.run_at, j.id limit ${limit} for no key update skip locked`

/**
 * Whether there is a suspect at all is asked first, in the order of their index: a bare EXISTS believes statistics that
 * see one in three jobs as a suspect, and reads the table to find it. `$8` how many.
 */
const suspects = (names: Names, clock: DatabaseClock): string => `, suspect as materialized (
    select l.pool, taken.row from (
      select l.pool, l.queue, l.type, priority::int2 as priority, h.run_at
      from asked l cross join generate_series(0, 9) as priority
      cross join lateral (
        select j.run_at from ${names.jobs} j
        where ${suspicious} and j.queue = l.queue and j.type = l.type and j.priority = priority.priority::int2
          and j.run_at <= ${clock.now}
        order by j.run_at, j.id limit 1
      ) h
      where (select true from ${names.jobs} j where ${suspicious}
          order by j.queue, j.type, j.priority, j.run_at, j.id limit 1)
        and exists (select from pools p where p.pool = l.pool and p.slots > 0)
      order by priority, h.run_at
    ) l cross join lateral (${lock(names, clock, suspicious, "1")}) taken
    limit $8::int4
  )`

/**
 * `$4` slots per pool; `$5`, `$6`, `$7` pool, queue and type of the ranges. Claims `withSuspects` have a statement of
 * their own: what Postgres prepares for every run of it, most claims would pay for nothing.
 */
export const claimStatement = (names: Names, clock: DatabaseClock, withSuspects: boolean): string =>
  `with recursive pools as materialized (
    select pool, slots from unnest((select $4::int4[])) with ordinality as p(slots, pool)
  ), asked as materialized (
    select r.pool, r.queue, r.type
    from unnest((select $5::int4[]), (select $6::text[]), (select $7::text[])) as r(pool, queue, type)
    where not ${paused(names, clock, "r.queue", "r.type")}
  ), lanes as (
    ${lanes(names).replace("LANES", "lanes")}
  )${withSuspects ? suspects(names, clock) : ""}, picked as materialized (
    select taken.row from pools p cross join lateral (
      select taken.row from (
        select l.queue, l.type, l.priority from lanes l
        where l.pool = p.pool and l.head <= ${clock.now}
        order by l.priority, l.head
      ) l cross join lateral (${lock(names, clock, healthy, "p.slots")}) taken
      limit ${withSuspects ? "greatest(p.slots - (select count(*) from suspect s where s.pool = p.pool), 0)" : "p.slots"}
    ) taken
  )
  ${take(names, clock, `select row from picked${withSuspects ? " union all select row from suspect" : ""}`)}`

/** The ranges of all pools as columns: the number of the pool (from 1), the queue, the type. */
export const rangeColumns = (pools: ReadonlyArray<Pick<ClaimPool, "ranges">>) => {
  const ranges = pools.flatMap((pool, at) => pool.ranges.map((range) => ({ pool: at + 1, ...range })))
  return [
    Params.ints(ranges.map(({ pool }) => pool)),
    Params.texts(ranges.map(({ queue }) => queue)),
    Params.texts(ranges.map(({ type }) => type))
  ] as const
}

/** `JobStoreDriver.claim`. */
export const make = (db: Db) => {
  const withSuspects = claimStatement(db.names, db.clock, true)
  const without = claimStatement(db.names, db.clock, false)
  return (request: ClaimRequest): Effect.Effect<ReadonlyArray<ClaimedJob>, StoreError> =>
    Effect.map(
      db.work("claim", request.suspects > 0 ? withSuspects : without, [
        Params.uuid(request.claim),
        Params.text(request.worker),
        Params.float(request.lease),
        Params.ints(request.pools.map(({ limit }) => limit)),
        ...rangeColumns(request.pools),
        ...(request.suspects > 0 ? [Params.int(request.suspects)] : [])
      ]),
      (rows) => toClaimed(request.claim, rows)
    )
}
