/**
 * Background loops that do not end because of an error: a round that fails is logged, counted and tried again after a
 * growing, jittered pause. Each loop says when it last made progress.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { Metrics } from "../Metrics.ts"

const firstPause = 50
const maxPause = 5_000

export interface Supervisor {
  /** Runs `round` again and again until the scope closes. */
  readonly loop: (name: string, round: Effect.Effect<unknown, unknown>) => Effect.Effect<void, never, Scope.Scope>
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
    const loop: Supervisor["loop"] = (name, round) => {
      let failures = 0
      const once = Effect.matchCauseEffect(round, {
        onSuccess: () =>
          Effect.sync(() => {
            failures = 0
            progress.set(name, clock.currentTimeMillisUnsafe())
          }),
        onFailure: (cause) => {
          failures++
          if (metrics.enabled) metrics.record({ _tag: "LoopFailed", loop: name })
          const pause = Math.min(maxPause, firstPause * 2 ** Math.min(failures - 1, 10))
          return Effect.andThen(
            // The first failure may be a hiccup; from the second on a person should know
            (failures === 1 ? Effect.logDebug : Effect.logWarning)(
              `${name} failed (${failures}), next try soon`,
              cause
            ),
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
            Effect.flatMap(Random.next, (random) => Effect.sleep(Duration.millis(Math.round(milliseconds * (0.8 + 0.4 * random))))),
            round
          )
        )
      },
      progress
    }
  })
