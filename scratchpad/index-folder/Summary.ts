/**
 * The summary of a run, read back from Postgres: the jobs table and the log of attempts are plain tables, so plain SQL
 * answers what an application wants to know about its jobs.
 */
import { Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { basename } from "node:path"
import * as Show from "./Show.ts"

const jobs = "polyqueue.polyqueue_jobs"
const attempts = "polyqueue.polyqueue_attempts"

const Totals = Schema.Struct({
  jobs: Schema.Int,
  succeeded: Schema.Int,
  failed: Schema.Int,
  retries: Schema.Int,
  bytes: Schema.Int,
  lines: Schema.Int,
  /** Ended since this process started, and how long that took by the clock of the database. */
  endedNow: Schema.Int,
  seconds: Schema.Finite
})
const Failure = Schema.Struct({ kind: Schema.String, reason: Schema.String, count: Schema.Int, example: Schema.String })
const Slow = Schema.Struct({ path: Schema.String, millis: Schema.Int, bytes: Schema.Int })
const Share = Schema.Struct({ worker: Schema.String, attempts: Schema.Int })

/** What `--json` prints, besides what the command line said. */
export interface Summary extends Omit<typeof Totals.Type, "endedNow"> {
  readonly jobsPerSecond: number
  readonly failures: ReadonlyArray<typeof Failure.Type>
  readonly slowest: ReadonlyArray<typeof Slow.Type>
  readonly workers: ReadonlyArray<typeof Share.Type>
}

/** Reads the summary of a run. `since`: when this process started on it, by the clock of the database. */
export const read = Effect.fnUntraced(function* (run: string, since: string) {
  const sql = yield* SqlClient.SqlClient
  const [totals] = yield* Schema.decodeUnknownEffect(Schema.NonEmptyArray(Totals))(
    yield* sql.unsafe(
      `select count(*)::int as jobs,
        (count(*) filter (where status = 'succeeded'))::int as succeeded,
        (count(*) filter (where status = 'failed'))::int as failed,
        coalesce(sum(failures + crashes - (status = 'failed')::int), 0)::int as retries,
        coalesce(sum((result->>'bytes')::float8), 0) as bytes,
        coalesce(sum((result->>'lines')::float8), 0) as lines,
        (count(*) filter (where finished_at >= $2::timestamptz))::int as "endedNow",
        coalesce(extract(epoch from max(finished_at) filter (where finished_at >= $2::timestamptz) - $2::timestamptz), 0)::float8
          as seconds
      from ${jobs} where type = 'IndexFile' and payload->>'run' = $1`,
      [run, since]
    )
  )
  const failures = yield* Schema.decodeUnknownEffect(Schema.Array(Failure))(
    yield* sql.unsafe(
      `select coalesce(error->'value'->>'_tag', error->>'code') as kind, error->>'message' as reason,
        count(*)::int as count, min(payload->>'path') as example
      from ${jobs} where type = 'IndexFile' and payload->>'run' = $1 and status = 'failed'
      group by 1, 2 order by 3 desc, 1, 2 limit 10`,
      [run]
    )
  )
  const slowest = yield* Schema.decodeUnknownEffect(Schema.Array(Slow))(
    yield* sql.unsafe(
      `select payload->>'path' as path, (result->>'millis')::int as millis, (result->>'bytes')::float8 as bytes
      from ${jobs} where type = 'IndexFile' and payload->>'run' = $1 and status = 'succeeded'
      order by 2 desc, 3 desc, 1 limit 3`,
      [run]
    )
  )
  const workers = yield* Schema.decodeUnknownEffect(Schema.Array(Share))(
    yield* sql.unsafe(
      `select w.name as worker, count(*)::int as attempts
      from ${attempts} a join ${jobs} j on j.id = a.job_id join polyqueue.polyqueue_workers w on w.id = a.worker
      where j.type = 'IndexFile' and j.payload->>'run' = $1 group by 1 order by 1`,
      [run]
    )
  )
  const { endedNow, ...rest } = totals
  const seconds = Math.round(rest.seconds * 1000) / 1000
  const jobsPerSecond = seconds > 0 ? Math.round(endedNow / seconds) : 0
  const summary: Summary = { ...rest, seconds, jobsPerSecond, failures, slowest, workers }
  return summary
})

/** The summary for people, on standard output. */
export const print = (
  summary: Summary,
  folder: string,
  interrupted: boolean,
  style: ReturnType<typeof Show.styles>
) => {
  const ended = summary.succeeded + summary.failed
  const line = (label: string, value: number, note: string) =>
    `  ${label.padEnd(10)}${Show.count(value).padStart(9)}   ${style("dim", note)}`
  const head = interrupted
    ? `Stopped after ${Show.count(ended)} of the ${Show.plural(summary.jobs, "file")} found so far in ${Show.name(basename(folder))}`
    : `Indexed ${Show.plural(summary.jobs, "file")} in ${Show.name(basename(folder))}`
  const speed = `in ${summary.seconds.toFixed(1)} s: ${Show.count(summary.jobsPerSecond)} jobs/s`
  const lines = [
    "",
    ended === 0 ? style("bold", head) : `${style("bold", head)} ${speed}`,
    "",
    line("succeeded", summary.succeeded, `${Show.bytes(summary.bytes)}, ${Show.plural(summary.lines, "line")}`),
    line("failed", summary.failed, summary.failed === 0 ? "" : "for good, with these reasons:"),
    ...summary.failures.map(
      ({ count, example, kind, reason }) =>
        `      ${style("red", Show.count(count).padStart(15))}   ${kind}: ${Show.name(reason)}  ${style("dim", `(${Show.name(example)})`)}`
    ),
    line("retries", summary.retries, summary.retries === 0 ? "" : "some first attempts are made to fail"),
    ...(interrupted ? [line("waiting", summary.jobs - ended, "still queued")] : [])
  ]
  if (summary.slowest.length > 0) {
    lines.push("", style("bold", "Slowest"))
    for (const { bytes, millis, path } of summary.slowest) {
      lines.push(`  ${Show.count(millis).padStart(10)} ms   ${Show.bytes(bytes).padStart(7)}   ${Show.name(path)}`)
    }
  }
  if (summary.workers.length > 0) {
    lines.push("", style("bold", "Attempts by worker"))
    for (const { attempts, worker } of summary.workers) lines.push(`  ${Show.count(attempts).padStart(13)}   ${worker}`)
  }
  return `${lines.map((text) => text.trimEnd()).join("\n")}\n`
}
