/**
 * Calls back at monotonic instants, with one fiber and one timer for all of them. Costs nothing for jobs without a timeout.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Signal from "./Signal.ts"
import type { Supervisor } from "./Supervisor.ts"
import { monotonic } from "./WorkerContext.ts"
import type * as Scope from "effect/Scope"

export interface Deadlines {
  /** Calls `callback` at `at` (monotonic ms). It decides itself whether it still matters. */
  readonly add: (at: number, callback: () => void) => void
}

interface Deadline {
  readonly at: number
  readonly callback: () => void
}

/** A binary heap by `at`. */
const push = (heap: Array<Deadline>, item: Deadline): void => {
  let i = heap.push(item) - 1
  while (i > 0) {
    const parent = (i - 1) >> 1
    if (heap[parent]!.at <= item.at) break
    heap[i] = heap[parent]!
    i = parent
  }
  heap[i] = item
}

const pop = (heap: Array<Deadline>): void => {
  const item = heap.pop()!
  if (heap.length === 0) return
  let i = 0
  while (true) {
    let child = 2 * i + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && heap[child + 1]!.at < heap[child]!.at) child++
    if (heap[child]!.at >= item.at) break
    heap[i] = heap[child]!
    i = child
  }
  heap[i] = item
}

export const make = Effect.fnUntraced(function* (
  clock: Clock.Clock,
  supervisor: Supervisor
): Effect.fn.Return<Deadlines, never, Scope.Scope> {
  const heap: Array<Deadline> = []
  const earlier = Signal.make()
  yield* supervisor.loop(
    "deadlines",
    Effect.suspend(() => {
      while (heap.length > 0 && heap[0]!.at <= monotonic(clock)) {
        const { callback } = heap[0]!
        pop(heap)
        callback()
      }
      return heap.length === 0
        ? earlier.wait
        : Effect.raceFirst(
            Effect.sleep(Duration.millis(Math.max(1, Math.ceil(heap[0]!.at - monotonic(clock))))),
            earlier.wait
          )
    })
  )
  return {
    add: (at, callback) => {
      const isEarliest = heap.length === 0 || at < heap[0]!.at
      push(heap, { at, callback })
      if (isEarliest) earlier.notify()
    }
  }
})
