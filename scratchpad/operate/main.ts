/**
 * `node scratchpad/operate/main.ts [jobs]`: every looking command of `polyqueue` against 200,000 jobs in all states, with three
 * workers and a running load. Each answer is compared with plain SQL, and its time with that of the same SQL: what is left is
 * the start of a process. Starts a server of its own; exit code 1 when something does not agree.
 */
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { Migrations, Polyqueue } from "../../src/index.ts"
import { startServer } from "../../test/support/PostgresServer.ts"
import { idOf, seed } from "../../test/support/SeedJobs.ts"
import * as PgClient from "@effect/sql-pg/PgClient"
import { Redacted } from "effect"
import { Load } from "./load-worker.ts"

const jobs = Number(process.argv[2] ?? 200_000)
const server = await startServer({ durable: true, settings: { shared_buffers: "256MB" } })
const env = { ...process.env, POLYQUEUE_DB_URL: server.url }
const bin = join(import.meta.dirname, "..", "..", "src", "bin.ts")
const client = PgClient.layer({ url: Redacted.make(server.url), maxConnections: 4 })

const sql = <Row extends object>(text: string): Promise<ReadonlyArray<Row>> =>
  Effect.runPromise(Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<Row>(text)).pipe(Effect.provide(client)))

const polyqueue = (...args: ReadonlyArray<string>) => {
  const start = performance.now()
  const { status, stderr, stdout } = spawnSync(process.execPath, [bin, ...args], { env, encoding: "utf8" })
  return { status, stderr, stdout, took: performance.now() - start }
}

const say = (text: string) => void process.stdout.write(`${text}\n`)

let wrong = 0
const check = (what: string, isRight: boolean, detail = "") => {
  if (isRight) return
  wrong++
  say(`WRONG: ${what} ${detail}`)
}

say(`filling ${server.url} with ${jobs} jobs`)
await Effect.runPromise(Effect.andThen(Migrations.migrate(), seed(jobs)).pipe(Effect.provide(client)))
const names = await sql<{ id: string }>("delete from polyqueue.polyqueue_workers returning id")

const workers = [1, 2, 3].map((n) =>
  spawn(process.execPath, [bin, "worker", join(import.meta.dirname, "load-worker.ts")], {
    env: { ...env, POLYQUEUE_WORKER_NAME: `load-${n}` },
    stdio: ["ignore", "ignore", "inherit"]
  })
)
const load = new AbortController()
const loading = Effect.runPromise(
  Effect.forever(Effect.andThen(Load.enqueueAll(Array.from({ length: 50 })), Effect.sleep("100 millis"))).pipe(
    Effect.provide(Polyqueue.layerProducer.pipe(Layer.provide(client)))
  ),
  { signal: load.signal }
).catch(() => {})

