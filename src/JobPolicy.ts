/**
 * Retry and timeout as data. A `Schedule` is code, so it has two evaluators: the worker that ran the attempt replays it to
 * the number of failures and asks for one delay (`delayAfter`); `Job.make` replays it once per definition, without
 * jitter, into a list of delays and a maximum that travel with the row (`compile`), for maintenance, which has no code.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type { TimeoutThen } from "./store/JobStoreDriver.ts"

/** Steps of a schedule that are written down; the last delay repeats after that. */
const maxSteps = 32

/** Attempts of a job whose schedule does not end: the largest `integer` of Postgres. */
export const unlimitedAttempts = 2_147_483_647

export const defaultPriority = 5
export const defaultQueue = "default"

/** What holds for jobs that do not say otherwise. */
export interface Defaults {
  /** Attempts of a job without a retry policy of its own. Default 3. */
  readonly maxAttempts: number
  /** Delays in ms before attempt 2, 3, … of such a job, with ±20 % jitter; the last one repeats. Default 10 s, 60 s, 300 s. */
  readonly retryDelays: ReadonlyArray<number>
  /** Workers that a job may take down before it is quarantined as poison. Default 3. */
  readonly maxCrashes: number
  /** Snoozes before a job ends as `snoozedTooOften`. Default 1,000. */
  readonly maxSnoozes: number
  /** Timeout of jobs without one, in ms. Default none. */
  readonly timeout: number | undefined
  readonly timeoutThen: TimeoutThen
  /** Largest payload in bytes of JSON. Default 1 MiB: send a reference instead of more. */
  readonly maxPayloadBytes: number
  /** Largest result or error in bytes of JSON. Default 1 MiB. */
  readonly maxResultBytes: number
}

/** The defaults in force: the original's. Override with `Layer.succeed(JobDefaults, { ...JobDefaults.defaultValue(), … })`. */
export const JobDefaults: Context.Reference<Defaults> = Context.Reference<Defaults>("polyqueue/JobDefaults", {
  defaultValue: () => ({
    maxAttempts: 3,
    retryDelays: [10_000, 60_000, 300_000],
    maxCrashes: 3,
    maxSnoozes: 1_000,
    timeout: undefined,
    timeoutThen: "retry",
    maxPayloadBytes: 1_048_576,
    maxResultBytes: 1_048_576
  })
})

/** A retry schedule. Its input is the number of failures so far (1 after the first); its end means give up. */
export type RetrySchedule = Schedule.Schedule<unknown, number>

/** How long a job may run, and what happens then. */
export interface Timeout {
  readonly after: Duration.Input
  /** `retry` (default): stop the code, count a failure. `fail`: stop the code, end the job. `ignore`: only record it. */
  readonly then?: TimeoutThen
}

/** Delays in ms, one per step, until the schedule ends or `steps` are taken. Elapsed time is the sum of the delays. */
const replay = Effect.fnUntraced(function* (schedule: RetrySchedule, steps: number) {
  const step = yield* Schedule.toStep(schedule)
  const delays: Array<number> = []
  let elapsed = 0
  for (let failures = 1; failures <= steps; failures++) {
    const next = yield* step(elapsed, failures).pipe(
      Effect.map(([, delay]) => Duration.toMillis(delay)),
      Pull.catchDone(() => Effect.undefined)
    )
    if (next === undefined) break
    delays.push(next)
    elapsed += next
  }
  return delays
})

/** Every draw in the middle: `Schedule.jittered` then changes nothing. */
const noJitter = { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => 0.5 }

/**
 * The schedule as a list of delays and the number of attempts it allows (`undefined`: it does not end). Replayed once,
 * without jitter. A schedule that needs to wait for something outside is not data: that is a defect of the definition.
 */
export const compile = (
  schedule: RetrySchedule
): { readonly delays: ReadonlyArray<number>; readonly maxAttempts: number | undefined } => {
  const delays = Effect.runSync(Effect.provideService(replay(schedule, maxSteps + 1), Random.Random, noJitter))
  return delays.length > maxSteps
    ? { delays: delays.slice(0, maxSteps), maxAttempts: undefined }
    : { delays, maxAttempts: delays.length + 1 }
}

/**
 * The delay in ms before the attempt that follows failure number `failures`. Jitter is drawn from `Random`, once. When the
 * schedule has ended but the attempt limit allows more, its last delay repeats.
 */
export const delayAfter = (schedule: RetrySchedule, failures: number): Effect.Effect<number> =>
  Effect.map(replay(schedule, failures), (delays) => delays.at(-1) ?? 0)

/** The same from a list of delays, with ±20 % jitter. */
export const delayFromList = (delays: ReadonlyArray<number>, failures: number): Effect.Effect<number> =>
  Effect.map(Random.next, (random) => {
    const delay = delays[Math.min(failures, delays.length) - 1] ?? 0
    return Math.round(delay * (0.8 + 0.4 * random))
  })
