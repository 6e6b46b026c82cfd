/** P9 to P14: PostgreSQL that works, but not as one would like. */
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { bothKinds, type Cell } from "../Cell.ts"
import * as Load from "../Load.ts"
import { percentile } from "../Runner.ts"
import { now } from "../Report.ts"
import type { Stage } from "../Stage.ts"

const waits = Effect.fnUntraced(function* (stage: Stage, from: number, to: number) {
  const rows = yield* stage.sql<{ waited: number }>`
    select (date_part('epoch', min(at) filter (where after = 'processing') - min(at) filter (where before is null)) * 1000)::float8 as waited
    from public.transitions group by job
    having date_part('epoch', min(at)) * 1000 between ${from - stage.clock}::float8 and ${to - stage.clock}::float8
      and bool_or(after = 'processing')`
  return rows.map(({ waited }) => waited)
})

/** For a while, every other change of a job row fails with this SQLSTATE. */
const refusing = (stage: Stage, state: string, share: number) =>
  stage.sql
    .unsafe(
      `create or replace function public.refuse() returns trigger language plpgsql as $$
       begin
         if random() < ${share} then raise exception 'chaos' using errcode = '${state}'; end if;
         return new;
       end $$`
    )
    .pipe(
      Effect.andThen(
        stage.sql.unsafe(`create or replace trigger refuse before update or insert on polyqueue.polyqueue_jobs
          for each statement execute function public.refuse()`)
      )
    )

const accept = (stage: Stage) => stage.sql.unsafe("drop trigger if exists refuse on polyqueue.polyqueue_jobs")

const storm = (states: ReadonlyArray<string>) =>
  Effect.fnUntraced(function* (stage: Stage) {
    const client = yield* Load.client(stage)
    yield* stage.fleet(4)
    const trouble = Effect.gen(function* () {
      for (const state of states) {
        yield* Effect.sleep(300)
        yield* refusing(stage, state, 0.4)
        yield* Effect.sleep(1_500)
        yield* accept(stage)
      }
    })
    // Failing statements are no reason for anything to run twice: no fault is logged
    yield* Effect.all([Load.load(stage, client, { over: 1_800 * states.length, again: true }), trouble], {
      concurrency: 2
    })
    yield* accept(stage)
    yield* stage.drained()
    const errors = Array.from(stage.ledger.counts.values()).reduce((n, { dbErrors }) => n + dbErrors, 0)
    if (errors === 0) stage.violations.push("no statement failed: the cell shows nothing")
  })

const doctor = (url: string): Promise<{ readonly code: number; readonly text: string }> =>
  new Promise((resolve) => {
    const bin = fileURLToPath(new URL("../../../src/bin.ts", import.meta.url))
    const env = { ...process.env, POLYQUEUE_DB_URL: url, POLYQUEUE_BACKEND: "postgres", NO_COLOR: "1" }
    execFile(process.execPath, [bin, "doctor"], { env }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), text: stdout + stderr })
    )
  })

export const cells: ReadonlyArray<Cell> = [
  {
    name: "P9",
    what: "a long transaction of somebody holds the oldest snapshot",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(4)
      const first = now()
      yield* Load.load(stage, client, { jobs: stage.size / 2, over: 3_000 })
      const second = now()
      yield* stage.sql.withTransaction(
        Effect.gen(function* () {
          yield* stage.sql`set transaction isolation level repeatable read`
          yield* stage.sql`select count(*) from polyqueue.polyqueue_jobs`
          yield* Load.load(stage, client, { jobs: stage.size, over: 5_000 })
        })
      )
      const third = now()
      yield* stage.drained()
      const [before, during] = [yield* waits(stage, first, second), yield* waits(stage, second, third)]
      stage.extra["claim_wait_ms_p99_before"] = percentile(before, 0.99) ?? -1
      stage.extra["claim_wait_ms_p99_during"] = percentile(during, 0.99) ?? -1
    })
  },
  {
    name: "P10",
    what: "the database is read-only by default for a while, and sessions are ended",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(4)
      const [{ name } = { name: "" }] = yield* stage.sql<{ name: string }>`select current_database() as name`
      const trouble = Effect.gen(function* () {
        yield* Effect.sleep(500)
        yield* stage.sql.unsafe(`alter database ${name} set default_transaction_read_only = on`)
        yield* stage.sql`select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name <> 'chaos runner'`
        yield* Effect.sleep(2_500)
        yield* stage.sql.withTransaction(
          Effect.andThen(
            stage.sql`set transaction read write`,
            stage.sql.unsafe(`alter database ${name} reset default_transaction_read_only`)
          )
        )
      })
      yield* Effect.all([Load.load(stage, client, { over: 4_000, again: true }), trouble], { concurrency: 2 })
      yield* stage.drained()
    })
  },
  {
    name: "P11",
    what: "statements fail: the disk is full, a statement or a lock takes too long",
    brokers: bothKinds,
    run: storm(["53100", "57014", "55P03"])
  },
  {
    name: "P12",
    what: "a storm of serialization failures and deadlocks",
    brokers: bothKinds,
    run: storm(["40001", "40P01"])
  },
  {
    name: "P13",
    what: "commits are not durable (synchronous_commit off): `polyqueue doctor` says so",
    brokers: ["postgres"],
    run: Effect.fnUntraced(function* (stage) {
      const [{ name } = { name: "" }] = yield* stage.sql<{ name: string }>`select current_database() as name`
      const well = yield* Effect.promise(() => doctor(stage.url))
      yield* stage.sql.unsafe(`alter database ${name} set synchronous_commit = off`)
      const ill = yield* Effect.promise(() => doctor(stage.url))
      stage.extra["exit_code"] = ill.code
      if (ill.code === 0 || !ill.text.includes("synchronous_commit"))
        stage.violations.push(`doctor ended with ${ill.code}: ${ill.text.slice(0, 500)}`)
      if (/synchronous_commit (is )?off/.test(well.text)) stage.violations.push("doctor found it when it was on")
    })
  }
]
