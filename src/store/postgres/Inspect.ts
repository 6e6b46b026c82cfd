/**
 * Reading: on the caller's client, so that a transaction sees its own jobs. Values are cast to types that every client
 * decodes alike, and JSON is read as text and parsed here.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type {
  AttemptOutcome,
  AttemptRecord,
  JobRecord,
  ListFilter,
  QueueStats,
  Status,
  TimeoutThen
} from "../JobStoreDriver.ts"
import { type DatabaseClock, millis } from "./DatabaseClock.ts"
import { toStoredError } from "./Exit.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import type { Db } from "./Sessions.ts"

/** Of the alias `j`, for `toRecord`. */
export const recordColumns = `j.id::text, j.type, j.queue, j.status, j.priority::int, ${millis("j.run_at")}, j.attempt, j.failures,
  j.crashes, j.interruptions, j.snoozes, j.max_attempts, j.max_crashes, j.payload::text, j.result::text, j.error::text,
  j.unique_key, pg_catalog.array_to_json(j.tags)::text, j.metadata::text, j.timeout::float8, j.timeout_then,
  case when j.status = 'processing' then ${millis("j.started_at + j.timeout * interval '1 millisecond'")} end,
  ${millis("j.overran_at")}, j.lease_owner, ${millis("j.lease_expires_at")}, j.progress::text, ${millis("j.progress_at")},
  ${millis("j.cancel_requested_at")}, ${millis("j.publish_at")}, j.fence::float8, ${millis("j.enqueued_at")},
  ${millis("j.started_at")}, ${millis("j.finished_at")}`

export type RecordRow = [
  id: string,
  type: string,
  queue: string,
  status: Status,
  priority: number,
  runAt: number,
  attempt: number,
  failures: number,
  crashes: number,
  interruptions: number,
  snoozes: number,
  maxAttempts: number,
  maxCrashes: number,
  payload: string,
  result: string | null,
  error: string | null,
  key: string | null,
  tags: string | null,
  metadata: string | null,
  timeout: number | null,
  timeoutThen: TimeoutThen,
  timeoutAt: number | null,
  overranAt: number | null,
  worker: string | null,
  leaseExpiresAt: number | null,
  progress: string | null,
  progressAt: number | null,
  cancelRequestedAt: number | null,
  publishAt: number | null,
  fence: number,
  enqueuedAt: number,
  startedAt: number | null,
  finishedAt: number | null
]

const parse = (text: string | null): unknown => (text === null ? undefined : JSON.parse(text))

export const toRecord = (row: RecordRow): JobRecord => ({
  id: row[0],
  type: row[1],
  queue: row[2],
  status: row[3],
  priority: row[4],
  runAt: row[5],
  attempt: row[6],
  failures: row[7],
  crashes: row[8],
  interruptions: row[9],
  snoozes: row[10],
  maxAttempts: row[11],
  maxCrashes: row[12],
  payload: parse(row[13]),
  result: parse(row[14]),
  error: toStoredError(row[15]),
  key: row[16] ?? undefined,
  tags: row[17] === null ? [] : (JSON.parse(row[17]) as ReadonlyArray<string>),
  metadata: row[18] === null ? undefined : (JSON.parse(row[18]) as Readonly<Record<string, string>>),
  timeout: row[19] ?? undefined,
  timeoutThen: row[20],
  timeoutAt: row[21] ?? undefined,
  overranAt: row[22] ?? undefined,
  worker: row[23] ?? undefined,
  leaseExpiresAt: row[24] ?? undefined,
  progress: parse(row[25]),
  progressAt: row[26] ?? undefined,
  cancelRequestedAt: row[27] ?? undefined,
  publishAt: row[28] ?? undefined,
  fence: row[29],
  enqueuedAt: row[30],
  startedAt: row[31] ?? undefined,
  finishedAt: row[32] ?? undefined
})

/** `$1` ids. */
export const getStatement = (names: Names): string =>
  `select ${recordColumns} from unnest((select $1::uuid[])) as t(id) join ${names.jobs} j on j.id = t.id`

/** `$1` ids. */
export const endedStatement = (names: Names): string =>
  `select t.id::text from unnest((select $1::uuid[])) as t(id) left join ${names.jobs} j on j.id = t.id
  where j.finished_at is not null or j.id is null`

const attemptsStatement = (names: Names): string =>
  `select a.attempt, a.claim::text, a.worker, a.outcome, a.finalized_by, ${millis("a.claimed_at")}, ${millis("a.ended_at")},
    a.error::text
  from ${names.attempts} a where a.job_id = $1::uuid order by a.attempt`

