/**
 * Searching: on the caller's client, whose planner chooses by the statistics. Pages go by id, newest first, so a page
 * neither repeats nor misses a job while others come and go; payloads and results are never read.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { FindRequest, JobFilter, JobSummary, Status, TimeoutThen } from "../JobStoreDriver.ts"
import { millis } from "./DatabaseClock.ts"
import { binder, conditions } from "./Filter.ts"
import * as Params from "./Params.ts"
import type { Db } from "./Sessions.ts"

const columns = `j.id::text, j.type, j.queue, j.status, j.priority::int, ${millis("j.run_at")}, j.attempt, j.failures,
  j.crashes, j.interruptions, j.snoozes, j.max_attempts, j.max_crashes, j.error->>'code', left(j.error->>'message', 500),
  j.unique_key, pg_catalog.array_to_json(j.tags)::text, j.timeout::float8, j.timeout_then,
  case when j.status = 'processing' then ${millis("j.started_at + j.timeout * interval '1 millisecond'")} end,
  ${millis("j.overran_at")}, j.lease_owner, ${millis("j.lease_expires_at")}, ${millis("j.progress_at")},
  ${millis("j.cancel_requested_at")}, ${millis("j.enqueued_at")}, ${millis("j.started_at")}, ${millis("j.finished_at")}`

type Row = [
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
  errorCode: string | null,
  errorMessage: string | null,
  key: string | null,
  tags: string | null,
  timeout: number | null,
  timeoutThen: TimeoutThen,
  timeoutAt: number | null,
  overranAt: number | null,
  worker: string | null,
  leaseExpiresAt: number | null,
  progressAt: number | null,
  cancelRequestedAt: number | null,
  enqueuedAt: number,
  startedAt: number | null,
  finishedAt: number | null
]

const toSummary = (row: Row): JobSummary => ({
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
  error: row[13] === null ? undefined : { code: row[13], message: row[14] ?? "" },
  key: row[15] ?? undefined,
  tags: row[16] === null ? [] : (JSON.parse(row[16]) as ReadonlyArray<string>),
  timeout: row[17] ?? undefined,
  timeoutThen: row[18],
  timeoutAt: row[19] ?? undefined,
  overranAt: row[20] ?? undefined,
  worker: row[21] ?? undefined,
  leaseExpiresAt: row[22] ?? undefined,
  progressAt: row[23] ?? undefined,
  cancelRequestedAt: row[24] ?? undefined,
  enqueuedAt: row[25],
  startedAt: row[26] ?? undefined,
  finishedAt: row[27] ?? undefined
})

/** `ControlDriver.find`. */
export const makeFind =
  (db: Db) =>
  (request: FindRequest): Effect.Effect<ReadonlyArray<JobSummary>, StoreError> => {
    const values = binder()
    const matches = conditions(request, db.clock, values)
    const after = request.after === undefined ? "" : ` and j.id < ${values.bind(Params.uuid(request.after))}::uuid`
    const limit = values.bind(Params.int(Params.limit(Math.max(0, request.limit))))
    const text = `select ${columns} from ${db.names.jobs} j where ${matches}${after} order by j.id desc limit ${limit}`
    return Effect.map(db.ambient("find", text, values.params), (rows) => (rows as ReadonlyArray<Row>).map(toSummary))
  }

/** `ControlDriver.count`. */
export const makeCount =
  (db: Db) =>
  (filter: JobFilter): Effect.Effect<number, StoreError> => {
    const values = binder()
    const text = `select count(*)::float8 from ${db.names.jobs} j where ${conditions(filter, db.clock, values)}`
    return Effect.map(db.ambient("count", text, values.params), (rows) => Number(rows[0]?.[0]))
  }
