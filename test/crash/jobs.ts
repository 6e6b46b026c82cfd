/** The jobs of the crash tests, and the table their handlers write to: what really happened, seen from outside. */
import { Effect, Option, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { CurrentJob, Job } from "../../src/index.ts"

/** Sleeps, and writes when it starts and when it ends. */
export class Steady extends Job.make("Steady", { payload: { n: Schema.Int, ms: Schema.Int }, success: Schema.Int }) {}

/** Takes its process down, every time. */
export class Poison extends Job.make("Poison", {}) {}

export const createEffects = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) =>
    sql`create table if not exists effects (
      job_id uuid not null, attempt int not null, phase text not null, pid int not null,
      at timestamptz not null default clock_timestamp()
    )`
)

const note = Effect.fnUntraced(function* (phase: string) {
  const sql = yield* SqlClient.SqlClient
  const job = yield* CurrentJob
  yield* sql`insert into effects ${sql.insert({ job_id: job.id, attempt: job.attempt, phase, pid: process.pid })}`
})

export const SteadyLive = Steady.toLayer(
  Effect.fnUntraced(function* ({ ms, n }) {
    const job = yield* CurrentJob
    yield* note("start")
    yield* Effect.onInterrupt(Effect.sleep(ms), () =>
      Effect.flatMap(job.interruption, (why) =>
        Effect.sync(() => process.stdout.write(`interrupted ${Option.getOrElse(why, () => "by nobody")}\n`))
      )
    )
    yield* note("end")
    return n
  }, Effect.orDie)
)

export const PoisonLive = Poison.toLayer(
  Effect.fnUntraced(function* () {
    yield* note("start")
    process.kill(process.pid, "SIGKILL")
    return yield* Effect.never
  }, Effect.orDie)
)
