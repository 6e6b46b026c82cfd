/** The jobs that chaos runs: one that does what its payload says, and one that only newer workers know. */
import { CurrentJob, Job } from "../../src/index.ts"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { SqlClient } from "effect/sql/SqlClient"
import { now, say } from "./Report.ts"

/**
 * What a job does: `ok` succeeds after `ms`; `once` fails in its first attempt; `always` fails; `exit` and `kill` take the
 * process down; `block` holds the event loop for `ms` in its first attempt, `endless` for ever in each; `stubborn` cannot be
 * interrupted; `rejection` leaves a rejected promise behind; `finalizer` dies in a finalizer; `hook` never ends and throws
 * when interrupted; `query` keeps a session of the application's own pool busy for `ms`; `lock` stops its process while a
 * transaction of the application holds the lock of the job's own row.
 */
export const Mode = Schema.Literals([
  "ok",
  "once",
  "always",
  "exit",
  "kill",
  "block",
  "endless",
  "stubborn",
  "rejection",
  "finalizer",
  "hook",
  "query",
  "lock"
])
export type Mode = typeof Mode.Type

export class No extends Schema.TaggedError<No>()("No", { n: Schema.Int }) {}

export class Work extends Job.make("Work", {
  payload: { n: Schema.Int, ms: Schema.Int, mode: Mode },
  success: Schema.Int,
  error: No,
  retry: { schedule: Schedule.spaced("200 millis").pipe(Schedule.upTo({ times: 4 })) }
}) {}

/** Unknown to workers of the older version. */
export class Newer extends Job.make("Newer", { payload: { n: Schema.Int }, success: Schema.Int }) {}

/** One live job per key. */
export class Keyed extends Job.make("Keyed", {
  payload: { key: Schema.String, ms: Schema.Int },
  success: Schema.Int,
  idempotencyKey: ({ key }) => key,
  uniqueWhile: "live"
}) {}

const note = (t: "start" | "end" | "fail" | "interrupted") =>
  Effect.map(CurrentJob, (job) => say({ t, at: now(), job: job.id, attempt: job.attempt }))

const hold = (ms: number): void => {
  const at = now()
  say({ t: "fault", fault: { kind: "block", at, until: at + ms, pid: process.pid } })
  while (now() < at + ms);
}

/** In the first attempt only. */
const first = (effect: Effect.Effect<unknown, No>, others: Effect.Effect<unknown> = Effect.void) =>
  Effect.flatMap(CurrentJob, ({ attempt }) => (attempt === 1 ? effect : others))

/** What a mode does between the start and the end of a run. `sql`: the application's own client. */
const act = (mode: Mode, n: number, ms: number, sql: SqlClient): Effect.Effect<unknown, No, CurrentJob> => {
  switch (mode) {
    case "ok":
      return Effect.sleep(ms)
    case "once":
      return Effect.andThen(Effect.sleep(ms), first(Effect.fail(new No({ n }))))
    case "always":
      return Effect.andThen(Effect.sleep(ms), Effect.fail(new No({ n })))
    case "exit":
      return Effect.sync(() => {
        say({ t: "fault", fault: { kind: "exit", at: now(), pid: process.pid } })
        process.exit(7)
      })
    case "kill":
      return Effect.sync(() => {
        say({ t: "fault", fault: { kind: "kill", at: now(), pid: process.pid } })
        process.kill(process.pid, "SIGKILL")
      }).pipe(Effect.andThen(Effect.never))
    case "block":
      return first(Effect.sync(() => hold(ms)))
    case "endless":
      return Effect.sync(() => hold(Infinity))
    case "stubborn":
      return Effect.flatMap(CurrentJob, ({ id }) =>
        Effect.suspend(() => {
          const at = now()
          say({ t: "fault", fault: { kind: "stubborn", at, until: at + ms, pid: process.pid, jobs: [id] } })
          return Effect.uninterruptible(Effect.sleep(ms))
        })
      )
    case "rejection":
      return Effect.andThen(
        Effect.sync(() => void Promise.reject(new Error("nobody handles this"))),
        Effect.sleep(ms)
      )
    case "finalizer":
      return Effect.ensuring(Effect.sleep(ms), Effect.orDie(first(Effect.die(new Error("in a finalizer")))))
    case "hook":
      return Effect.onInterrupt(Effect.never, () => Effect.die(new Error("when interrupted")))
    case "query":
      return Effect.orDie(sql`select pg_sleep(${ms / 1_000}::float8)`)
    case "lock":
      return Effect.flatMap(CurrentJob, ({ id }) =>
        first(
          sql
            .withTransaction(
              Effect.gen(function* () {
                yield* sql.unsafe(`set local idle_in_transaction_session_timeout = ${ms}`).unprepared
                yield* sql`select 1 from polyqueue.polyqueue_jobs where id = ${id}::uuid for update`
                say({ t: "fault", fault: { kind: "stop with the lock", at: now(), pid: process.pid } })
                process.kill(process.pid, "SIGSTOP")
                yield* sql`select 1`
              })
            )
            .pipe(Effect.ignore)
        )
      )
  }
}

/** The handlers. */
export const handlers = (sql: SqlClient) => ({
  work: Work.toLayer(
    Effect.fnUntraced(function* ({ mode, ms, n }) {
      yield* note("start")
      yield* act(mode, n, ms, sql).pipe(
        Effect.onInterrupt(() => note("interrupted")),
        Effect.tapError(() => note("fail"))
      )
      yield* note("end")
      return n
    })
  ),
  keyed: Keyed.toLayer(
    Effect.fnUntraced(function* ({ ms }) {
      yield* note("start")
      yield* Effect.onInterrupt(Effect.sleep(ms), () => note("interrupted"))
      yield* note("end")
      return ms
    })
  ),
  newer: Newer.toLayer(
    Effect.fnUntraced(function* ({ n }) {
      yield* note("start")
      yield* note("end")
      return n
    })
  )
})
