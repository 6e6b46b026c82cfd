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

export interface Supervisor {
  /** Runs `round` again and again until the scope closes. `longest`: the longest pause after failures, in ms. Default 5 s. */
  readonly loop: (
    name: string,
    round: Effect.Effect<unknown, unknown>,
    longest?: number
  ) => Effect.Effect<void, never, Scope.Scope>
  /** Runs `round`, then waits `interval` (±20 %), again and again. */
  readonly every: (
    name: string,
    interval: Duration.Input,
    round: Effect.Effect<unknown, unknown>
  ) => Effect.Effect<void, never, Scope.Scope>
  /** When each loop last ended a round, in epoch ms of this process. */
  readonly progress: ReadonlyMap<string, number>
}

/** `owner` is put on every log line of the loops. */
export const make = (metrics: Metrics["Service"], owner: string): Effect.Effect<Supervisor> =>
  Effect.map(Clock.Clock, (clock) => {
    const progress = new Map<string, number>()
    const loop: Supervisor["loop"] = (name, round, longest = maxPause) => {
      let failures = 0
      const once = Effect.matchCauseEffect(round, {
        onSuccess: () =>
          Effect.suspend(() => {
            const before = failures
            failures = 0
            progress.set(name, clock.currentTimeMillisUnsafe())
            return before > 1 ? Effect.logInfo(`${name} works again after ${before} failed tries`) : Effect.void
          }),
        onFailure: (cause) => {
          failures++
          if (metrics.enabled) metrics.record({ _tag: "LoopFailed", loop: name })
          const pause = Math.min(longest, firstPause * 2 ** Math.min(failures - 1, 10))
          return Effect.andThen(
            report(name, failures, cause),
            Effect.flatMap(Random.next, (random) => Effect.sleep(Duration.millis(Math.round(pause * (0.5 + random)))))
          )
        }
      })
      progress.set(name, clock.currentTimeMillisUnsafe())
      return Effect.forever(once).pipe(
        Effect.annotateLogs({ module: "polyqueue", loop: name, worker: owner }),
        Effect.forkScoped,
        Effect.asVoid
      )
    }
    return {
      loop,
      every: (name, interval, round) => {
        const milliseconds = Duration.toMillis(interval)
        return loop(
          name,
          Effect.andThen(
            Effect.flatMap(Random.next, (random) =>
              Effect.sleep(Duration.millis(Math.round(milliseconds * (0.8 + 0.4 * random))))
            ),
            round
          )
        )
      },
      progress
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
