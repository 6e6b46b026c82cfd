/** The jobs that chaos runs: one that does what its payload says, and one that only newer workers know. */
import { CurrentJob, Job } from "../../src/index.ts"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { now, say } from "./Report.ts"

/**
 * What a job does: `ok` succeeds after `ms`; `once` fails in its first attempt; `always` fails; `exit` and `kill` take the
 * process down; `block` holds the event loop for `ms`, `endless` for ever; `stubborn` cannot be interrupted; `rejection`
 * leaves a rejected promise behind; `finalizer` dies in a finalizer; `hook` never ends and throws when interrupted; `query`
 * keeps a session of the application's own pool busy for `ms`.
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
  "query"
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

const note = (t: "start" | "end" | "fail" | "interrupted") =>
  Effect.map(CurrentJob, (job) => say({ t, at: now(), job: job.id, attempt: job.attempt }))

const hold = (ms: number): void => {
  const at = now()
  say({ t: "fault", fault: { kind: "block", at, until: at + ms, pid: process.pid } })
  while (now() < at + ms);
}

/** What a mode does between the start and the end of a run. `query`: how to keep a database session busy. */
const act = (
  mode: Mode,
  n: number,
  ms: number,
  query: (ms: number) => Effect.Effect<unknown>
): Effect.Effect<unknown, No, CurrentJob> => {
  switch (mode) {
    case "ok":
      return Effect.sleep(ms)
    case "once":
      return Effect.flatMap(CurrentJob, ({ attempt }) =>
        Effect.andThen(Effect.sleep(ms), attempt === 1 ? Effect.fail(new No({ n })) : Effect.void)
      )
    case "always":
      return Effect.andThen(Effect.sleep(ms), Effect.fail(new No({ n })))
    case "exit":
      return Effect.flatMap(CurrentJob, ({ id }) =>
        Effect.sync(() => {
          say({ t: "fault", fault: { kind: "exit", at: now(), pid: process.pid } })
          say({ t: "note", text: `exit in ${id}` })
          process.exit(7)
        })
      )
    case "kill":
      return Effect.sync(() => {
        say({ t: "fault", fault: { kind: "kill", at: now(), pid: process.pid } })
        process.kill(process.pid, "SIGKILL")
      }).pipe(Effect.andThen(Effect.never))
    case "block":
      return Effect.sync(() => hold(ms))
    case "endless":
      return Effect.sync(() => hold(Infinity))
    case "stubborn":
      return Effect.uninterruptible(Effect.sleep(ms))
    case "rejection":
      return Effect.andThen(
        Effect.sync(() => void Promise.reject(new Error("nobody handles this"))),
        Effect.sleep(ms)
      )
    case "finalizer":
      return Effect.flatMap(CurrentJob, ({ attempt }) =>
        Effect.ensuring(Effect.sleep(ms), attempt === 1 ? Effect.die(new Error("in a finalizer")) : Effect.void)
      )
    case "hook":
      return Effect.onInterrupt(Effect.never, () => Effect.die(new Error("when interrupted")))
    case "query":
      return query(ms)
  }
}

/** The handlers. */
export const handlers = (query: (ms: number) => Effect.Effect<unknown>) => ({
  work: Work.toLayer(
    Effect.fnUntraced(function* ({ mode, ms, n }) {
      yield* note("start")
      yield* act(mode, n, ms, query).pipe(
        Effect.onInterrupt(() => note("interrupted")),
        Effect.tapError(() => note("fail"))
      )
      yield* note("end")
      return n
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
