/**
 * The counts that the fleet keeps: one worker at a time has the duty (a row with a short lease), counts from indexes alone
 * in bounded statements, rests after each as long as it takes to stay at a few percent of one core, and writes one row that
 * everybody reads. Ended jobs, of which there may be millions, are counted as often as that allows.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { FleetQueue, FleetStats, FleetStatsRequest } from "../JobStoreDriver.ts"
import { paused } from "./Claim.ts"
import { type DatabaseClock, millis } from "./DatabaseClock.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import type { Db } from "./Sessions.ts"

/** Index entries per statement: some tens of milliseconds. */
const defaultChunk = 100_000
/** Silence in ms after which somebody else takes over the duty. */
const lease = 60_000
/** Counting takes one part in this of one core, at most. */
const share = 40

const conditions = {
  healthy: "j.status = 'queued' and j.crashes <= j.crash_from",
  suspect: "j.status = 'queued' and j.crashes > j.crash_from"
} as const
type Kind = keyof typeof conditions
const kinds = Object.keys(conditions) as ReadonlyArray<Kind>

/** The first jobs of a lane after `after`, at most `limit` and those of the same instant as the last of them. */
const laneCounts = (
  names: Names,
  clock: DatabaseClock,
  kind: Kind,
  lane: { readonly queue: string; readonly type: string; readonly priority: string; readonly after: string },
  limit: string
): string =>
  `select count(*)::int as n, count(*) filter (where k.run_at <= ${clock.now})::int as due,
    (date_part('epoch', ${clock.now} - min(k.run_at)) * 1000)::float8 as age, max(k.run_at)::text as last
  from (select j.run_at from ${names.jobs} j
    where ${conditions[kind]} and j.queue = ${lane.queue} and j.type = ${lane.type} and j.priority = ${lane.priority}
      and j.run_at > ${lane.after}
    order by j.run_at fetch first (${limit}) rows with ties) k`

/** Every lane (queue, type, priority) that has queued jobs, each with its first `$1` jobs counted. */
export const lanesStatement = (names: Names, clock: DatabaseClock): string => {
  const next = (kind: Kind, after: string) =>
    `select j.queue, j.type, j.priority from ${names.jobs} j where ${conditions[kind]}${after}
      order by j.queue, j.type, j.priority limit 1`
  const lanes = (kind: Kind) =>
    `${kind} as ((${next(kind, "")}) union all select n.* from ${kind} l cross join lateral (
      ${next(kind, " and (j.queue, j.type, j.priority) > (l.queue, l.type, l.priority)")}) n)`
  const counted = (kind: Kind) => {
    const lane = { queue: "l.queue", type: "l.type", priority: "l.priority", after: "'-infinity'" }
    return `select '${kind}', l.queue, l.type, l.priority::int, ${paused(names, clock, "l.queue", "l.type")},
      c.n, c.due, c.age, c.last
    from ${kind} l cross join lateral (${laneCounts(names, clock, kind, lane, "$1::int4")}) c`
  }
  return `with recursive ${kinds.map(lanes).join(", ")} ${kinds.map(counted).join(" union all ")}`
}

/** `$1` queue, `$2` type, `$3` priority, `$4` after, `$5` limit. */
export const laneStatement = (names: Names, clock: DatabaseClock, kind: Kind): string =>
  laneCounts(
    names,
    clock,
    kind,
    { queue: "$1::text", type: "$2::text", priority: "$3::int2", after: "$4::timestamptz" },
    "$5::int4"
  )

/** `$1` silence in ms. */
export const processingStatement = (names: Names, clock: DatabaseClock): string =>
  `select j.queue, count(*)::int, count(*) filter (where j.progress_at is not null
      and greatest(j.progress_at, j.started_at) < ${clock.now} - $1::float8 * interval '1 millisecond')::int
  from ${names.jobs} j where j.status = 'processing' group by j.queue`

