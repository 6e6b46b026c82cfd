/**
 * Enqueues of concurrent callers share one INSERT. No timer: the first job goes at once, what arrives while its statement
 * is in flight is the next batch. Callers that are told often enqueue again: once enough have, their batch goes, and the
 * others are told while Postgres works. The statement is made by a fiber of the layer, never in a caller's context (a caller
 * may be inside a transaction, or be interrupted). Interrupting a caller withdraws a job that was not sent yet and leaves
 * a sent one to commit; it never touches the others.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { StoreError } from "../JobError.ts"
import * as Signal from "../worker/Signal.ts"
import type { Announcer, Publication } from "./Announcer.ts"
import type { EnqueueOutcome, NewJob } from "./JobStoreDriver.ts"

/** So many new jobs are worth a statement of their own while callers are still being told of the one before. */
const worthSending = 100
/** Bounds of one statement. */
const maxJobs = 1_000
const maxCharacters = 4_000_000

interface Entry {
  readonly job: NewJob
  readonly publication: Publication | undefined
  resume: ((effect: Effect.Effect<EnqueueOutcome, StoreError>) => void) | undefined
}

/** Publishes what a statement inserted and did not announce: once for all jobs of one publication. */
const publish = (batch: ReadonlyArray<Entry>, outcomes: ReadonlyArray<EnqueueOutcome>): Effect.Effect<void> => {
  const groups = new Map<Publication, Array<NewJob>>()
  for (let at = 0; at < batch.length; at++) {
    const { job, publication } = batch[at]!
    const outcome = outcomes[at]!
    if (publication === undefined || outcome._tag !== "Inserted" || outcome.announced === true) continue
    const group = groups.get(publication)
    if (group === undefined) groups.set(publication, [job])
    else group.push(job)
  }
  return Effect.forEach(groups, ([publication, jobs]) => publication.publish(jobs), { discard: true })
}

/** Shares statements among callers. `send` is called with at most 1,000 jobs, one call at a time. */
export const make = Effect.fnUntraced(function* (
  send: (
    jobs: ReadonlyArray<NewJob>,
    announcer: Announcer | undefined
  ) => Effect.Effect<ReadonlyArray<EnqueueOutcome>, StoreError>
): Effect.fn.Return<
  (job: NewJob, publication: Publication | undefined) => Effect.Effect<EnqueueOutcome, StoreError>,
  never,
  Scope.Scope
> {
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

  /** The last batch, its answer, and how many of its callers have been told. */
  let answered: ReadonlyArray<Entry> = []
  let answer: Exit.Exit<ReadonlyArray<EnqueueOutcome>, StoreError> = Exit.succeed([])
  let told = 0
  /** Tells callers until `enough` jobs wait. */
  const tell = (enough: number) => {
    while (told < answered.length && pending.length < enough) {
      const at = told++
      answered[at]!.resume?.(Exit.isSuccess(answer) ? Exit.succeed(answer.value[at]!) : Exit.failCause(answer.cause))
    }
    if (told === answered.length) {
      answered = []
      told = 0
    }
  }

  const flush = Effect.gen(function* () {
    const batch = takeBatch()
    const { publication } = batch[0]!
    const sent = send(
      batch.map(({ job }) => job),
      // Callers of several brokers: each has its own to say
      batch.every((entry) => entry.publication === publication) ? publication?.announcer : undefined
    )
    if (answered.length === 0) answer = yield* Effect.exit(sent)
    else {
      const fiber = yield* Effect.forkChild(sent, { startImmediately: true })
      tell(Infinity)
      answer = yield* Fiber.await(fiber)
    }
    answered = batch
    if (Exit.isSuccess(answer)) {
      // They are committed: whatever is wrong with telling of them, workers find them, and the next batch goes
      yield* Effect.catchCause(publish(batch, answer.value), (cause) =>
        Effect.logError("jobs were enqueued, but workers could not be told of them", cause)
      )
    }
    tell(Math.max(worthSending, batch.length >> 1))
  })
  const flushAll = Effect.suspend(() => {
    sending = true
    return Effect.andThen(
      Effect.whileLoop({ while: () => pending.length > 0, body: () => flush, step: () => {} }),
      Effect.sync(() => {
        sending = false
        idle.notify()
      })
    )
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(arrived.wait, flushAll)))
  // Registered after the fiber, so it runs before the fiber is interrupted: what was accepted is sent
  yield* Effect.addFinalizer(() =>
    Effect.whileLoop({ while: () => sending || pending.length > 0, body: () => idle.wait, step: () => {} })
  )

  return (job, publication) =>
    Effect.callback<EnqueueOutcome, StoreError>((resume) => {
      const entry: Entry = { job, publication, resume }
      pending.push(entry)
      arrived.notify()
      return Effect.sync(() => {
        entry.resume = undefined
        const index = pending.indexOf(entry)
        if (index >= 0) pending.splice(index, 1)
      })
    })
})
