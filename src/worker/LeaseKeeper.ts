/**
 * Keeps the leases of everything held, in one statement every third of a lease. What the store says is lost is stopped at
 * once; what cannot be proven any more is stopped at the end of its lease by our own monotonic clock, counted from before
 * the last successful renewal was sent. A worker that has to do so claims nothing until a renewal works again: it would only
 * keep jobs from others, which last longer than a lease. Claims whose outcome is unknown are given back here, until they
 * cannot commit.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Held, keyOf, leaseOf } from "./Held.ts"
import * as Signal from "./Signal.ts"
import type { Slots } from "./Slots.ts"
import { monotonic, type WorkerContext } from "./WorkerContext.ts"

/** Leases per statement. */
const maxBatch = 5_000
/** Longest pause after a renewal that failed, and between two tries of a worker that claims nothing because of that. */
const tryAgainEvery = 1_000

export interface LeaseKeeper {
  /** A claim call ended without an answer: whatever it took is to be given back. */
  readonly unknownClaim: (claim: string) => void
  /** Gives back unknown claims and unproven attempts now. */
  readonly giveBack: Effect.Effect<void>
}

export const make = Effect.fnUntraced(function* (
  worker: WorkerContext,
  slots: Slots
): Effect.fn.Return<LeaseKeeper, never, Scope.Scope> {
  const { clock, metrics, store, timings } = worker
  const unknown = new Map<string, number>()
  /**
   * Attempts we stopped because nothing proved that they are still ours: if they are, they are given back. True: by our own
   * fault, nothing ran here while their leases ended.
   */
  const unproven = new Map<Held, boolean>()
  const givable = Signal.make()
  const renewable = Signal.make()
  const fenceable = Signal.make()
  /** False from when leases ended here for want of a renewal, until one works. */
  let canRenew = true
  const doubtful = Signal.make()
  /** When the self-fence has to look next; `Infinity` while it waits for something to be held. */
  let fenceAt = Infinity
  slots.onAccept(() => {
    if (fenceAt === Infinity) fenceAt = monotonic(clock)
    renewable.notify()
    fenceable.notify()
  })

  const lose = (held: Held, proven: boolean, byStall = false) => {
    if (held.phase === "ended" && held.interruption === undefined) return // its settle will say so
    if (metrics.enabled) metrics.record({ _tag: "LeaseLost", queue: held.job.queue, type: held.job.type })
    if (!proven) unproven.set(held, byStall)
    slots.interrupt(held, "leaseLost")
    if (!proven) {
      if (held.fiber === undefined) givable.notify()
      else held.fiber.addObserver(givable.notify)
    }
  }

  const doubt = () => {
    if (!canRenew) return
    canRenew = false
    slots.rest()
    doubtful.notify()
  }

  const works = Effect.suspend(() => {
    if (canRenew) return Effect.void
    canRenew = true
    slots.wake()
    return Effect.logInfo("leases can be renewed again: claims again")
  })

  /** What nobody can own: whether a renewal works at all. */
  const tryOut = Effect.flatMap(worker.makeId, (id) =>
    Effect.andThen(store.renew([{ id, attempt: 1, claim: id }], timings.lease), works)
  )

  const renew = Effect.fnUntraced(function* (batch: ReadonlyArray<Held>) {
    const sentAt = monotonic(clock)
    const renewal = yield* store.renew(batch.map(leaseOf), timings.lease)
    yield* works
    const lost = new Set(renewal.lost.map(keyOf))
    const locked = new Set(renewal.locked.map(keyOf))
    const cancelled = new Set(renewal.cancelled.map(keyOf))
    for (const held of batch) {
      const key = keyOf(held.job)
      const isHeld = slots.held.has(held)
      if (lost.has(key)) {
        if (isHeld) lose(held, true)
        continue
      }
      if (!locked.has(key)) held.provenUntil = sentAt + timings.lease
      if (isHeld && cancelled.has(key)) slots.interrupt(held, "cancelled")
    }
  })

  /** Given back only then, or when it had its time to: nobody else runs it while it winds down. */
  const hasStopped = ({ fiber, provenUntil }: Held) =>
    fiber === undefined || monotonic(clock) >= provenUntil + timings.interruptGrace

  const giveBack = Effect.gen(function* () {
    const over = Array.from(unproven.keys()).filter(hasStopped)
    const ids = over.flatMap((held) => (unproven.get(held) === true ? [held.job.id] : []))
    // As a crash, which others would have seen in it: at no cost, a job that blocks its worker would run for ever
    if (ids.length > 0) yield* store.reap({ limit: ids.length, exceptWorkers: [], ids })
    if (over.length > 0) {
      yield* store.settle(
        worker.id,
        over.map((held) => ({ ...leaseOf(held), _tag: "Released" }))
      )
      for (const held of over) unproven.delete(held)
      slots.roomy.notify()
    }
    if (unknown.size === 0) return
    const now = monotonic(clock)
    yield* store.abandon(worker.id, Array.from(unknown.keys()))
    for (const [claim, until] of unknown) if (until < now) unknown.delete(claim)
    slots.roomy.notify()
  })

  yield* worker.supervisor.loop(
    "renew",
    Effect.gen(function* () {
      // A worker at rest has nothing to renew: it costs nothing until it holds something again
      if (slots.held.size === 0 && canRenew) return yield* renewable.wait
      if (canRenew) yield* Effect.raceFirst(Effect.sleep(Duration.millis(timings.renewEvery)), doubtful.wait)
      else yield* Effect.sleep(Duration.millis(Math.min(tryAgainEvery, timings.renewEvery)))
      const now = monotonic(clock)
      // What is past its proof is about to be stopped: a renewal would only keep it from others
      const all = Array.from(slots.held).filter(({ phase, provenUntil }) => phase === "ended" || provenUntil > now)
      const renewing = Effect.forEach(
        Array.from({ length: Math.ceil(all.length / maxBatch) }, (_, i) => all.slice(i * maxBatch, (i + 1) * maxBatch)),
        renew,
        { discard: true }
      )
      // A renewal that fails is tried again soon: there are two thirds of a lease left for it
      yield* Effect.retry(all.length === 0 && !canRenew ? tryOut : renewing, {
        times: 3,
        while: (error) => error.isTransient
      })
    }),
    tryAgainEvery
  )

  yield* worker.supervisor.loop(
    "give-back",
    Effect.gen(function* () {
      if (unknown.size === 0 && unproven.size === 0) return yield* givable.wait
      yield* giveBack
      // What was not committed yet may be later
      const pause = unproven.size > 0 ? Math.min(timings.renewEvery, timings.interruptGrace) : timings.renewEvery
      yield* Effect.raceFirst(Effect.sleep(Duration.millis(Math.max(10, pause))), givable.wait)
    })
  )

  yield* worker.supervisor.loop(
    "self-fence",
    Effect.suspend(() => {
      if (slots.held.size === 0) {
        fenceAt = Infinity
        return fenceable.wait
      }
      const now = monotonic(clock)
      const late = now - fenceAt
      // Later than a renewal may be: this process was blocked or suspended
      const wasStalled = late > timings.renewEvery
      let lost = 0
      let next = now + timings.renewEvery
      for (const held of slots.held) {
        if (held.phase === "ended") continue
        if (held.provenUntil <= now) {
          // First: the slot that this frees is not to be filled
          if (!wasStalled) doubt()
          lose(held, false, wasStalled)
          lost++
        } else next = Math.min(next, held.provenUntil)
      }
      fenceAt = Math.max(now + 1, Math.ceil(next))
      const sleep = Effect.sleep(Duration.millis(fenceAt - now))
      if (lost === 0) return sleep
      return Effect.andThen(
        Effect.logWarning(
          wasStalled
            ? `nothing ran in this process for ${Math.round(late)} ms: ${lost} jobs lost their leases. Does a job block the event loop?`
            : `${lost} jobs could not be renewed and lost their leases: claims nothing until renewals work again`
        ),
        sleep
      )
    })
  )
  return {
    // Longer than any statement of ours may run, so that it cannot commit after we stopped looking
    unknownClaim: (claim) => {
      unknown.set(claim, monotonic(clock) + timings.lease + 10_000)
      givable.notify()
    },
    giveBack: Effect.ignore(giveBack, { log: "Warn" })
  }
})
