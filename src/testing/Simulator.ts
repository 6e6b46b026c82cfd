/**
 * Runs your handlers in a simulated fleet, and breaks it: the real worker, maintenance and client, on a simulated network,
 * store and broker. Any process can be killed between any two steps, any call can fail before or after its effect, any hint
 * can be lost, doubled, delayed or forged. A seed decides everything, so a failure replays exactly.
 *
 * Does this handler do the right thing, wherever its worker dies?
 *
 * ```ts
 * it.effect("charges once", () =>
 *   Simulator.everyCrash(() => {
 *     // The outside world survives the worker
 *     const charged = new Map<string, number>()
 *     return {
 *       jobs: [Charge],
 *       handlers: Charge.toLayer(({ order }) => Effect.sync(() => charged.set(order, 10))),
 *       program: Charge.enqueue({ order: "o-1" }),
 *       check: () => (charged.get("o-1") === 10 ? [] : ["the order was not charged"])
 *     }
 *   })
 * )
 * ```
 *
 * `everyCrash` kills the worker once at every step of the work; `explore` draws many worlds, with all faults at once. Handlers
 * take their time from Effect's `Clock` and their chance from `Random`; promises are waited for whenever time is to move, but
 * only those that need no other time than the machine's next turn.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { Admin } from "../Admin.ts"
import type { Any } from "../Job.ts"
import { type Defaults, JobDefaults } from "../JobPolicy.ts"
import type { Polyqueue } from "../Polyqueue.ts"
import type { JobRecord } from "../store/JobStoreDriver.ts"
import type { HandlersOf, Options as WorkerOptions } from "../Worker.ts"
import type { Violation } from "./simulation/History.ts"
import { CurrentProcess } from "./simulation/Process.ts"
import * as Rng from "./simulation/Rng.ts"
import * as Setup from "./simulation/Setup.ts"
import { type Options, Simulation } from "./simulation/Simulation.ts"
import * as Tally from "./simulation/Tally.ts"

export type { Violation } from "./simulation/History.ts"
export type { Mode } from "./simulation/Setup.ts"
export type { Tally } from "./simulation/Tally.ts"

/** What is simulated. Made anew for every run: what it closes over is that run's outside world. */
export interface Scenario<Jobs extends ReadonlyArray<Any>> {
  readonly jobs: Jobs
  /** Built anew in every worker process. */
  readonly handlers: Layer.Layer<HandlersOf<Jobs[number]>>
  /**
   * What clients do, each in a process of its own that nobody kills. With faults, an enqueue may fail as in production: give
   * it an id and insist.
   */
  readonly program:
    | Effect.Effect<unknown, unknown, Polyqueue | Admin>
    | ReadonlyArray<Effect.Effect<unknown, unknown, Polyqueue | Admin>>
  /** What is wrong in the outside world when it is over: sentences; none when all is well. */
  readonly check?: (jobs: ReadonlyArray<JobRecord>) => ReadonlyArray<string>
}

/** A promise was broken. `message` says which, in which run, and tells its story. */
export class SimulationFailure extends Data.TaggedError("SimulationFailure")<{
  readonly message: string
  /** Replays it, given to `explore` as `seed`. For `everyCrash`: the step at which the worker was killed. */
  readonly seed: number
  readonly violations: ReadonlyArray<Violation>
  /** Everything that happened, one line each, with its simulated time in seconds. */
  readonly story: ReadonlyArray<string>
}> {}

/** Kills the process this handler runs in, at once and without a word: for jobs that are to take their worker down. */
export const crash: Effect.Effect<never> = Effect.flatMap(Effect.serviceOption(CurrentProcess), (process) => {
  if (process._tag === "None") return Effect.die(new Error("Simulator.crash: this does not run in a simulation"))
  process.value.kill("by its job")
  return Effect.never
})

/** Blocks the process this handler runs in for so many milliseconds, as a busy loop would. */
export const block = (milliseconds: number): Effect.Effect<void> =>
  Effect.flatMap(Effect.serviceOption(CurrentProcess), (process) => {
    if (process._tag === "None") return Effect.die(new Error("Simulator.block: this does not run in a simulation"))
    process.value.pause(milliseconds, "by its job")
    return Effect.yieldNow
  })

/** Many worlds: `seeds` of them, or the one of `seed`. */
export interface ExploreOptions {
  /** How many, from seed 1. Default 200. */
  readonly seeds?: number
  /** Only this one. */
  readonly seed?: number
  /**
   * `safety`: faults never cease, nothing wrong may ever happen. `liveness` (default): they cease, but for some that stay;
   * then everything must end.
   */
  readonly mode?: Setup.Mode
  /** What holds for jobs that do not say otherwise. Default: the defaults of `JobDefaults`. */
  readonly defaults?: Partial<Defaults>
}

/**
 * Runs the scenario in many worlds, each with its own mixture of faults. Fails with the first broken promise: of Polyqueue's
 * own, or of `check`. Answers what was done.
 */
