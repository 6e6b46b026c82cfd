/**
 * Enqueues of concurrent callers share one INSERT. No timer: the first job goes at once, what arrives while its statement
 * is in flight is the next batch. The statement is made by a fiber of the layer, never in a caller's context (a caller
 * may be inside a transaction, or be interrupted). Interrupting a caller withdraws a job that was not sent yet and leaves
 * a sent one to commit; it never touches the others.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { StoreError } from "../JobError.ts"
import * as Signal from "../worker/Signal.ts"
import type { EnqueueOutcome, NewJob } from "./JobStoreDriver.ts"

/** Bounds of one statement. */
const maxJobs = 1_000
const maxCharacters = 4_000_000

interface Entry {
  readonly job: NewJob
  resume: ((effect: Effect.Effect<EnqueueOutcome, StoreError>) => void) | undefined
}

/** Shares statements among callers. `send` is called with at most 1,000 jobs, one call at a time. */
export const make = Effect.fnUntraced(function* (
  send: (jobs: ReadonlyArray<NewJob>) => Effect.Effect<ReadonlyArray<EnqueueOutcome>, StoreError>
): Effect.fn.Return<(job: NewJob) => Effect.Effect<EnqueueOutcome, StoreError>, never, Scope.Scope> {
  let pending: Array<Entry> = []
  let sending = false
  const arrived = Signal.make()
  const idle = Signal.make()

  const takeBatch = (): Array<Entry> => {
    let count = 0
    let characters = 0
    while (count < pending.length && count < maxJobs && (count === 0 || characters < maxCharacters)) {
      characters += pending[count]!.job.payload.length
      count++
    }
    const batch = count === pending.length ? pending : pending.slice(0, count)
    pending = count === pending.length ? [] : pending.slice(count)
    return batch
  }

  const flush = Effect.gen(function* () {
    const batch = takeBatch()
    if (batch.length === 0) return
    sending = true
    const exit = yield* Effect.exit(send(batch.map((entry) => entry.job)))
    sending = false
    for (let i = 0; i < batch.length; i++) {
      batch[i]!.resume?.(Exit.isSuccess(exit) ? Effect.succeed(exit.value[i]!) : Effect.failCause(exit.cause))
    }
    if (pending.length === 0) idle.notify()
  })
  yield* Effect.forkScoped(
    Effect.forever(
      Effect.andThen(
        arrived.wait,
        Effect.whileLoop({
          while: () => pending.length > 0,
          body: () => flush,
          step: () => {}
        })
      )
    )
  )
  // Registered after the fiber, so it runs before the fiber is interrupted: what was accepted is sent
  yield* Effect.addFinalizer(() => Effect.suspend(() => (sending || pending.length > 0 ? idle.wait : Effect.void)))

  return (job) =>
    Effect.callback<EnqueueOutcome, StoreError>((resume) => {
      const entry: Entry = { job, resume }
      pending.push(entry)
      arrived.notify()
      return Effect.sync(() => {
        entry.resume = undefined
        const index = pending.indexOf(entry)
        if (index >= 0) pending.splice(index, 1)
      })
    })
})