const listStatement = (names: Names): string =>
  `select ${recordColumns} from ${names.jobs} j
  where ($1::text is null or j.status = $1) and ($2::text is null or j.type = $2)
    and ($3::text is null or j.queue = $3) and ($4::uuid is null or j.id < $4)
  order by j.id desc limit $5::int4`

const statsStatement = (names: Names, clock: DatabaseClock): string => {
  const count = (condition: string) => `(count(*) filter (where ${condition}))::int`
  const due = `j.status = 'queued' and j.run_at <= ${clock.now}`
  return `select j.queue, ${count(due)}, ${count(`j.status = 'queued' and j.run_at > ${clock.now}`)},
    ${["processing", "succeeded", "failed", "cancelled"].map((status) => count(`j.status = '${status}'`)).join(", ")},
    (date_part('epoch', ${clock.now} - min(j.run_at) filter (where ${due})) * 1000)::float8
  from ${names.jobs} j group by j.queue order by j.queue collate "C"`
}

const unique = (ids: ReadonlyArray<string>): ReadonlyArray<string> => [...new Set(ids.map((id) => id.toLowerCase()))]

/** `JobStoreDriver.get`: each once, in the order asked. */
export const makeGet = (db: Db) => {
  const text = getStatement(db.names)
  return (ids: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<JobRecord>, StoreError> => {
    if (ids.length === 0) return Effect.succeed([])
    const asked = unique(ids)
    return Effect.map(db.ambient("get", text, [Params.uuids(asked)]), (rows) => {
      const found = new Map((rows as ReadonlyArray<RecordRow>).map((row) => [row[0], row]))
      return asked.flatMap((id) => {
        const row = found.get(id)
        return row === undefined ? [] : [toRecord(row)]
      })
    })
  }
}

/** `JobStoreDriver.ended`. */
export const makeEnded = (db: Db) => {
  const text = endedStatement(db.names)
  return (ids: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>, StoreError> =>
    ids.length === 0
      ? Effect.succeed([])
      : Effect.map(db.ambient("ended", text, [Params.uuids(unique(ids))]), (rows) =>
          (rows as ReadonlyArray<[string]>).map(([id]) => id)
        )
}

type AttemptRow = [
  attempt: number,
  claim: string,
  worker: string,
  outcome: AttemptOutcome,
  finalizedBy: AttemptRecord["finalizedBy"],
  claimedAt: number,
  endedAt: number,
  error: string | null
]

/** `JobStoreDriver.attempts`. */
export const makeAttempts = (db: Db) => {
  const text = attemptsStatement(db.names)
  return (id: string): Effect.Effect<ReadonlyArray<AttemptRecord>, StoreError> =>
    Effect.map(db.ambient("attempts", text, [Params.uuid(id)]), (rows) =>
      (rows as ReadonlyArray<AttemptRow>).map(
        ([attempt, claim, worker, outcome, finalizedBy, claimedAt, endedAt, error]): AttemptRecord => ({
          jobId: id,
          attempt,
          claim,
          worker,
          outcome,
          finalizedBy,
          claimedAt,
          endedAt,
          error: toStoredError(error)
        })
      )
    )
}

/** `JobStoreDriver.list`. */
export const makeList = (db: Db) => {
  const text = listStatement(db.names)
  return (filter: ListFilter): Effect.Effect<ReadonlyArray<JobRecord>, StoreError> =>
    Effect.map(
      db.ambient("list", text, [
        Params.text(filter.status ?? null),
        Params.text(filter.type ?? null),
        Params.text(filter.queue ?? null),
        Params.uuid(filter.after ?? null),
        Params.int(Params.limit(Math.max(0, filter.limit)))
      ]),
      (rows) => (rows as ReadonlyArray<RecordRow>).map(toRecord)
    )
}

/** `JobStoreDriver.stats`. Reads every row: for people and dashboards, not for loops. */
export const makeStats = (db: Db): Effect.Effect<ReadonlyArray<QueueStats>, StoreError> =>
  Effect.map(db.ambient("stats", statsStatement(db.names, db.clock), []), (rows) =>
    (rows as ReadonlyArray<[string, number, number, number, number, number, number, number | null]>).map(
      ([queue, queued, waiting, processing, succeeded, failed, cancelled, oldestAge]) => ({
        queue,
        queued,
        waiting,
        processing,
        succeeded,
        failed,
        cancelled,
        oldestAge: oldestAge ?? undefined
      })
    )
  )
