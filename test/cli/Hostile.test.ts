/** What others stored moves no cursor, changes no colour and hides nothing, whatever command shows it. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import * as Migrations from "../../src/Migrations.ts"
import { run } from "../support/Cli.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"
import { forbidden, withoutColors } from "../support/Terminal.ts"

/** Clear screen, title, 8-bit CSI and OSC, bidi override and isolate, zero width, tags, separators, backspace, a bell. */
const hostile =
  "\u001b[2J\u001b]0;owned\u0007\u009b31m\u009d8;;http://x\u009c\u202e\u2066\u200b\u{e0041}\u2028\u2029\b\r\n\t\u007f\ufeff\u00ad"

const id = "01890a5d-0000-7000-8000-000000000001"

/** Everywhere where text of others can be stored. */
const fill = Effect.gen(function* () {
  yield* Migrations.migrate()
  const sql = yield* SqlClient.SqlClient
  const json = JSON.stringify({ code: hostile, message: hostile, stack: hostile, value: JSON.stringify(hostile) })
  yield* sql.unsafe(
    `insert into polyqueue.polyqueue_jobs (id, run_at, enqueued_at, attempt, failures, max_attempts, max_crashes, max_snoozes,
      priority, hinted, unique_live, status, queue, type, finished_at, timeout_then, payload, unique_key, tags, metadata,
      error, progress)
    values ($1::uuid, now(), now(), 1, 1, 3, 3, 10, 5, false, false, 'failed', $2::text, $2::text, now(), 'retry', $3::jsonb, $2::text,
      array[$2::text], $3::jsonb, $4::jsonb, $3::jsonb)`,
    [id, hostile, JSON.stringify({ [hostile]: hostile }), json]
  )
  yield* sql.unsafe(
    `insert into polyqueue.polyqueue_jobs (id, run_at, enqueued_at, max_attempts, max_crashes, max_snoozes, priority, hinted,
      unique_live, status, queue, type, timeout_then, payload)
    values (gen_random_uuid(), now() - interval '1 hour', now(), 3, 3, 10, 5, false, false, 'queued', $1::text, $1::text || '2', 'retry', '1')`,
    [hostile]
  )
  yield* sql.unsafe(
    `insert into polyqueue.polyqueue_attempts values ($1::uuid, gen_random_uuid(), now(), now(), 1, 'failed', 'worker', $2, $3::jsonb)`,
    [id, hostile, json]
  )
  yield* sql.unsafe(
    `insert into polyqueue.polyqueue_workers (id, started_at, heartbeat_at, pid, slots, running_count, status, host, name,
      version, queues, job_types, running)
    values ('w' || $1, now(), now(), 1, 10, 0, 'running', $1, $1, $1, array[$1], array[$1 || '2'], array[$1])`,
    [hostile]
  )
  yield* sql.unsafe(`insert into polyqueue.polyqueue_queues (queue, paused_at, reason) values ($1 || '3', now(), $1)`, [
    hostile
  ])
})

/** Commands that show what is stored, and that say back what was typed. */
const commands: ReadonlyArray<ReadonlyArray<string>> = [
  ["inspect", "stats"],
  ["inspect", "queues"],
  ["inspect", "workers"],
  ["inspect", "jobs"],
  ["inspect", "jobs", "--type", hostile],
  ["inspect", "jobs", "--type", `${hostile}nothing`],
  ["inspect", "job", id],
  ["inspect", "job", id, "--payload"],
  ["inspect", "attempts", id],
  ["explain", id],
  ["admin", "pause", hostile, "--reason", hostile, "--as", hostile],
  ["admin", "resume", hostile],
  ["admin", "resume", `${hostile}nothing`],
  ["admin", "requeue", "--type", hostile, "--dry-run"],
  ["admin", "requeue", "--type", hostile],
  ["admin", "drain", hostile],
  ["admin", "drain", `${hostile}nothing`],
  ["admin", "concurrency", hostile, "3"],
  ["inspect", "audit"],
  ["doctor"],
  ["enqueue", hostile, "--payload", hostile],
  ["enqueue", "x", "--payload", `@${hostile}`],
  ["worker", hostile],
  ["settings", hostile],
  [hostile],
  ["inspect", "jobs", `--${hostile}`],
  ["inspect", "job", hostile],
  ["inspect", "jobs", "--status", hostile]
]

describePostgres("stored control characters", () => {
  it.live(
    "never reach the terminal, whatever command, format and terminal",
    () =>
      Effect.gen(function* () {
        const url = yield* freshDatabase
        yield* fill.pipe(Effect.provide(layerUrl(url)))
        const env = { POLYQUEUE_DB_URL: url }
        let seen = 0
        for (const command of commands) {
          for (const format of ["table", "json", "jsonl"]) {
            for (const columns of [undefined, 120]) {
              const args = command[0] === "worker" ? command : [...command, "-o", format]
              const answer = yield* run(args, { env, ...(columns === undefined ? {} : { columns }) })
              const said = withoutColors(answer.stdout + answer.stderr)
              assert.notStrictEqual(said, "", JSON.stringify(args))
              assert.notMatch(said, forbidden, JSON.stringify(args))
              if (said.includes("\\u001b[2J")) seen++
              if (format === "json" && answer.stdout !== "") {
                JSON.parse(answer.stdout)
                assert.strictEqual(answer.stdout, withoutColors(answer.stdout), "no colours in JSON")
              }
            }
          }
        }
        assert.isAbove(seen, 60, "it was there to be shown")
      }).pipe(Effect.scoped),
    120_000
  )
})
