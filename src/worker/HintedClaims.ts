/**
 * Fills the slots of one pool through a broker that carries hints: receive, claim what the hints name, settle each delivery
 * by one table (`dispose`). Hints are never counted on: after an empty receive, and at least once a second in any case, the
 * pool claims straight from the store, so the loss of any part of the broker costs about a second.
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { Delivery } from "../broker/BrokerDriver.ts"
import type { BrokerError } from "../JobError.ts"
import type { Disposition, HintClaims as Answer } from "../store/JobStoreDriver.ts"
import { claimOnce } from "./Claims.ts"
import * as Deliveries from "./Deliveries.ts"
import type { LeaseKeeper } from "./LeaseKeeper.ts"
import type { Pool } from "./Pool.ts"
import type { Slots } from "./Slots.ts"
import { monotonic, type WorkerContext } from "./WorkerContext.ts"

/** Straight claims at least this often, and the longest wait for hints. */
const lookEvery = 1_000
/** A hint of a type nobody here handles goes back this often, then it is dropped: workers that can run it look by themselves. */
const maxForeign = 3
const contendedDelay = 1_000
const suspectDelay = 5_000
const foreignDelay = 5_000

export interface HintedClaims {
  /** True while receives come back empty. */
  readonly isEmpty: () => boolean
}

export const make = Effect.fnUntraced(function* (
  worker: WorkerContext,
  slots: Slots,
  leases: LeaseKeeper,
  pool: Pool
): Effect.fn.Return<HintedClaims, BrokerError, Scope.Scope> {
  const { clock, store, timings } = worker
  const name = pool.queues.join(",")
  const types = Array.from(worker.handlers.keys())
  const consumer = yield* worker.broker.consumer({ queues: pool.queues, lease: timings.brokerLease })
  const deliveries = yield* Deliveries.make(worker, consumer, name)
  yield* Effect.addFinalizer(() => deliveries.flush)
  let empty = true
  let lookedAt = -Infinity

  const claimNamed = Effect.fnUntraced(function* (received: ReadonlyArray<Delivery>) {
    const byId = new Map<string, Delivery>()
    const doubles: Array<Delivery> = []
    for (const delivery of received) {
      if (byId.has(delivery.hint.jobId)) doubles.push(delivery)
      else byId.set(delivery.hint.jobId, delivery)
    }
    deliveries.ack(doubles)
    const claim = yield* worker.makeId
    const sentAt = monotonic(clock)
    const answer: Answer = yield* Effect.onExit(
      store.claimHinted({
        claim,
        worker: worker.id,
        lease: timings.lease,
        ids: Array.from(byId.keys()),
        types,
        suspects: slots.suspects()
      }),
      (exit) =>
        Effect.sync(() => {
          // A look-up that failed leaves the deliveries alone: the broker brings them again
          if (exit._tag === "Failure") leases.unknownClaim(claim)
          else slots.accept(exit.value.claimed, sentAt, (job) => deliveries.hold(byId.get(job.id)!))
        })
    )
    const expired: Array<Delivery> = []
    for (const { attempt, disposition, id } of answer.rest) {
      const delivery = byId.get(id)!
      if (disposition === "expired") expired.push(delivery)
      else yield* dispose(delivery, disposition, attempt)
    }
    return expired
  })

  /** What becomes of a delivery whose job was not claimed. Acking is safe: every move to `queued` makes a new hint due. */
  const dispose = Effect.fnUntraced(function* (delivery: Delivery, disposition: Disposition, attempt: number) {
    switch (disposition) {
      case "terminal":
      case "missing":
      case "waiting":
      case "paused":
      case "leased":
        return deliveries.ack([delivery])
      case "locked":
        // Somebody is about to decide; a hint older than the row is not needed for it
        return delivery.hint.attempt < attempt
          ? deliveries.ack([delivery])
          : deliveries.release(delivery, contendedDelay)
      case "suspect":
        return deliveries.release(delivery, suspectDelay)
      case "expired":
        return deliveries.release(delivery, contendedDelay)
      case "unhandled": {
        if ((delivery.deliveryCount ?? 1) >= maxForeign) return deliveries.ack([delivery])
        const random = yield* Random.next
        return deliveries.release(delivery, Math.round(foreignDelay * (1 + random)))
      }
    }
  })

  const look = Effect.gen(function* () {
    lookedAt = monotonic(clock)
    return (yield* claimOnce(worker, slots, leases, [pool])) ?? 0
  })

  yield* worker.supervisor.loop(
    `claim ${name}`,
    Effect.gen(function* () {
      const max = pool.wanted
      if (max <= 0) return yield* pool.roomy.wait
      if (empty || monotonic(clock) - lookedAt >= lookEvery) {
        if ((yield* look) >= max) return
      }
      const received = yield* consumer.receive({ max: Math.max(1, pool.wanted), wait: lookEvery })
      empty = received.length === 0
      if (empty) return
      const expired = yield* claimNamed(received)
      if (expired.length === 0) return
      // The reaper's own statement for exactly these, then they are claimed like any other
      yield* store.reap({
        limit: expired.length,
        exceptWorkers: [worker.id],
        ids: expired.map((delivery) => delivery.hint.jobId)
      })
      for (const delivery of yield* claimNamed(expired)) yield* dispose(delivery, "expired", delivery.hint.attempt)
    })
  )
  return { isEmpty: () => empty }
})
