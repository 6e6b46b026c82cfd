/**
 * The workload of Polyqueue's own simulation: jobs of every kind of behaviour, drawn from the seed, enqueued by clients that
 * insist, cancelled now and then, awaited; and what each kind must have become in the end.
 */
import { Effect, Exit, Layer, Schedule, Schema } from "effect"
import { CurrentJob, Job, type JobRecord, Polyqueue, RetryAfter, Snooze, TerminalError } from "../../src/index.ts"
import type { JobHistory } from "../../src/testing/simulation/History.ts"
import { CurrentProcess } from "../../src/testing/simulation/Process.ts"
import type * as Rng from "../../src/testing/simulation/Rng.ts"
import * as Operator from "./Operator.ts"

class Refusal extends Schema.TaggedError<Refusal>()("Refusal", { attempt: Schema.Int }) {}

/** What a handler does; `duration` in ms. */
const Behaviour = Schema.Struct({
  kind: Schema.Literals([
    "works",
    "fails once",
    "fails always",
    "terminal",
    "defect once",
    "snoozes once",
    "asks for time",
    "kills its worker",
    "blocks its worker",
    "ignores interrupts",
    "never ends"
  ]),
  duration: Schema.Int
})
type Behaviour = typeof Behaviour.Type

const options = {
  payload: { behaviour: Behaviour },
  success: Schema.Int,
  error: Refusal,
  retry: { schedule: Schedule.spaced("300 millis") },
  maxAttempts: 3
} as const

class Quick extends Job.make("Quick", options) {}
class Slow extends Job.make("Slow", { ...options, queue: "slow", priority: 3 }) {}
class Timed extends Job.make("Timed", { ...options, timeout: { after: "400 millis", then: "retry" } }) {}
class Short extends Job.make("Short", { ...options, timeout: { after: "300 millis", then: "fail" } }) {}
class Lenient extends Job.make("Lenient", { ...options, timeout: { after: "300 millis", then: "ignore" } }) {}
class Keyed extends Job.make("Keyed", { ...options, uniqueWhile: "live" }) {}
class Once extends Job.make("Once", { ...options, uniqueWhile: "retained" }) {}

export const jobs = [Quick, Slow, Timed, Short, Lenient, Keyed, Once] as const
export const queues = ["default", "slow"] as const

const handle = Effect.fnUntraced(function* ({ behaviour }: { readonly behaviour: Behaviour }) {
  const { attempt } = yield* CurrentJob
  const { duration, kind } = behaviour
  const half = Math.floor(duration / 2)
  yield* Effect.sleep(half)
  switch (kind) {
    case "fails once":
      if (attempt === 1) return yield* new Refusal({ attempt })
      break
    case "fails always":
      return yield* new Refusal({ attempt })
    case "terminal":
      return yield* new TerminalError({ message: "never" })
    case "defect once":
      if (attempt === 1) return yield* Effect.die(new Error("a bug"))
      break
    case "snoozes once":
      if (attempt === 1) return yield* new Snooze({ delay: "1 second" })
      break
    case "asks for time":
      if (attempt === 1) return yield* new RetryAfter({ delay: "1500 millis" })
      break
    case "kills its worker": {
      const process = yield* CurrentProcess
      process.kill("by its job")
      return yield* Effect.never
    }
    case "blocks its worker": {
      const process = yield* CurrentProcess
      process.pause(duration * 2, "by its job")
      break
    }
    case "ignores interrupts":
      yield* Effect.uninterruptible(Effect.sleep(duration))
      break
    case "never ends":
      return yield* Effect.never
  }
  const { heartbeat, progress } = yield* CurrentJob
  yield* duration % 2 === 0 ? heartbeat : progress(50)
  yield* Effect.sleep(duration - half)
  return attempt
})

export const handlers = Layer.mergeAll(
  Quick.toLayer(handle),
  Slow.toLayer(handle),
  Timed.toLayer(handle),
  Short.toLayer(handle),
  Lenient.toLayer(handle),
  Keyed.toLayer(handle),
  Once.toLayer(handle)
) as unknown as Layer.Layer<never>

interface Planned {
  readonly job: (typeof jobs)[number]
  readonly behaviour: Behaviour
  readonly pause: number
  readonly options: Job.EnqueueOptions
  readonly cancelAfter: number | undefined
  /** More of the same, enqueued at once before it. */
  readonly copies: number
}

const plan = (rng: Rng.Rng): Planned => {
  const job = rng.pick([Quick, Quick, Quick, Slow, Slow, Timed, Short, Lenient, Keyed, Once])
  const kinds: ReadonlyArray<Behaviour["kind"]> =
    job === Timed || job === Short
      ? ["works", "works", "never ends", "ignores interrupts", "fails once"]
      : [
          "works",
          "works",
          "works",
          "works",
          "fails once",
          "fails always",
          "terminal",
          "defect once",
          "snoozes once",
          "asks for time",
          "kills its worker",
          "blocks its worker",
          "ignores interrupts"
        ]
  return {
    job,
    behaviour: {
      kind: rng.pick(kinds),
      duration: job === Slow ? rng.int(500, 6_000) : rng.pick([0, 0, 5, 20, rng.int(20, 800)])
    },
    pause: rng.chance(0.5) ? 0 : rng.int(0, 800),
    options: {
      ...(rng.chance(0.2) ? { delay: rng.int(1, 3_000) } : {}),
      ...(rng.chance(0.2) ? { priority: rng.int(0, 9) } : {}),
      ...(job === Keyed || job === Once ? { idempotencyKey: `key ${rng.int(1, 2)}` } : {})
    },
    cancelAfter: rng.chance(0.1) ? rng.int(0, 2_000) : undefined,
    copies: job === Quick && rng.chance(0.05) ? rng.int(1, 5) : 0
  }
}