try {
  for (;;) {
    const [row] = await sql<{ n: number }>("select count(*)::int as n from polyqueue.polyqueue_workers")
    if (row!.n === 3) break
    await setTimeout(200)
  }
  // The workers of the seed were names only; what they ran is run by these three now
  await sql(
    `update polyqueue.polyqueue_jobs set lease_owner = (select min(id) from polyqueue.polyqueue_workers)
    where lease_owner in (${names.map(({ id }) => `'${id}'`).join(", ")})`
  )
  const empty = Math.min(...[1, 2, 3].map(() => polyqueue("--version").took))
  say(`a process that does nothing takes ${Math.round(empty)} ms\n`)

  const still = "queue <> 'load'"
  const cases: ReadonlyArray<{
    readonly args: ReadonlyArray<string>
    readonly sql: string
    /** What of the answer must equal the one value of the SQL. */
    readonly of?: (answer: never) => unknown
    readonly code?: number
  }> = [
    {
      args: ["inspect", "stats"],
      sql: `select count(*)::int as v from polyqueue.polyqueue_jobs where status = 'failed'`,
      of: ({ stats }: { stats: { jobs: { failed: number } } }) => stats.jobs.failed
    },
    {
      args: ["inspect", "queues"],
      sql: `select json_object_agg(queue, n order by queue)::text as v from (select queue, count(*) filter (where status = 'cancelled') as n
        from polyqueue.polyqueue_jobs where ${still} group by 1) t`,
      of: ({ queues }: { queues: ReadonlyArray<{ queue: string; cancelled: number }> }) =>
        `{ ${queues.flatMap((q) => (q.queue === "load" ? [] : [`"${q.queue}" : ${q.cancelled}`])).join(", ")} }`
    },
    {
      args: ["inspect", "workers"],
      sql: "select string_agg(name, ',' order by name) as v from polyqueue.polyqueue_workers",
      of: ({ workers }: { workers: ReadonlyArray<{ name: string }> }) =>
        workers
          .map(({ name }) => name)
          .sort()
          .join(",")
    },
    ...[
      [["-s", "failed"], "status = 'failed'"],
      [["-t", "Resize", "-q", "media"], "type = 'Resize' and queue = 'media'"],
      [["--tag", "vip"], "'vip' = any(tags)"],
      [["--timed-out"], "status = 'processing' and started_at + timeout * interval '1 ms' <= now()"],
      [
        ["--stale-progress", "5m"],
        "status = 'processing' and coalesce(progress_at, started_at) <= now() - interval '5 minutes'"
      ],
      [["--older-than", "9d"], "enqueued_at <= now() - interval '9 days'"],
      [["--error", "timedOut", "-s", "failed"], "error->>'code' = 'timedOut' and status = 'failed'"]
    ].map(([flags, where]) => ({
      args: ["inspect", "jobs", ...(flags as ReadonlyArray<string>)],
      sql: `select string_agg(id::text, ',') as v from (select id from polyqueue.polyqueue_jobs where ${String(where)} order by id desc limit 50) t`,
      of: ({ jobs }: { jobs: ReadonlyArray<{ id: string }> }) => jobs.map(({ id }) => id).join(",")
    })),
    {
      args: ["inspect", "jobs", "-t", "Nothing"],
      sql: "select 0 as v from polyqueue.polyqueue_jobs where type = 'Nothing' union all select 0",
      of: ({ jobs }: { jobs: ReadonlyArray<unknown> }) => jobs.length,
      code: 3
    },
    {
      args: ["inspect", "job", idOf(65)],
      sql: `select status as v from polyqueue.polyqueue_jobs where id = '${idOf(65)}'`,
      of: ({ job }: { job: { status: string } }) => job.status
    },
    {
      args: ["inspect", "attempts", idOf(65)],
      sql: `select count(*)::int as v from polyqueue.polyqueue_attempts where job_id = '${idOf(65)}'`,
      of: ({ attempts }: { attempts: ReadonlyArray<unknown> }) => attempts.length
    },
    {
      args: ["explain", idOf(95)],
      sql: "select 'Paused' as v",
      of: ({ explanation }: { explanation: { reasons: ReadonlyArray<{ _tag: string }> } }) =>
        explanation.reasons[0]?._tag
    },
    {
      args: ["admin", "requeue", "-s", "failed", "--dry-run"],
      sql: "select count(*)::int as v from polyqueue.polyqueue_jobs where status = 'failed'",
      of: ({ dryRun }: { dryRun: { count: number } }) => dryRun.count
    },
    {
      args: ["admin", "requeue", "-s", "failed", "-t", "Digest", "--yes"],
      sql: "select count(*)::int as v from polyqueue.polyqueue_audit where action = 'requeue'",
      of: ({ report }: { report: { done: number } }) => report.done
    },
    {
      args: ["inspect", "audit", "-n", "1"],
      sql: "select max(id)::int as v from polyqueue.polyqueue_audit",
      of: ({ audit }: { audit: ReadonlyArray<{ id: number }> }) => audit[0]?.id
    },
    {
      args: ["doctor"],
      sql: "select 'all is well' as v",
      of: ({ summary }: { summary: string }) => summary
    }
  ]
  say(`${"command".padEnd(62)} ${"ms".padStart(6)} ${"less start".padStart(10)} ${"plain SQL".padStart(9)}`)
  for (const { args, code = 0, of, sql: text } of cases) {
    const answer = polyqueue(...args, "-o", "json")
    const start = performance.now()
    const [row] = await sql<{ v: unknown }>(text)
    const plain = performance.now() - start
    check(args.join(" "), answer.status === code, `exit code ${answer.status}: ${answer.stderr}`)
    const parsed = JSON.parse(answer.stdout) as never
    if (of !== undefined) check(args.join(" "), of(parsed) === row?.v, `${String(of(parsed))} is not ${String(row?.v)}`)
    // Generous, for noisy machines: a command that reads the table once too often is far beyond it
    check(args.join(" "), answer.took < 5 * empty + 20 * plain, `took ${Math.round(answer.took)} ms`)
    const shown = args.map((arg) => (arg.includes(" ") ? JSON.stringify(arg) : arg)).join(" ")
    say(
      `${shown.padEnd(62)} ${String(Math.round(answer.took)).padStart(6)} ` +
        `${String(Math.round(answer.took - empty)).padStart(10)} ${String(Math.round(plain)).padStart(9)}`
    )
  }
  if (process.argv.includes("--show")) {
    for (const args of [
      ["inspect", "stats"],
      ["inspect", "queues"],
      ["inspect", "workers"],
      ["inspect", "jobs", "-s", "failed", "-n", "3"],
      ["inspect", "job", idOf(65)],
      ["inspect", "attempts", idOf(65)],
      ["explain", idOf(95)],
      ["admin", "requeue", "-s", "failed", "-t", "Resize", "--dry-run"],
      ["admin", "requeue", "-s", "failed", "-t", "Resize", "--reason", "the disk is back", "--yes"],
      ["admin", "pause", "mail", "--for", "30m", "--reason", "SMTP is down"],
      ["inspect", "audit", "-n", "2"],
      ["doctor"]
    ]) {
      const { status, stderr, stdout } = polyqueue(...args)
      say(`\n$ polyqueue ${args.join(" ")}\n${stdout}${stderr}${status === 0 ? "" : `(exit code ${status})`}`)
    }
  }
} finally {
  load.abort()
  await loading
  for (const worker of workers) worker.kill("SIGTERM")
  for (const worker of workers) if (worker.exitCode === null) await once(worker, "close")
}
say(wrong === 0 ? "\nall answers agree with SQL" : `\n${wrong} answers are wrong`)
// The server ends with this process, and takes its folder with it
process.exit(wrong === 0 ? 0 : 1)
