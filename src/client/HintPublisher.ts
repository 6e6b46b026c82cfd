/**
 * Publishes hints of committed jobs, many callers' in one request: the first goes at once, what arrives while a request is
 * under way is the next batch. Nobody waits for the broker: an enqueue is done when its row is committed. A broker that
 * fails, or is so slow that hints pile up, costs latency only: the relay and the workers' own looks see to the rest.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { Broker } from "../Broker.ts"
import type { Hint } from "../broker/BrokerDriver.ts"
import type { Metrics } from "../Metrics.ts"
import * as Signal from "../worker/Signal.ts"

/** Whoever publishes a job's hint himself leaves the relay this long, in ms, before it looks after it. */
export const publishGrace = 5_000
/** Hints that wait at most; more are left to the relay. */
const maxWaiting = 50_000
/** Hints per request. The broker splits further where it must. */
const maxBatch = 1_000
/** How long the end of the layer waits for hints that are on their way. */
const closeGrace = 3_000

export interface HintPublisher {
  /** Publishes these now, and waits: for brokers that join the caller's transaction, and for doorbells, which never wait. */
  readonly direct: (hints: ReadonlyArray<Hint>) => Effect.Effect<void>
  /** Hands these over and goes on. */
  readonly later: (hints: ReadonlyArray<Hint>) => Effect.Effect<void>
  /** Counts a hint that went out with its job. */
  readonly announced: () => void
}

export const make = Effect.fnUntraced(function* (
  broker: Broker["Service"],
  metrics: Metrics["Service"]
): Effect.fn.Return<HintPublisher, never, Scope.Scope> {
  const { name } = broker.capabilities
  let waiting: Array<Hint> = []
  let isSending = false
  let failing = false
  const arrived = Signal.make()
  const idle = Signal.make()

  const count = (published: number, failed: number) => {
    if (metrics.enabled) metrics.record({ _tag: "HintsPublished", broker: name, count: published, failed })
  }
  const direct: HintPublisher["direct"] = (hints) =>
    Effect.matchEffect(broker.publish(hints), {
      onFailure: (error) => {
        count(0, hints.length)
        // Told once per outage, not once per enqueue
        const first = !failing
        failing = true
        return first ? Effect.logWarning(`hints not published, the relay will: ${error.message}`) : Effect.void
      },
      onSuccess: (outcomes) =>
        Effect.sync(() => {
          const failed = outcomes.reduce((n, outcome) => (outcome._tag === "Failed" ? n + 1 : n), 0)
          failing = failed > 0
          count(hints.length - failed, failed)
        })
    })

  const flush = Effect.suspend(() => {
    const batch = waiting.slice(0, maxBatch)
    waiting = waiting.slice(maxBatch)
    isSending = true
    return Effect.andThen(
      direct(batch),
      Effect.sync(() => {
        isSending = false
        if (waiting.length === 0) idle.notify()
      })
    )
  })
  yield* Effect.forkScoped(
    Effect.forever(
      Effect.andThen(
        arrived.wait,
        Effect.whileLoop({ while: () => waiting.length > 0, body: () => flush, step: () => {} })
      )
    )
  )
  // Runs before the fiber is interrupted. A finaliser cannot be timed out from inside: its wait has a fiber of its own
  yield* Effect.addFinalizer(() =>
    // Again after each: a rest that nobody waited for may have raised it
    Effect.whileLoop({ while: () => isSending || waiting.length > 0, body: () => idle.wait, step: () => {} }).pipe(
      Effect.timeoutOption(Duration.millis(closeGrace)),
      Effect.forkDetach({ startImmediately: true }),
      Effect.flatMap(Fiber.join)
    )
  )
  return {
    direct,
    announced: () => count(1, 0),
    later: (hints) =>
      Effect.sync(() => {
        const room = maxWaiting - waiting.length
        if (room < hints.length) count(0, hints.length - Math.max(0, room))
        for (const hint of room < hints.length ? hints.slice(0, Math.max(0, room)) : hints) waiting.push(hint)
        arrived.notify()
      })
  }
})
