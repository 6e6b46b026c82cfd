/**
 * Fills the slots of one pool through a broker that carries hints: receive, claim what the hints name, settle each delivery
 * by one table (`dispose`). Hints are never counted on: after an empty receive, and at least once a second in any case, the
 * pool claims straight from the store, also while a receive fails or hangs. So the loss of any part of the broker costs
 * about a second.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { Delivery } from "../broker/BrokerDriver.ts"
import type { BrokerError } from "../JobError.ts"
import type { LeaseReaper } from "../maintenance/LeaseReaper.ts"
import type { ClaimedJob, Disposition, HintClaims as Answer } from "../store/JobStoreDriver.ts"
import { claimOnce } from "./Claims.ts"
import * as Deliveries from "./Deliveries.ts"
import type { LeaseKeeper } from "./LeaseKeeper.ts"
import type { Pool } from "./Pool.ts"
import type { Slots } from "./Slots.ts"
import { monotonic, type WorkerContext } from "./WorkerContext.ts"

/** Straight claims at least this often, and the longest wait for hints. */
const lookEvery = 1_000
/** A receive that has not answered this long after its wait is over is not waited for any more. */
const patience = 500
/**
 * Delivered so often and still not our turn: acked instead of released. Straight claims and the relay look after the row, and
 * a broker with few receives before its dead-letter queue never gets that far.
 */
const maxDeliveries = 3
const contendedDelay = 1_000
const suspectDelay = 5_000
const foreignDelay = 5_000

export interface HintedClaims {
  /**
   * True while receives come back empty: then, and only then, may something have been lost. Not while they fail: hints that
   * nobody can receive are still in the broker, and publishing them again would pile them up; looks find their jobs.
   */
  readonly isEmpty: () => boolean
  /** Claims until the scope closes. Deliveries of jobs that are held then are still extended and acked, by the scope of `make`. */
  readonly start: (reaper: LeaseReaper) => Effect.Effect<void, never, Scope.Scope>
}

