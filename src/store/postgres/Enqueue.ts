/**
 * Enqueue: on the caller's client, in its transaction when there is one (then inside a savepoint, so that a refusal does
 * not spoil the caller's work). `ON CONFLICT DO NOTHING` plus a look-up: no existing job row is ever locked. Jobs with a
 * unique key are inserted by a statement of their own, in the order of their keys, so that two such calls never deadlock.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { StoreError } from "../../JobError.ts"
import type { Announcement, Announcer } from "../Announcer.ts"
import type { EnqueueOutcome, NewJob } from "../JobStoreDriver.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import { alikeParams, alikeStatement, announcedStatement, areAlike, arrayText, few, uuid } from "./EnqueueAlike.ts"
import * as Duplicates from "./Duplicates.ts"
import type { Entry } from "./Duplicates.ts"
import { fromSqlError } from "./Failure.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import type { Db, Run } from "./Sessions.ts"
import { isStoreFailure, undying } from "./Undying.ts"

const columns = [
  ["id", "uuid"],
  ["run_at_ms", "float8"],
  ["delay", "float8"],
  ["publish_in", "float8"],
  ["timeout", "float8"],
  ["max_attempts", "int4"],
  ["max_crashes", "int4"],
  ["max_snoozes", "int4"],
  ["priority", "int4"],
  ["hinted", "bool"],
  ["unique_live", "bool"],
  ["queue", "text"],
  ["type", "text"],
  ["timeout_then", "text"],
  ["unique_key", "text"],
  ["payload", "text"],
  ["retry_delays", "text"],
  ["tags", "text"],
  ["metadata", "text"]
] as const

/**
 * Parameters in the order of `columns`. `logged`: the ids may have attempts in the log, above which the new row starts;
 * otherwise the log is not even mentioned, so that a role that only enqueues needs no right to it. Answers the count of
 * inserted rows and, when short, their ids.
 */
export const insertStatement = (names: Names, clock: DatabaseClock, logged: boolean): string => {
  const attempt = logged ? `coalesce((select max(a.attempt) from ${names.attempts} a where a.job_id = t.id), 0)` : "0"
  return `with i as (
    insert into ${names.jobs} (id, run_at, enqueued_at, publish_at, publications, timeout, attempt, max_attempts, max_crashes,
      max_snoozes, priority, hinted, unique_live, status, queue, type, timeout_then, unique_key, payload, retry_delays,
      tags, metadata)
    select t.id, t.run_at, t.at, case when t.hinted then t.run_at + t.publish_in * interval '1 millisecond' end,
      case when t.hinted and t.publish_in > 0 then 1 else 0 end,
      t.timeout::bigint, ${attempt}, t.max_attempts, t.max_crashes, t.max_snoozes, t.priority::int2, t.hinted,
      t.unique_live, 'queued', t.queue, t.type, t.timeout_then, t.unique_key, t.payload::jsonb,
      t.retry_delays::real[], t.tags::text[], t.metadata::jsonb
    from (
      select t.*, c.at, coalesce(to_timestamp(t.run_at_ms / 1000), c.at + t.delay * interval '1 millisecond') as run_at
      from (select ${clock.moment} as at) c, unnest(${columns
        .map(([, type], at) => `(select $${at + 1}::${type}[])`)
        .join(", ")}) as t(${columns.map(([name]) => name).join(", ")})
    ) t
    on conflict do nothing
    returning id
  )
  select count(*)::int, case when count(*) < (select cardinality($1::uuid[])) then array_agg(id::text) end from i`
}

const insertParams = (jobs: ReadonlyArray<NewJob>) => [
  Params.uuids(jobs.map((job) => job.id)),
  Params.floats(jobs.map((job) => job.runAt)),
  Params.floats(jobs.map((job) => job.delay)),
  Params.floats(jobs.map((job) => job.publishIn)),
  Params.floats(jobs.map((job) => job.timeout)),
  Params.ints(jobs.map((job) => Params.limit(job.maxAttempts))),
  Params.ints(jobs.map((job) => Params.limit(job.maxCrashes))),
  Params.ints(jobs.map((job) => Params.limit(job.maxSnoozes))),
  Params.ints(jobs.map((job) => job.priority)),
  Params.bools(jobs.map((job) => job.hinted)),
  Params.bools(jobs.map((job) => job.keyScope === "live")),
  Params.texts(jobs.map((job) => job.queue)),
  Params.texts(jobs.map((job) => job.type)),
  Params.texts(jobs.map((job) => job.timeoutThen)),
  Params.texts(jobs.map((job) => job.key)),
  Params.texts(jobs.map((job) => job.payload)),
  Params.texts(jobs.map((job) => arrayText(job.retryDelays))),
  Params.texts(jobs.map((job) => arrayText(job.tags))),
  Params.texts(jobs.map((job) => job.metadata))
]

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
const byId = (a: Entry, b: Entry): number => byText(a.id, b.id) || a.at - b.at
const byKey = (a: Entry, b: Entry): number =>
  byText(a.job.type, b.job.type) || byText(a.job.key ?? "", b.job.key ?? "") || a.at - b.at

