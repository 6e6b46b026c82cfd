/**
 * Writes the ends of attempts, many in one statement: the first goes at once, what ends while it is in flight is the next
 * batch. A job is held, and so renewed, until its settle is confirmed. After an outage the same settle is tried again until
 * it is answered, past the end of the lease too: the fence decides whether it still counts, so finished work is not thrown
 * away for nothing.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { outcomeOf, type Settlement, type SettleOutcome } from "../store/JobStoreDriver.ts"
import { type Ending, type Held, leaseOf } from "./Held.ts"
import * as Signal from "./Signal.ts"
import type { Slots } from "./Slots.ts"
import type { WorkerContext } from "./WorkerContext.ts"

const maxBatch = 1_000
/** Pause before a row that somebody else holds a lock on is tried again. */
const lockedPause = 100

interface Due {
  readonly held: Held
  readonly settlement: Settlement
}

export const make = Effect.fnUntraced(function* (
  worker: WorkerContext,
  slots: Slots
): Effect.fn.Return<void, never, Scope.Scope> {
  const { metrics, store } = worker
  const background = Effect.runForkWith(yield* Effect.context<never>())
  /** Settlements whose row somebody else holds a lock on: each is tried again alone. */
  const locked = new Map<Held, Due>()
  const lockedSome = Signal.make()

  const confirm = (due: Due, ending: Ending) => {
    const final = ending !== "again"
    if (metrics.enabled) {
      const { job } = due.held
      metrics.record({
        _tag: "Ended",
        queue: job.queue,
        type: job.type,
        outcome: outcomeOf(due.settlement),
        final,
        ran: due.held.ran,
        attempt: job.attempt
      })
    }
    slots.release(due.held, ending)
    if (!final) slots.roomy.notify()
  }
  const lose = (held: Held) => {
    if (metrics.enabled) metrics.record({ _tag: "LeaseLost", queue: held.job.queue, type: held.job.type })
    slots.release(held, "lost")
  }

  /** Takes note of how a batch was settled. Answers what has to be settled in another way. */
  const conclude = (batch: ReadonlyArray<Due>, outcomes: ReadonlyArray<SettleOutcome>): ReadonlyArray<Due> => {
    const back: Array<Due> = []
    for (let i = 0; i < batch.length; i++) {
      const due = batch[i]!
      const outcome = outcomes[i]!
      switch (outcome._tag) {
        case "Settled":
          confirm(due, outcome.status === "queued" || outcome.status === "processing" ? "again" : outcome.status)
          break
        case "AlreadyMine":
          confirm(due, endingOf(due.settlement))
          break
        case "LeaseLost":
          lose(due.held)
          break
        case "Refused":
          // What the store cannot hold ends the job, cleanly, with the reason in its place
          back.push({
            held: due.held,
            settlement: {
              ...leaseOf(due.held),
              _tag: "Failed",
              error: { code: "resultInvalid", message: `the result cannot be stored: ${outcome.error.message}` },
              retryIn: undefined
            }
          })
          break
        case "Locked":
          locked.set(due.held, due)
          lockedSome.notify()
          continue
      }
      locked.delete(due.held)
    }
    return back
  }

  const send = (batch: ReadonlyArray<Due>) =>
    store.settle(
      worker.id,
      batch.map((due) => due.settlement)
    )

  const round = Effect.suspend(() => {
    const batch = slots.takeDue(maxBatch)
    // What ends in the same turn of the event loop goes together
    if (batch.length === 0) return Effect.andThen(slots.settleable.wait, Effect.yieldNow)
    return Effect.matchCauseEffect(send(batch), {
      onSuccess: (outcomes) => {
        const settled = Effect.sync(() => slots.putBack(conclude(batch, outcomes)))
        // The next batch is sent first: the database works while we take note of this one
        return slots.hasDue() ? Effect.sync(() => void background(Effect.andThen(Effect.yieldNow, settled))) : settled
      },
      onFailure: (cause) => {
        slots.putBack(batch)
        return Effect.failCause(cause)
      }
    })
  })
  yield* worker.supervisor.loop("settle", round)
  yield* worker.supervisor.loop(
    "settle-locked",
    Effect.gen(function* () {
      if (locked.size === 0) return yield* lockedSome.wait
      yield* Effect.sleep(Duration.millis(lockedPause))
      for (const due of Array.from(locked.values())) {
        slots.putBack(conclude([due], yield* send([due])))
      }
    })
  )
})

/** What the job became when only our own word for it is left. */
const endingOf = (settlement: Settlement): Ending => {
  switch (settlement._tag) {
    case "Succeeded":
      return "succeeded"
    case "Cancelled":
      return "cancelled"
    case "Failed":
      return settlement.retryIn === undefined ? "failed" : "again"
    default:
      return "again"
  }
}