/** `$1` status, `$2` after, `$3` limit. */
export const endedStatement = (names: Names): string =>
  `select k.queue, count(*)::int, (max(max(k.finished_at)) over ())::text
  from (select j.queue, j.finished_at from ${names.jobs} j
    where j.status = $1::text and j.finished_at is not null and j.finished_at > $2::timestamptz
    order by j.finished_at fetch first ($3::int4) rows with ties) k
  group by k.queue`

const relayLagStatement = (names: Names, clock: DatabaseClock): string =>
  `select (date_part('epoch', ${clock.now} - min(h.publish_at)) * 1000)::float8
  from generate_series(0, 9) as p(priority) cross join lateral (
    select j.publish_at from ${names.jobs} j
    where j.publish_at is not null and j.publications = 0 and j.priority = p.priority::int2 and j.publish_at <= ${clock.now}
    order by j.publish_at limit 1
  ) h`

const statements = (names: Names, clock: DatabaseClock) => ({
  read: `select counts::text, due_at <= ${clock.now} and leased_until <= ${clock.now} from ${names.stats} where id = 1`,
  take: `insert into ${names.stats} as s (owner, leased_until, due_at)
    select $1::text, ${clock.moment} + $2::float8 * interval '1 millisecond', ${clock.moment}
    on conflict (id) do update set owner = excluded.owner, leased_until = excluded.leased_until
    where s.due_at <= ${clock.now} and s.leased_until <= ${clock.now}
    returning ${millis(clock.moment)}`,
  keep: `update ${names.stats} set leased_until = ${clock.moment} + $2::float8 * interval '1 millisecond'
    where id = 1 and owner = $1::text returning 1`,
  write: `update ${names.stats} set counts = $2::jsonb, leased_until = ${clock.moment},
      due_at = ${clock.moment} + $3::float8 * interval '1 millisecond'
    where id = 1 and owner = $1::text`
})

const endings = ["succeeded", "failed", "cancelled"] as const
type Ended = Readonly<Record<string, Partial<Record<(typeof endings)[number], number>>>>

/** What the row holds. `endedDue`: when ended jobs are counted again, on the clock of the database. */
interface Kept {
  readonly stats: FleetStats
  readonly ended: Ended
  readonly endedDue: number
}

type Counts = { -readonly [Key in keyof FleetQueue]: FleetQueue[Key] }

/** Somebody else has the duty now. */
class Replaced {
  readonly _tag = "Replaced"
}