const notUuid = (id: string) =>
  new StoreError({
    reason: "Refused",
    operation: "enqueue",
    message: `the id of job ${id} cannot be stored: it is not a UUID`
  })

const inserted: EnqueueOutcome = { _tag: "Inserted" }
const announced: EnqueueOutcome = { _tag: "Inserted", announced: true }

/** Where a statement that is refused as a whole says nothing of each job. */
const ifRefused = <A, B>(first: Effect.Effect<A, StoreError>, otherwise: () => Effect.Effect<B, StoreError>) =>
  Effect.catchIf(
    first,
    (error) => error.reason === "Refused",
    () => otherwise()
  )

/** How often a job that was neither inserted nor found (the other side rolled back, or ended) is tried again. */
const rounds = 5

/** `JobStoreDriver.enqueue`. */
export const make = (db: Db) => {
  const insertFresh = insertStatement(db.names, db.clock, false)
  const insertLogged = insertStatement(db.names, db.clock, true)
  const insertAlike = alikeStatement(db.names, db.clock)
  const insertAnnounced = announcedStatement(db.names, db.clock)
  const explain = Duplicates.make(db.names)

  /** Inserts a group by one statement, and answers those that were not inserted. */
  const insert = (run: Run, text: string, group: ReadonlyArray<Entry>, outcomes: Array<EnqueueOutcome>) =>
    Effect.map(run("enqueue", text, insertParams(group.map(({ job }) => job))), (rows): ReadonlyArray<Entry> => {
      const [row] = rows as ReadonlyArray<[number, ReadonlyArray<string> | null]>
      const some = row?.[0] === group.length ? undefined : new Set(row?.[1])
      return group.filter((entry) => {
        if (some !== undefined && !some.delete(entry.id)) return true
        outcomes[entry.at] = inserted
        return false
      })
    })

  /** Inserts all of them, on one client. Fails as a whole. */
  const insertAll = Effect.fnUntraced(function* (
    run: Run,
    entries: ReadonlyArray<Entry>,
    outcomes: Array<EnqueueOutcome>
  ): Effect.fn.Return<void, StoreError> {
    let rest = entries
    for (let round = 0; rest.length > 0; round++) {
      if (round === rounds) {
        return yield* Effect.fail(
          new StoreError({
            reason: "Conflict",
            operation: "enqueue",
            message: `enqueue: ${rest.length} jobs met others that came and went ${rounds} times: retry`
          })
        )
      }
      const missing: Array<Entry> = []
      for (const [text, members, order] of [
        [insertFresh, rest.filter(({ job }) => job.freshId && job.key === undefined), byId],
        [insertLogged, rest.filter(({ job }) => !job.freshId && job.key === undefined), byId],
        [insertFresh, rest.filter(({ job }) => job.freshId && job.key !== undefined), byKey],
        [insertLogged, rest.filter(({ job }) => !job.freshId && job.key !== undefined), byKey]
      ] as const) {
        if (members.length > 0) missing.push(...(yield* insert(run, text, members.sort(order), outcomes)))
      }
      rest = missing.length === 0 ? missing : yield* explain(run, missing, outcomes)
    }
  })

  /** Inserts what is alike by the cheap statement. Fails as a whole. */
  const insertAllAlike = (jobs: ReadonlyArray<NewJob>) =>
    Effect.map(db.ambient("enqueue", insertAlike, alikeParams(jobs)), () => jobs.map(() => inserted))

  /** The same, with a notification. The jobs go in without it when it is the notification that the database refuses. */
  const insertAndAnnounce = (jobs: ReadonlyArray<NewJob>, { channel, end, payload }: Announcement) =>
    db.ambient("enqueue", insertAnnounced, [...alikeParams(jobs), Params.text(channel), Params.text(payload)]).pipe(
      Effect.map(([row]) => {
        const isSent = row?.[0] === true
        end(isSent ? "sent" : "unsent")
        return jobs.map(() => (isSent ? announced : inserted))
      }),
      Effect.catchIf(
        ({ reason }) => reason === "Refused" || reason === "Denied",
        () => Effect.tap(insertAllAlike(jobs), () => Effect.sync(() => end("refused")))
      ),
      Effect.onError(() => Effect.sync(() => end("unsent")))
    )

  /** Outside a transaction. A commit that notifies has to be short. */
  const insertLone = (jobs: ReadonlyArray<NewJob>, announcer: Announcer | undefined) =>
    announcer === undefined || announcer.client !== db.ambientClient || jobs.length > few
      ? insertAllAlike(jobs)
      : Effect.suspend(() => {
          const announcement = announcer.announce(jobs[0]!.queue)
          return announcement === undefined ? insertAllAlike(jobs) : insertAndAnnounce(jobs, announcement)
        })

  /** Inserts inside a transaction or savepoint; what is refused as a whole is halved until the culprit stands alone. */
  const inTransaction = (
    client: SqlClient,
    run: Run,
    entries: ReadonlyArray<Entry>,
    outcomes: Array<EnqueueOutcome>
  ): Effect.Effect<void, StoreError> =>
    undying(client.withTransaction(insertAll(run, entries, outcomes)), isStoreFailure).pipe(
      Effect.catchTag("SqlError", (error: SqlError) => Effect.fail(fromSqlError("enqueue", error))),
      Effect.catchIf(
        (error) => error.reason === "Refused",
        (error) => {
          for (const { at } of entries) delete outcomes[at]
          if (entries.length === 1) {
            outcomes[entries[0]!.at] = { _tag: "Refused", error }
            return Effect.void
          }
          const half = entries.length >> 1
          return Effect.andThen(
            inTransaction(client, run, entries.slice(0, half), outcomes),
            inTransaction(client, run, entries.slice(half), outcomes)
          )
        }
      )
    )

  /** Outside a transaction a conflict with another one is ours to retry. */
  const conflicts = {
    schedule: Schedule.max([Schedule.jittered(Schedule.exponential("20 millis")), Schedule.recurs(4)]),
    while: (error: StoreError) => error.reason === "Conflict"
  }

  const outside = (entries: ReadonlyArray<Entry>, outcomes: Array<EnqueueOutcome>): Effect.Effect<void, StoreError> => {
    // One statement is all or nothing by itself; several, and halves, need a transaction around them
    const together = Effect.suspend(() => {
      outcomes.length = 0
      const { client, run } = db.pool()
      return undying(client.withTransaction(inTransaction(client, run, entries, outcomes)), isStoreFailure).pipe(
        Effect.catchTag("SqlError", (error: SqlError) => Effect.fail(fromSqlError("enqueue", error)))
      )
    })
    return Effect.retry(
      entries.every(({ job }) => job.key === undefined && job.freshId)
        ? ifRefused(insertAll(db.ambient, entries, outcomes), () => together)
        : together,
      conflicts
    )
  }

  /** Any jobs. */
  const general = Effect.fnUntraced(function* (
    jobs: ReadonlyArray<NewJob>,
    isInside: boolean
  ): Effect.fn.Return<ReadonlyArray<EnqueueOutcome>, StoreError> {
    const refused = new Map<number, EnqueueOutcome>()
    const entries: Array<Entry> = []
    jobs.forEach((job, at) => {
      const id = job.id.toLowerCase()
      if (uuid.test(id)) entries.push({ job, at, id })
      else refused.set(at, { _tag: "Refused", error: notUuid(job.id) })
    })
    const outcomes: Array<EnqueueOutcome> = []
    if (entries.length > 0) {
      yield* isInside ? inTransaction(db.ambientClient, db.ambient, entries, outcomes) : outside(entries, outcomes)
    }
    return jobs.map((_, at) => refused.get(at) ?? outcomes[at]!)
  })

  /** Jobs that are alike: the cheap statement first, in the caller's transaction within a savepoint of its own. */
  const alike = (jobs: ReadonlyArray<NewJob>, isInside: boolean, announcer: Announcer | undefined) =>
    ifRefused(
      isInside
        ? undying(db.ambientClient.withTransaction(insertAllAlike(jobs)), isStoreFailure).pipe(
            Effect.catchTag("SqlError", (error: SqlError) => Effect.fail(fromSqlError("enqueue", error)))
          )
        : Effect.retry(insertLone(jobs, announcer), conflicts),
      () => general(jobs, isInside)
    )

  return (
    jobs: ReadonlyArray<NewJob>,
    announcer?: Announcer
  ): Effect.Effect<ReadonlyArray<EnqueueOutcome>, StoreError> =>
    Effect.flatMap(db.inTransaction, (isInside) =>
      areAlike(jobs) ? alike(jobs, isInside, announcer) : general(jobs, isInside)
    )
}