export const make = Effect.fnUntraced(function* (
  worker: WorkerContext,
  slots: Slots,
  leases: LeaseKeeper,
  pool: Pool
): Effect.fn.Return<HintedClaims, BrokerError, Scope.Scope> {
  const { clock, store, timings } = worker
  const name = pool.queues.join(",")
  const pools = [pool]
  const types = Array.from(worker.handlers.keys())
  const consumer = yield* worker.broker.consumer({ queues: pool.queues, lease: timings.brokerLease })
  const deliveries = yield* Deliveries.make(worker, consumer, name)
  /** What the last receive said. */
  let last: "hints" | "nothing" | "failure" | undefined
  let lookedAt = -Infinity
  let receivedAt = -Infinity
  let receiving: Fiber.Fiber<ReadonlyArray<Delivery>, BrokerError> | undefined

  /** Claims what these name, and settles what is not ours to run. Answers those whose owner's lease has ended. */
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
    const answer: Answer = yield* slots.withSuspects(
      pools,
      (suspects) =>
        Effect.onExit(
          store.claimHinted({
            claim,
            worker: worker.id,
            lease: timings.lease,
            ids: Array.from(byId.keys()),
            types,
            suspects
          }),
          (exit) =>
            Effect.sync(() => {
              // A look-up that failed leaves the deliveries alone: the broker brings them again
              if (exit._tag === "Failure") leases.unknownClaim(claim)
              else slots.accept(exit.value.claimed, sentAt, (job) => deliveries.hold(byId.get(job.id)!))
            })
        ),
      "named"
    )
    const strays = answer.claimed.filter((job) => !slots.pools.some(({ queues }) => queues.includes(job.queue)))
    if (strays.length > 0) yield* giveBack(strays, byId)
    const expired: Array<Delivery> = []
    // One delay for all of them, so that they go back in one call; other workers and other times have another
    const jitter = answer.rest.some(({ disposition }) => disposition === "unhandled") ? yield* Random.next : 0
    for (const { attempt, disposition, id } of answer.rest) {
      const delivery = byId.get(id)!
      if (disposition === "expired") expired.push(delivery)
      else dispose(delivery, disposition, attempt, jitter)
    }
    return expired
  })

  /** A hint that names another queue than its job is in: whoever works there runs it, by the hint it then gets. */
  const giveBack = Effect.fnUntraced(function* (strays: ReadonlyArray<ClaimedJob>, byId: Map<string, Delivery>) {
    yield* store.settle(
      worker.id,
      strays.map(({ attempt, claim, id }) => ({ id, attempt, claim, _tag: "Released" }))
    )
    deliveries.ack(strays.map(({ id }) => byId.get(id)!))
  })

  const release = (delivery: Delivery, delay: number): void =>
    (delivery.deliveryCount ?? maxDeliveries) >= maxDeliveries
      ? deliveries.ack([delivery])
      : deliveries.release(delivery, delay)

  /** What becomes of a delivery whose job was not claimed. Acking is safe: every move to `queued` makes a new hint due. */
  const dispose = (delivery: Delivery, disposition: Disposition, attempt: number, jitter = 0): void => {
    switch (disposition) {
      case "terminal":
      case "missing":
      case "waiting":
      case "paused":
      case "leased":
        return deliveries.ack([delivery])
      // Reaped just now, or it may not be reaped yet
      case "expired":
        return release(delivery, contendedDelay)
      case "locked":
      case "suspect":
      case "unhandled": {
        // The row has moved on since this hint was made, so it has a newer one
        if (delivery.hint.attempt < attempt) return deliveries.ack([delivery])
        if (disposition === "locked") return release(delivery, contendedDelay)
        if (disposition === "suspect") return release(delivery, suspectDelay)
        return release(delivery, Math.round(foreignDelay * (1 + jitter)))
      }
    }
  }

  const look = Effect.gen(function* () {
    lookedAt = monotonic(clock)
    return (yield* claimOnce(worker, slots, leases, pools)) ?? 0
  })

  /** Answers what came; nothing also when the broker is slow to answer: it goes on in the background. */
  const receive = Effect.fnUntraced(function* (max: number, wait: number, scope: Scope.Scope) {
    receiving ??= yield* Effect.forkIn(consumer.receive({ max, wait }), scope, { startImmediately: true })
    const exit = yield* Effect.timeoutOption(Fiber.await(receiving), wait + patience)
    if (Option.isSome(exit)) receiving = undefined
    receivedAt = monotonic(clock)
    last = "failure"
    if (Option.isNone(exit)) return []
    const received = yield* exit.value
    last = received.length === 0 ? "nothing" : "hints"
    return received
  })

  const round = (reaper: LeaseReaper, scope: Scope.Scope) =>
    Effect.gen(function* () {
      const max = pool.wanted
      if (max <= 0) return yield* pool.roomy.wait
      const mayHaveLost = last === "nothing" || last === "failure"
      const filled = (mayHaveLost || monotonic(clock) - lookedAt >= lookEvery) && (yield* look) >= max
      // As long as looks find enough, hints are only asked for now and then: whether they come again
      if (filled && monotonic(clock) - receivedAt < lookEvery) return
      const received = yield* receive(Math.max(1, pool.wanted), filled ? 0 : lookEvery, scope)
      if (received.length === 0) return
      if (pool.wanted <= 0) {
        // The look has filled every slot: others may have room
        for (const delivery of received) release(delivery, contendedDelay)
        return
      }
      const expired = yield* claimNamed(received)
      if (expired.length === 0) return
      // The reaper's own statement for exactly these, then they are claimed like any other
      yield* reaper.reap(expired.map((delivery) => delivery.hint.jobId))
      for (const delivery of yield* claimNamed(expired)) dispose(delivery, "expired", delivery.hint.attempt)
    })

  return {
    isEmpty: () => last === "nothing",
    start: Effect.fnUntraced(function* (reaper) {
      // A broker that is away must not make the looks rarer
      yield* worker.supervisor.loop(`claim ${name}`, round(reaper, yield* Effect.scope), lookEvery)
    })
  }
})