export const explore = <const Jobs extends ReadonlyArray<Any>>(
  make: (seed: number) => Scenario<Jobs>,
  options: ExploreOptions = {}
): Effect.Effect<Tally.Tally, SimulationFailure> =>
  Effect.gen(function* () {
    const mode = options.mode ?? "liveness"
    const tally = Tally.make()
    const first = options.seed ?? 1
    const last = options.seed ?? options.seeds ?? 200
    for (let seed = first; seed <= last; seed++) {
      const run = (tells: boolean) => {
        const scenario = make(seed)
        const setup = Setup.draw(Rng.make(seed), mode, queuesOf(scenario.jobs))
        return runOnce(scenario, { seed, mode, setup, defaults: options.defaults, tells })
      }
      const simulation = yield* run(false)
      Tally.add(tally, simulation)
      // Told only when it is worth telling: the same seed does the same again
      if (simulation.history.violations.length > 0) return yield* failureOf(seed, `seed ${seed}`, yield* run(true))
    }
    return tally
  })

/** Options of `everyCrash`. */
export interface EveryCrashOptions {
  /** Of the worker. */
  readonly worker?: WorkerOptions
  readonly defaults?: Partial<Defaults>
  /** Kills at most this many times, spread evenly over the steps. Default 1,000. */
  readonly atMost?: number
}

/** Steps after the last job has ended that belong to it: its ack, the next claim. */
const afterwards = 20

/**
 * Runs the scenario once for every step that its worker takes from the first claim until the last job has ended, and kills
 * the worker at that step; another one takes over. Everything must end, and `check` must be content, each time. Answers how
 * many crashes that were.
 */
export const everyCrash = <const Jobs extends ReadonlyArray<Any>>(
  make: () => Scenario<Jobs>,
  options: EveryCrashOptions = {}
): Effect.Effect<number, SimulationFailure> =>
  Effect.gen(function* () {
    const run = (killFirstAtStep: number, tells: boolean) =>
      runOnce(make(), {
        seed: 1,
        mode: "liveness",
        setup: {
          ...Setup.calm,
          places: [{ options: options.worker ?? {}, broken: new Set(), knows: 1 }],
          // Every step of every fiber is a task of its own
          yields: 1,
          killFirstAtStep
        },
        defaults: options.defaults,
        tells
      })
    const whole = yield* run(Infinity, false)
    if (whole.history.violations.length > 0) {
      return yield* failureOf(0, "no crash at all", yield* run(Infinity, true))
    }
    const attempts = [...whole.history.jobs.values()].flatMap((job) => job.attempts)
    const first = Math.min(...attempts.map(({ claimedAtStep }) => claimedAtStep))
    const last = Math.max(...attempts.map(({ endedAtStep }) => endedAtStep ?? 0)) + afterwards
    if (attempts.length === 0) return 0
    const stride = Math.max(1, Math.ceil((last - first + 1) / (options.atMost ?? 1_000)))
    let crashes = 0
    for (let step = first; step <= last; step += stride) {
      const simulation = yield* run(step, false)
      crashes++
      if (simulation.history.violations.length > 0) {
        return yield* failureOf(step, `a crash at step ${step}`, yield* run(step, true))
      }
    }
    return crashes
  })

const queuesOf = (jobs: ReadonlyArray<Any>): ReadonlyArray<string> =>
  Array.from(new Set(jobs.map((job) => job.definition.queue)))

const failureOf = (seed: number, what: string, { history, world }: Simulation): SimulationFailure => {
  const lines = history.violations.map(({ at, message, rule }) => `${rule} (${at / 1_000} s): ${message}`)
  return new SimulationFailure({
    message: [`${what} breaks a promise:`, ...lines, "", ...world.story].join("\n"),
    seed,
    violations: history.violations,
    story: world.story
  })
}

const runOnce = <Jobs extends ReadonlyArray<Any>>(
  scenario: Scenario<Jobs>,
  options: Pick<Options, "seed" | "mode" | "setup" | "tells"> & { readonly defaults: Partial<Defaults> | undefined }
): Effect.Effect<Simulation> =>
  Effect.promise(async () => {
    const programs = [scenario.program].flat() as ReadonlyArray<Effect.Effect<unknown, unknown, Polyqueue | Admin>>
    const simulation = new Simulation({
      ...options,
      jobs: scenario.jobs,
      handlers: scenario.handlers,
      clients: programs.map((program) => ({ program, isVulnerable: false })),
      defaults: { ...JobDefaults.defaultValue(), ...options.defaults }
    })
    for (const _ of simulation.drive()) await new Promise(setImmediate)
    const { history } = simulation
    const rows = [...history.jobs.keys()].flatMap((id) => simulation.row(id) ?? [])
    if (options.setup.faultsFor === 0) {
      for (const failure of simulation.clientFailures) history.violate("the program ends", failure)
    }
    for (const problem of scenario.check?.(rows) ?? []) history.violate("check", problem)
    return simulation
  })
