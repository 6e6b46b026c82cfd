/**
 * `npm run soak -- --minutes 60`: a mixed load with faults of all kinds for as long as you like. Every ten seconds one JSON line
 * on stdout: memory, processor time and open files of workers, connections, sizes of tables and indexes. At the end it says
 * whether the second half was flat, and whether anything was lost, and exits 1 if not.
 *
 * `--broker redis` (default), `--rate 50` jobs per second, `--seed 1`, `--results FILE` writes the lines there too.
 */
import * as Effect from "effect/Effect"
import { appendFileSync, readdirSync, readFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { startServer } from "../../test/support/PostgresServer.ts"
import { names } from "./Brokers.ts"
import * as Load from "./Load.ts"
import { now } from "./Report.ts"
import { judge } from "./Slope.ts"
import * as Stage from "./Stage.ts"

const usage =
  "Usage: npm run soak -- [--minutes N] [--broker NAME] [--rate JOBS_PER_SECOND] [--seed N] [--results FILE]\n"

const refuse = (why: string): never => {
  process.stderr.write(`${why}\n${usage}`)
  process.exit(2)
}

const { values } = (() => {
  try {
    return parseArgs({
      options: {
        minutes: { type: "string", default: "60" },
        broker: { type: "string", default: "redis" },
        rate: { type: "string", default: "50" },
        seed: { type: "string", default: "1" },
        results: { type: "string" }
      }
    })
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error))
  }
})()
const above = (name: string, text: string): number =>
  Number(text) > 0 ? Number(text) : refuse(`--${name} must be a number above 0, not ${text}`)
const minutes = above("minutes", values.minutes)
const rate = above("rate", values.rate)
const seed = above("seed", values.seed)
const broker = names.find((name) => name === values.broker) ?? refuse(`There is no broker ${values.broker}.`)

const every = 10_000
/** How long ended jobs stay: short, so that the tables reach their plateau soon. Pruning comes once a minute. */
const retention = 30_000
const tell = (text: string) => process.stderr.write(`${text}\n`)

/** Resident memory in bytes and open files of a process; `undefined` when it is gone. */
const looksOf = (pid: number) => {
  try {
    const pages = Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1])
    return { rss: pages * 4_096, files: readdirSync(`/proc/${pid}/fd`).length }
  } catch {
    return undefined
  }
}

type Sample = Record<string, number>

/** What is judged, and by how much it may grow where a tenth of its mean is less. */
const floors: Readonly<Record<string, number>> = {
  rss: 12 * 2 ** 20,
  files: 6,
  connections: 6,
  jobs_bytes: 3 * 2 ** 20,
  jobs_index_bytes: 3 * 2 ** 20,
  attempts_bytes: 3 * 2 ** 20,
  attempts_index_bytes: 2 ** 20,
  workers_bytes: 2 ** 18
}