/** `FleetDriver.fleetStats`. `chunk`: index entries per statement. */
export const make = (db: Db, chunk = defaultChunk) => {
  const { clock, names } = db
  const text = statements(names, clock)
  const lanes = lanesStatement(names, clock)
  const lane = { healthy: laneStatement(names, clock, "healthy"), suspect: laneStatement(names, clock, "suspect") }
  const processing = processingStatement(names, clock)
  const ended = endedStatement(names)
  const relayLag = relayLagStatement(names, clock)

  /** Runs a counting statement, notes what it took, rests in proportion, and keeps the duty. */
  const counter = (owner: string) => {
    let spent = 0
    const count = Effect.fnUntraced(function* (statement: string, params: ReadonlyArray<unknown>) {
      const before = yield* Clock.currentTimeMillis
      const rows = yield* db.work("fleetStats", statement, params)
      const took = (yield* Clock.currentTimeMillis) - before
      spent += took
      // Short ones need no rest: the time until the next count is theirs
      if (took > 10) yield* Effect.sleep(Duration.millis(took * 4))
      const held = yield* db.work("fleetStats", text.keep, [Params.text(owner), Params.float(lease)])
      return held.length === 0 ? yield* Effect.fail(new Replaced()) : rows
    })
    return { count, spent: () => spent }
  }
  type Count = ReturnType<typeof counter>["count"]

  const countLive = Effect.fnUntraced(function* (count: Count, staleAfter: number) {
    const queues = new Map<string, Counts>()
    const of = (queue: string): Counts => {
      const none = { claimable: 0, due: 0, waiting: 0, processing: 0, stale: 0, succeeded: 0, failed: 0, cancelled: 0 }
      const counts = queues.get(queue) ?? { queue, ...none, oldestAge: 0 }
      queues.set(queue, counts)
      return counts
    }
    type LaneRow = [Kind, string, string, number, boolean, number, number, number | null, string | null]
    for (const [kind, queue, type, priority, isPaused, ...first] of (yield* count(lanes, [
      Params.int(chunk)
    ])) as ReadonlyArray<LaneRow>) {
      const counts = of(queue)
      let [n, due, age, last] = first
      counts.oldestAge = Math.max(counts.oldestAge, age ?? 0)
      while (true) {
        counts.due += due
        counts.waiting += n - due
        if (!isPaused) counts.claimable += due
        if (n < chunk || last === null) break
        const params = [
          Params.text(queue),
          Params.text(type),
          Params.int(priority),
          Params.text(last),
          Params.int(chunk)
        ]
        ;[n, due, age, last] = (yield* count(lane[kind], params))[0] as [number, number, number | null, string | null]
      }
    }
    for (const [queue, running, stale] of (yield* count(processing, [Params.float(staleAfter)])) as ReadonlyArray<
      [string, number, number]
    >) {
      of(queue).processing = running
      of(queue).stale = stale
    }
    const [lag] = (yield* count(relayLag, []))[0] as [number | null]
    return { of, queues, relayLag: Math.max(0, lag ?? 0) }
  })

  const countEnded = Effect.fnUntraced(function* (count: Count) {
    const counted: Record<string, Partial<Record<(typeof endings)[number], number>>> = {}
    for (const status of endings) {
      let after: string | undefined = "-infinity"
      while (after !== undefined) {
        const rows = (yield* count(ended, [
          Params.text(status),
          Params.text(after),
          Params.int(chunk)
        ])) as ReadonlyArray<[string, number, string]>
        let total = 0
        for (const [queue, n] of rows) {
          total += n
          const of = (counted[queue] ??= {})
          of[status] = (of[status] ?? 0) + n
        }
        after = total < chunk ? undefined : rows[0]?.[2]
      }
    }
    return counted
  })

  const countAll = Effect.fnUntraced(function* (request: FleetStatsRequest, last: Kept | undefined, now: number) {
    const work = counter(request.worker)
    const live = yield* countLive(work.count, request.staleAfter)
    let { ended, endedDue } = last ?? { ended: {}, endedDue: 0 }
    const spentLive = work.spent()
    if (endedDue <= now) {
      ended = yield* countEnded(work.count)
      endedDue = now + Math.max(request.interval, (work.spent() - spentLive) * share)
    }
    for (const [queue, counts] of Object.entries(ended)) Object.assign(live.of(queue), counts)
    const queues = [...live.queues.values()].sort((a, b) => (a.queue < b.queue ? -1 : 1))
    const kept: Kept = { stats: { countedAt: now, queues, relayLag: live.relayLag }, ended, endedDue }
    const next = Math.max(request.interval, spentLive * share)
    yield* db.work("fleetStats", text.write, [
      Params.text(request.worker),
      Params.text(JSON.stringify(kept)),
      Params.float(next)
    ])
    return kept.stats
  })

  return Effect.fnUntraced(function* (
    request: FleetStatsRequest
  ): Effect.fn.Return<FleetStats | undefined, StoreError> {
    const [row] = (yield* db.work("fleetStats", text.read, [])) as ReadonlyArray<[string | null, boolean]>
    const last = row?.[0] === undefined || row[0] === null ? undefined : (JSON.parse(row[0]) as Kept)
    if (row !== undefined && !row[1]) return last?.stats
    const [taken] = (yield* db.work("fleetStats", text.take, [
      Params.text(request.worker),
      Params.float(lease)
    ])) as ReadonlyArray<[number]>
    if (taken === undefined) return last?.stats
    return yield* Effect.catchTag(countAll(request, last, taken[0]), "Replaced", () => Effect.succeed(last?.stats))
  })
}
