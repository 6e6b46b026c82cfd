/**
 * Waiting for jobs to end, for any number of waiters with one look-up per round: ids of all waiters go into one statement,
 * asked again in growing intervals (10 ms to 1 s, per waiter), and at once when a job ended through this process's store.
 * A store in memory hears of everything itself and is asked once.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { StoreError } from "../JobError.ts"
import type { JobStoreService } from "../JobStore.ts"
import * as Signal from "../worker/Signal.ts"

const firstInterval = 10
const maxInterval = 1_000

interface Waiter {
  interval: number
  dueAt: number
  readonly resume: (effect: Effect.Effect<void, StoreError>) => void
}

/** Returns an effect that ends when the job has ended or does not exist. */
export const make = Effect.fnUntraced(function* (
  store: JobStoreService
): Effect.fn.Return<(id: string) => Effect.Effect<void, StoreError>, never, Scope.Scope> {
  const clock = yield* Clock.Clock
  const waiting = new Map<string, Set<Waiter>>()
  const changed = Signal.make()

  const wake = (ids: ReadonlyArray<string>, effect: Effect.Effect<void, StoreError>) => {
    for (const id of ids) {
      const waiters = waiting.get(id)
      if (waiters === undefined) continue
      waiting.delete(id)
      for (const waiter of waiters) waiter.resume(effect)
    }
  }

  const round = Effect.gen(function* () {
    if (waiting.size === 0) return yield* changed.wait
    const now = clock.currentTimeMillisUnsafe()
    const due: Array<string> = []
    let next = Infinity
    for (const [id, waiters] of waiting) {
      let isDue = false
      for (const waiter of waiters) {
        if (waiter.dueAt <= now) {
          isDue = true
          waiter.interval = store.isLocal ? Infinity : Math.min(maxInterval, waiter.interval * 2)
          waiter.dueAt = now + waiter.interval
        }
        next = Math.min(next, waiter.dueAt)
      }
      if (isDue) due.push(id)
    }
    if (due.length > 0) {
      const exit = yield* Effect.exit(store.ended(due))
      // Waiting outlives an outage; only a store that will never answer ends it
      if (Exit.isSuccess(exit)) wake(exit.value, Effect.void)
      else if (!isTransient(exit)) wake(due, Effect.failCause(exit.cause))
      return
    }
    if (next === Infinity) return yield* changed.wait
    yield* Effect.raceFirst(Effect.sleep(Duration.millis(Math.max(1, next - now))), changed.wait)
  })
  yield* Effect.forkScoped(Effect.forever(round))

  const unsubscribe = store.onEnded((ids) => wake(ids, Effect.void))
  yield* Effect.addFinalizer(() => Effect.sync(unsubscribe))

  return (id) =>
    Effect.callback<void, StoreError>((resume) => {
      // The first look is at once: the job may have ended before anybody waited
      const waiter: Waiter = { interval: firstInterval / 2, dueAt: clock.currentTimeMillisUnsafe(), resume }
      const waiters = waiting.get(id)
      if (waiters === undefined) waiting.set(id, new Set([waiter]))
      else waiters.add(waiter)
      changed.notify()
      return Effect.sync(() => {
        const waiters = waiting.get(id)
        if (waiters?.delete(waiter) && waiters.size === 0) waiting.delete(id)
      })
    })
})

const isTransient = (exit: Exit.Failure<unknown, StoreError>): boolean =>
  exit.cause.reasons.every((reason) => reason._tag === "Fail" && reason.error.isTransient)
