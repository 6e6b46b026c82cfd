/**
 * The bell behind the brokers that carry no hints: somebody rings for a queue, and every consumer of that queue looks
 * at the store. It keeps one bit per consumer, so it cannot grow; rings that come faster than they are answered are one
 * ring; a ring that comes while nobody waits is answered by the next wait.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"

/** One consumer's side: it hears the rings for its queues. */
export interface Bell {
  /**
   * Waits until a ring for one of the queues came since the last wait, at most `wait` milliseconds. Interrupting it
   * loses no ring.
   */
  readonly wait: (wait: number) => Effect.Effect<void>
}

/** The bells of one broker. */
export interface Doorbell {
  /** Rings for these queues. Queues without a consumer are free. */
  readonly ring: (queues: Iterable<string>) => void
  /** Rings for everybody: after a time in which rings may have been missed. */
  readonly ringAll: () => void
  /** Whether anybody here hears the rings for this queue. */
  readonly isHeard: (queue: string) => boolean
  /** Hears the rings for these queues until the scope closes. */
  readonly subscribe: (queues: ReadonlyArray<string>) => Effect.Effect<Bell, never, Scope.Scope>
}

/** Makes a doorbell without consumers. */
export const make = (): Doorbell => {
  const byQueue = new Map<string, Set<Latch.Latch>>()

  const add = (queue: string, latch: Latch.Latch): void => {
    const latches = byQueue.get(queue)
    if (latches === undefined) byQueue.set(queue, new Set([latch]))
    else latches.add(latch)
  }

  const remove = (queue: string, latch: Latch.Latch): void => {
    const latches = byQueue.get(queue)
    latches?.delete(latch)
    if (latches?.size === 0) byQueue.delete(queue)
  }

  return {
    ring(queues) {
      for (const queue of queues) byQueue.get(queue)?.forEach((latch) => latch.openUnsafe())
    },
    ringAll() {
      for (const latches of byQueue.values()) latches.forEach((latch) => latch.openUnsafe())
    },
    isHeard: (queue) => byQueue.has(queue),
    subscribe: (queues) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const latch = Latch.makeUnsafe(false)
          for (const queue of queues) add(queue, latch)
          return latch
        }),
        (latch) =>
          Effect.sync(() => {
            for (const queue of queues) remove(queue, latch)
          })
      ).pipe(Effect.map((latch) => ({ wait: (wait) => waitFor(latch, wait) })))
  }
}

const waitFor = (latch: Latch.Latch, wait: number): Effect.Effect<void> => {
  // The last step: whoever is interrupted before it has taken no ring, and after it there is nothing to interrupt
  const answered = Effect.sync(() => {
    latch.closeUnsafe()
  })
  return wait <= 0 ? answered : Effect.andThen(Effect.timeoutOption(latch.await, wait), answered)
}
