/**
 * A coalesced wake-up for one waiter: any number of `notify`s before a `wait` are one, and none is lost. Allocates nothing
 * while nobody waits.
 */
import * as Effect from "effect/Effect"

export interface Signal {
  readonly notify: () => void
  /** Returns at the next `notify`, or at once if there was one since the last `wait`. */
  readonly wait: Effect.Effect<void>
}

export const make = (): Signal => {
  let raised = false
  let waiter: (() => void) | undefined
  return {
    notify: () => {
      if (waiter === undefined) {
        raised = true
      } else {
        const resume = waiter
        waiter = undefined
        resume()
      }
    },
    wait: Effect.callback((resume) => {
      if (raised) {
        raised = false
        return resume(Effect.void)
      }
      const mine = () => resume(Effect.void)
      waiter = mine
      return Effect.sync(() => {
        if (waiter === mine) waiter = undefined
      })
    })
  }
}