const soak = Effect.fnUntraced(function* (stage: Stage.Stage) {
  const client = yield* Load.client(stage, { troubles: { drop: 0.02, double: 0.02 } })
  const steady = yield* Effect.forEach([0, 1], () => stage.spawn({ retention, slots: 8, troubles: { ackLost: 0.02 } }))
  const fleet = yield* stage.fleet(2, () => ({ retention, slots: 8 }))
  const until = now() + minutes * 60_000
  const done = { made: 0, verified: 0, lost: 0, faults: 0 }
  const waiting = stage.ledger.client

  const enqueueing = Effect.gen(function* () {
    while (now() < until) {
      for (const task of Load.tasks(stage, Math.max(1, Math.round(rate / 5)), 5, 120)) {
        done.made++
        yield* Effect.forkScoped(Load.enqueue(stage, client, task, true))
      }
      yield* Effect.sleep(200)
    }
  })

  /** Forgets what has ended. Whoever is gone without having been seen at its end is lost: retention is longer than this. */
  const verify = Effect.gen(function* () {
    const ids = Array.from(waiting.values()).flatMap(({ job, ok }) => (ok ? [job] : []))
    for (let i = 0; i < ids.length; i += 5_000) {
      const part = ids.slice(i, i + 5_000)
      const rows = yield* stage.sql<{ id: string; status: string; code: string | null }>`
        select id::text, status, error ->> 'code' as code from polyqueue.polyqueue_jobs
        where id = any(${`{${part.join(",")}}`}::uuid[])`
      const found = new Map(rows.map((row) => [row.id, row]))
      for (const id of part) {
        const row = found.get(id)
        if (row === undefined) {
          done.lost++
          stage.violations.push(`${id} is gone, and was never seen at its end`)
        } else if (row.status === "queued" || row.status === "processing") continue
        else if (row.status !== waiting.get(id)?.expected)
          stage.violations.push(`${id} became ${row.status} (${row.code}), not ${waiting.get(id)?.expected}`)
        else done.verified++
        waiting.delete(id)
      }
    }
  })

  const terminate = stage.sql`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and application_name <> 'chaos runner'`
  const pick = <A>(all: ReadonlyArray<A>): A | undefined => all[Math.floor(stage.random() * all.length)]
  const faults: ReadonlyArray<readonly [string, Effect.Effect<unknown>]> = [
    ["SIGKILL", Effect.sync(() => pick(fleet())?.signal("SIGKILL"))],
    [
      "SIGSTOP",
      Effect.suspend(() => {
        const worker = pick([...steady, ...fleet()])
        worker?.signal("SIGSTOP", Stage.common.lease * 2)
        return Effect.delay(
          Effect.sync(() => worker?.signal("SIGCONT")),
          Stage.common.lease * 2
        )
      })
    ],
    ["SIGTERM", Effect.sync(() => pick(fleet())?.signal("SIGTERM"))],
    ["sessions ended", Effect.ignore(terminate)],
    ["broker lost everything", stage.broker.loseAll ?? Effect.void],
    [
      "broker restarted",
      Effect.andThen(stage.broker.stop ?? Effect.void, Effect.delay(stage.broker.start ?? Effect.void, 1_000))
    ],
    [
      "PostgreSQL crash",
      Effect.promise(async () => {
        await stage.server.stop("immediate")
        await stage.server.start()
      })
    ],
    [
      "a job that blocks",
      Load.enqueue(stage, client, { mode: "block", ms: Stage.common.lease * 2, expected: "succeeded" }, true)
    ]
  ]
  const happened: Record<string, number> = {}
  const breaking = Effect.gen(function* () {
    while (now() < until - 15_000) {
      yield* Effect.sleep(Math.round(4_000 + stage.random() * 8_000))
      const [name, run] = pick(faults)!
      done.faults++
      happened[name] = (happened[name] ?? 0) + 1
      stage.fault(name)
      yield* run
    }
  })

  const samples: Array<Sample> = []
  const startedAt = now()
  const sample = Effect.gen(function* () {
    const sizes = yield* stage.sql<{ name: string; bytes: number; index: number; dead: number }>`
      select replace(c.relname, 'polyqueue_', '') as name, pg_table_size(c.oid)::float8 as bytes,
        pg_indexes_size(c.oid)::float8 as index, coalesce(s.n_dead_tup, 0)::float8 as dead
      from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_stat_user_tables s on s.relid = c.oid
      where n.nspname = 'polyqueue' and c.relkind = 'r'`
    const [sessions] = yield* stage.sql<{ n: number }>`
      select count(*)::int as n from pg_stat_activity where datname = current_database()`
    const [rows] = yield* stage.sql<{ open: number; rows: number }>`
      select count(*) filter (where finished_at is null)::int as open, count(*)::int as rows from polyqueue.polyqueue_jobs`
    const looks = steady.flatMap(({ pid }) => looksOf(pid) ?? [])
    const mean = (pick: (look: (typeof looks)[number]) => number) =>
      Math.round(looks.reduce((sum, look) => sum + pick(look), 0) / Math.max(1, looks.length))
    const line: Sample = {
      s: Math.round((now() - startedAt) / 1_000),
      rss: mean(({ rss }) => rss),
      files: mean(({ files }) => files),
      connections: sessions?.n ?? -1,
      open: rows?.open ?? -1,
      rows: rows?.rows ?? -1,
      made: done.made,
      verified: done.verified,
      faults: done.faults,
      runner_rss: process.memoryUsage.rss()
    }
    for (const { bytes, dead, index, name } of sizes) {
      line[`${name}_bytes`] = bytes
      line[`${name}_index_bytes`] = index
      line[`${name}_dead`] = dead
    }
    samples.push(line)
    const text = JSON.stringify(line)
    process.stdout.write(`${text}\n`)
    if (values.results !== undefined) appendFileSync(values.results, `${text}\n`)
    yield* verify
  })
  const sampling = Effect.forever(
    // PostgreSQL may be down just now
    Effect.andThen(Effect.sleep(every), Effect.ignore(Effect.retry(sample, { times: 3 })))
  )

  yield* Effect.raceFirst(Effect.all([enqueueing, breaking], { concurrency: 2, discard: true }), sampling)
  yield* Effect.promise(() => stage.server.start())
  yield* stage.drained(120_000)
  yield* Effect.retry(verify, { times: 5 })
  const broken = yield* stage.sql<{ job: string; what: string }>`select job::text, what from public.broken limit 20`
  for (const { job, what } of broken) stage.violations.push(`${job}: ${what}`)
  for (const { job, ok } of waiting.values()) if (ok) stage.violations.push(`${job} never ended`)
  for (const { pid } of steady) if (looksOf(pid) === undefined) stage.violations.push(`worker ${pid} is gone`)
  const judged = Object.entries(floors).map(([name, floor]) =>
    judge(
      name,
      samples.map((line) => line[name] ?? 0),
      floor
    )
  )
  const isFlat = judged.every((one) => one.isFlat)
  return { ...done, happened, samples: samples.length, isFlat, judged, violations: stage.violations }
})

// What is waited for keeps no process alive
const alive = setInterval(() => undefined, 60_000)
const server = await startServer({ settings: { synchronous_commit: "on", full_page_writes: "on" } })
try {
  const result = await Effect.runPromise(
    Effect.scoped(
      Effect.gen(function* () {
        const stage = yield* Stage.make({ server, broker, seed, size: 0, keeps: false })
        return yield* soak(stage)
      })
    )
  )
  const line = JSON.stringify({ soak: broker, minutes, rate, seed, ...result })
  process.stdout.write(`${line}\n`)
  if (values.results !== undefined) appendFileSync(values.results, `${line}\n`)
  const shown = (value: number) =>
    Math.abs(value) >= 1_000_000 ? `${(value / 2 ** 20).toFixed(1)} MB` : value.toFixed(1)
  for (const { allowed, growth, isFlat, mean, name } of result.judged)
    tell(
      `${isFlat ? "flat " : "GROWS"} ${name.padEnd(22)} mean ${shown(mean)}, ${shown(growth)} more over the second half (${shown(allowed)} allowed)`
    )
  tell(
    `${result.made} jobs, ${result.verified} seen at their end, ${result.lost} lost, ${result.faults} faults: ${JSON.stringify(result.happened)}`
  )
  for (const violation of result.violations.slice(0, 10)) tell(`violated: ${violation}`)
  process.exitCode = result.isFlat && result.violations.length === 0 ? 0 : 1
} finally {
  await server.destroy()
  clearInterval(alive)
}
