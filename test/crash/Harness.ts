/** What the crash tests share: worker processes, a database of their own, and what must hold in it whatever happened. */
import { assert } from "@effect/vitest"
import { Effect, Layer, Redacted, type Scope } from "effect"
import * as PgClient from "@effect/sql-pg/PgClient"
import { SqlClient } from "effect/sql"
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Broker, Migrations, Polyqueue } from "../../src/index.ts"
import { freshDatabase } from "../support/Postgres.ts"
import type { BrokerSpec } from "./brokers.ts"
import { createEffects } from "./jobs.ts"

/** A running worker. */
export interface WorkerProcess {
  readonly child: ChildProcess
  readonly output: () => string
  readonly exited: Effect.Effect<{ readonly code: number | null; readonly signal: string | null }>
}

export interface WorkerOptions {
  readonly lease?: number
  readonly grace?: number
  /** What carries its hints. Default: plain Postgres. */
  readonly broker?: BrokerSpec
}

/** Starts a worker, and answers when it works; killed with the scope. */
export const spawnWorker = (url: string, slots: number, options: WorkerOptions = {}) =>
  Effect.acquireRelease(
    Effect.callback<WorkerProcess>((resume) => {
      const script = fileURLToPath(new URL("worker.ts", import.meta.url))
      const child = spawn(
        process.execPath,
        [
          script,
          url,
          String(slots),
          String(options.lease ?? 1_000),
          String(options.grace ?? 3_000),
          JSON.stringify(options.broker ?? { name: "postgres" })
        ],
        { stdio: ["ignore", "pipe", "inherit"] }
      )
      let output = ""
      const exit = new Promise<{ code: number | null; signal: string | null }>((done) =>
        child.once("exit", (code, signal) => done({ code, signal }))
      )
      child.stdout.on("data", (chunk: Buffer) => {
        output += String(chunk)
        if (output.includes("ready"))
          resume(Effect.succeed({ child, output: () => output, exited: Effect.promise(() => exit) }))
      })
    }),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

/** Runs a test with a client on a database of its own. */
export const inDatabase = <A, E>(
  test: (url: string) => Effect.Effect<A, E, Polyqueue | SqlClient.SqlClient | Scope.Scope>
) =>
  Effect.scoped(
    Effect.gen(function* () {
      const url = yield* freshDatabase
      const Database = PgClient.layer({ url: Redacted.make(url), maxConnections: 4 })
      const Client = Polyqueue.layerPostgres.pipe(
        Layer.provide(Broker.layerPostgres),
        Layer.provideMerge(Migrations.layer()),
        Layer.provideMerge(Database)
      )
      return yield* Effect.andThen(createEffects, test(url)).pipe(Effect.provide(Client))
    })
  )

/** Asks again until the answer is yes. */
export const until = <E, R>(question: Effect.Effect<boolean, E, R>) =>
  Effect.repeat(Effect.delay(question, "50 millis"), { until: (yes) => yes })

/** Rows of a table, as SQL after `from`. */
export const count = (where: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(sql.unsafe<{ n: number }>(`select count(*)::int as n from ${where}`), ([row]) => row?.n ?? -1)
  )

/** What must hold whatever happened: counters agree with the log, and nobody settled a job twice. */
export const audit = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const wrong = yield* sql.unsafe(`
    select j.id, j.status, j.attempt, j.failures, j.crashes, j.interruptions, a.* from polyqueue.polyqueue_jobs j
    join lateral (select count(*)::int n, count(*) filter (where outcome = 'succeeded')::int won,
      count(*) filter (where outcome = 'crashed')::int crashed, count(*) filter (where outcome = 'released')::int released
      from polyqueue.polyqueue_attempts a where a.job_id = j.id) a on true
    where j.attempt <> a.n + (j.status = 'processing')::int or j.crashes <> a.crashed or j.interruptions <> a.released
      or a.won <> (j.status = 'succeeded')::int`)
  assert.deepStrictEqual(wrong, [])
})

export const jobs = "polyqueue.polyqueue_jobs"
export const attempts = "polyqueue.polyqueue_attempts"
