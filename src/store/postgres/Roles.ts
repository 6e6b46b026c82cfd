/**
 * Least privilege, as SQL text: a role for each way of using the tables. Login roles are granted one of them. The text can be
 * run again at any time, and must be after every migration: it takes back what is not said here.
 *
 * - owner: owns the tables, and so may migrate them.
 * - worker: everything a worker and an operator do. Cannot change the tables, nor rewrite the audit log.
 * - producer: enqueues, and learns of duplicates. Cannot read payloads or results, nor change or delete a job: what it inserts
 *   can only be `queued`, because the columns that any other status needs are not its to write.
 * - viewer: reads all but payloads, results and progress. Cannot write.
 */
import * as Result from "effect/Result"
import type { StoreError } from "../../JobError.ts"
import { make as makeNames, type Names, type NamesOptions, quote } from "./Names.ts"

/** The names of the roles. Default: `<prefix>_owner` and so on. */
export interface RolesOptions extends NamesOptions {
  readonly owner?: string | undefined
  readonly worker?: string | undefined
  readonly producer?: string | undefined
  readonly viewer?: string | undefined
}

/** What the enqueue statements write. */
const enqueued =
  "id, run_at, enqueued_at, publish_at, publications, timeout, attempt, max_attempts, max_crashes, max_snoozes, priority, " +
  "hinted, unique_live, status, queue, type, timeout_then, unique_key, payload, retry_delays, tags, metadata"

/** What they read to find duplicates. Not the payload: whether two are the same is nothing a producer may ask. */
const matched = "id, type, status, unique_key, unique_live"

/** All columns of a job but `payload`, `result` and `progress`. */
const visible =
  "id, run_at, enqueued_at, fence, attempt, failures, crashes, interruptions, snoozes, retry_from, crash_from, " +
  "publications, max_attempts, max_crashes, max_snoozes, priority, hinted, unique_live, status, queue, type, finished_at, " +
  "publish_at, started_at, lease_expires_at, claim, lease_owner, timeout_then, timeout, retry_delays, unique_key, " +
  "progress_at, cancel_requested_at, overran_at, tags, metadata, error"

/** Rights per table. A table that is not here is nobody's but its owner's. */
const rights = (names: Names) =>
  [
    {
      table: names.jobs,
      worker: ["select, insert, update, delete"],
      producer: [`insert (${enqueued})`, `select (${matched})`],
      viewer: [`select (${visible})`]
    },
    // To lock the rows that retention deletes, Postgres asks for the right to update some column
    {
      table: names.attempts,
      worker: ["select, insert, delete", "update (ended_at)"],
      producer: ["select (job_id, attempt)"],
      viewer: ["select"]
    },
    { table: names.workers, worker: ["select, insert, update, delete"], producer: [], viewer: ["select"] },
    { table: names.queues, worker: ["select, insert, update, delete"], producer: [], viewer: ["select"] },
    { table: names.concurrency, worker: ["select, insert, update, delete"], producer: [], viewer: ["select"] },
    { table: names.stats, worker: ["select, insert, update, delete"], producer: [], viewer: ["select"] },
    { table: names.audit, worker: ["select, insert"], producer: [], viewer: ["select"] },
    { table: names.migrations, worker: ["select"], producer: ["select"], viewer: ["select"] }
  ] as const

/** One right of a worker on a table (quoted, with its schema), or on one column of it. */
export interface Right {
  readonly table: string
  readonly right: string
  readonly column: string | undefined
}

/** All that a worker, an operator and `polyqueue` need. */
export const workerRights = (names: Names): ReadonlyArray<Right> =>
  rights(names).flatMap(({ table, worker }) =>
    worker.flatMap((text) => {
      const [, right, column] = /^(\w+) \((\w+)\)$/.exec(text) ?? []
      return right === undefined
        ? text.split(", ").map((right) => ({ table, right, column: undefined }))
        : [{ table, right, column }]
    })
  )

const create = (role: string): string =>
  `do $$ begin create role ${role} nologin; exception when duplicate_object or unique_violation then null; end $$`

/** SQL text to run as a superuser, or as a role that may create roles and owns the tables. Fails with `Refused` on bad names. */
export const statements = (options: RolesOptions = {}): Result.Result<string, StoreError> =>
  Result.gen(function* () {
    const names = yield* makeNames(options)
    const role = (kind: "owner" | "worker" | "producer" | "viewer") =>
      quote(`${kind} role`, options[kind] ?? `${names.prefix}_${kind}`)
    const [owner, worker, producer, viewer] = [
      yield* role("owner"),
      yield* role("worker"),
      yield* role("producer"),
      yield* role("viewer")
    ]
    const users = `${worker}, ${producer}, ${viewer}`
    const tables = rights(names)
    const granted = tables.flatMap(({ table, ...to }) =>
      [
        { who: worker, what: to.worker },
        { who: producer, what: to.producer },
        { who: viewer, what: to.viewer }
      ].flatMap(({ who, what }) => what.map((right) => `grant ${right} on ${table} to ${who}`))
    )
    return [
      "begin",
      ...[owner, worker, producer, viewer].map(create),
      `alter schema "${names.schema}" owner to ${owner}`,
      // Of use where several prefixes share the schema: only the last of them owns it
      `grant usage, create on schema "${names.schema}" to ${owner}`,
      `revoke all on schema "${names.schema}" from public, ${users}`,
      `grant usage on schema "${names.schema}" to ${users}`,
      ...tables.flatMap(({ table }) => [
        `alter table ${table} owner to ${owner}`,
        `revoke all on ${table} from public, ${users}`
      ]),
      ...granted,
      "commit"
    ]
      .map((statement) => `${statement};\n`)
      .join("")
  })
