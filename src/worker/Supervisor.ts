/**
 * Background loops that do not end because of an error: a round that fails is logged, counted and tried again after a
 * growing, jittered pause. Each loop says when it last made progress.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { BrokerError, StoreError } from "../JobError.ts"
import type { Metrics } from "../Metrics.ts"

const firstPause = 50
const maxPause = 5_000
/** More than a statement of ours may take. */
const defaultPatience = 10_000

/** How one loop is doing. Instants are epoch ms of this process. */
export interface LoopState {
  /** When it last ended a round well, or started. */
  readonly succeededAt: number
  /** When it last ended a round, well or not, or started. */
  readonly endedAt: number
  /** Since when its rounds fail; `undefined` while they do not. */
  readonly failingSince: number | undefined
  /** Longest time between two ends of rounds, in ms, when all is well; `undefined`: it waits for events, as long as it takes. */
  readonly expected: number | undefined
}

export interface Supervisor {
  /** Runs `round` again and again until the scope closes. `longest`: the longest pause after failures, in ms. Default 5 s. */
  readonly loop: (
    name: string,
    round: Effect.Effect<unknown, unknown>,
    longest?: number
  ) => Effect.Effect<void, never, Scope.Scope>
  /** Waits `interval` (±20 %), then runs `round`, again and again. `patience`: how long a round may take in ms. Default 10 s. */
  readonly every: (
    name: string,
    interval: Duration.Input,
    round: Effect.Effect<unknown, unknown>,
    patience?: number
  ) => Effect.Effect<void, never, Scope.Scope>
  /** All loops by name, for health checks. */
  readonly loops: ReadonlyMap<string, LoopState>
}

/** `owner` is put on every log line of the loops. */
export const make = (metrics: Metrics["Service"], owner: string): Effect.Effect<Supervisor> =>
  Effect.map(Clock.Clock, (clock) => {
    const loops = new Map<string, LoopState>()
    const supervise = (
      name: string,
      round: Effect.Effect<unknown, unknown>,
      longest: number,
      expected: number | undefined
    ) => {
      let failures = 0
      let failingSince: number | undefined
      let succeededAt = clock.currentTimeMillisUnsafe()
      const ended = () => {
        const endedAt = clock.currentTimeMillisUnsafe()
        if (failures === 0) {
          succeededAt = endedAt
          failingSince = undefined
        } else failingSince ??= endedAt
        loops.set(name, { succeededAt, endedAt, failingSince, expected })
      }
      const once = Effect.matchCauseEffect(round, {
        onSuccess: () =>
          Effect.suspend(() => {
            const before = failures
            failures = 0
            ended()
            return before > 1 ? Effect.logInfo(`${name} works again after ${before} failed tries`) : Effect.void
          }),
        onFailure: (cause) => {
          failures++
          ended()
          if (metrics.enabled) metrics.record({ _tag: "LoopFailed", loop: name })
          const pause = Math.min(longest, firstPause * 2 ** Math.min(failures - 1, 10))
          return Effect.andThen(
            report(name, failures, cause),
            Effect.flatMap(Random.next, (random) => Effect.sleep(Duration.millis(Math.round(pause * (0.5 + random)))))
          )
        }
      })
      ended()
      // Rounds wait for something, and what follows an answer should not wait for a turn of the event loop
      return Effect.forever(once, { disableYield: true }).pipe(
        Effect.annotateLogs({ module: "polyqueue", loop: name, worker: owner }),
        Effect.forkScoped,
        Effect.asVoid
      )
    }
    return {
      loop: (name, round, longest = maxPause) => supervise(name, round, longest, undefined),
      every: (name, interval, round, patience = defaultPatience) => {
        const milliseconds = Duration.toMillis(interval)
        return supervise(
          name,
          Effect.andThen(
            Effect.flatMap(Random.next, (random) =>
              Effect.sleep(Duration.millis(Math.round(milliseconds * (0.8 + 0.4 * random))))
            ),
            round
          ),
          maxPause,
          milliseconds * 1.2 + patience
        )
      },
      loops
    }
  })

/**
 * One line per trouble, not per try: the first failure may be a hiccup, the second is told, then ever more rarely. An error
 * of ours says it all in its message; anything else is a bug, and comes with its cause.
 */
const report = (name: string, failures: number, cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  if (failures < 2) return Effect.logDebug(`${name} failed, next try soon`, cause)
  if (failures !== 2 && (failures < 8 || (failures & (failures - 1)) !== 0)) return Effect.void
  const line = `${name} failed ${failures} times in a row and keeps trying`
  const error = cause.reasons.find(Cause.isFailReason)?.error
  return error instanceof StoreError || error instanceof BrokerError
    ? Effect.logWarning(`${line}: ${error.message}`)
    : Effect.logError(line, cause)
}