/** Everything one run needs, from its seed. */
export const make = (rng: Rng.Rng) => {
  const awaited = new Map<string, Exit.Exit<unknown, unknown>>()
  const program = (plans: ReadonlyArray<Planned>) =>
    Effect.gen(function* () {
      const queue = yield* Polyqueue
      for (const { behaviour, cancelAfter, copies, job, options, pause } of plans) {
        yield* Effect.sleep(pause)
        // Ids of their own: an unknown outcome is one, and nobody insists
        if (copies > 0) yield* Effect.ignore(job.enqueueAll(Array.from({ length: copies }, () => ({ behaviour }))))
        const id = yield* queue.makeId
        // The same id again after an unknown outcome: one job, however often
        const insist = Effect.retry(job.enqueue({ behaviour }, { ...options, id }), {
          schedule: Schedule.spaced("200 millis"),
          while: (error) => error.reason === "StoreUnavailable"
        })
        const handle = yield* insist
        yield* Effect.forkChild(
          Effect.flatMap(
            Effect.exit(Effect.retry(handle.await, { while: isTransient, schedule: Schedule.spaced("200 millis") })),
            (exit) => Effect.sync(() => awaited.set(handle.id, exit))
          )
        )
        if (cancelAfter !== undefined) {
          yield* Effect.forkChild(Effect.delay(Effect.ignore(handle.cancel), cancelAfter))
        }
      }
    })
  const plans = Array.from({ length: rng.int(3, 24) }, () => plan(rng))
  const orders = rng.chance(0.3) ? Operator.plan(rng, jobs, queues) : []
  const middle = rng.chance(0.5) ? plans.length : plans.length >> 1
  return {
    jobs,
    handlers,
    clients: [
      ...[plans.slice(0, middle), plans.slice(middle)].flatMap((part) =>
        part.length === 0 ? [] : [{ program: program(part), isVulnerable: true }]
      ),
      ...(orders.length === 0 ? [] : [{ program: Operator.program(orders), isVulnerable: false }])
    ],
    check: (row: JobRecord, job: JobHistory): ReadonlyArray<string> => problems(row, job, awaited.get(row.id))
  }
}

const isTransient = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "isTransient" in error && error.isTransient === true

/** What is wrong with a job that has ended. */
const problems = (
  row: JobRecord,
  { earlierRows, wasFailed, wasRequeued }: JobHistory,
  exit: Exit.Exit<unknown, unknown> | undefined
): ReadonlyArray<string> => {
  const { kind } = (row.payload as { readonly behaviour: Behaviour }).behaviour
  const found: Array<string> = []
  const say = (what: string) => found.push(`${row.type} that ${kind}: ${what}`)
  const code = row.error?.code
  // Its first attempt, and whoever waited for it, were of an earlier life of it
  const isFirstLife = !wasRequeued && earlierRows === 0
  const usedUp = isFirstLife ? row.failures === row.maxAttempts : row.failures >= row.maxAttempts
  if (exit !== undefined && isFirstLife) {
    const isSuccess = Exit.isSuccess(exit)
    if (isSuccess !== (row.status === "succeeded")) say(`whoever waits was told otherwise than ${row.status}`)
    if (isSuccess && exit.value !== row.result) say(`whoever waits was told ${String(exit.value)}`)
  }
  if (row.status === "succeeded") {
    if (row.result !== row.attempt) say(`its result is that of attempt ${String(row.result)}, not ${row.attempt}`)
    if (["fails always", "terminal", "kills its worker", "never ends"].includes(kind)) say("it succeeded")
    return found
  }
  if (row.status === "cancelled") {
    if (row.cancelRequestedAt === undefined) say("it is cancelled, and nobody asked for it")
    return found
  }
  if (code === "failedByAdmin") return wasFailed ? found : ["it was failed by nobody"]
  // Failed. Poison is explained by the crashes, each of which is explained
  if (code === "poison") {
    if (isFirstLife ? row.crashes !== row.maxCrashes : row.crashes < row.maxCrashes)
      say(`it is quarantined after ${row.crashes} crashes`)
    return found
  }
  switch (kind) {
    case "fails always":
    case "never ends":
    case "ignores interrupts":
    case "works":
    case "fails once":
      if (code === "timedOut") {
        if (row.type !== "Short" && !usedUp) say(`it timed out ${row.failures} times only`)
        if (row.type !== "Short" && row.type !== "Timed") say("it timed out, and has no timeout")
        return found
      }
      if (kind === "fails always" && code === "error" && usedUp) return found
      break
    case "terminal":
      if (code === "terminal") return found
      break
    default:
  }
  say(`it failed: ${code} (${row.error?.message})`)
  return found
}
