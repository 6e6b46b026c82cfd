/**
 * The deliveries one consumer holds: extended in batches for as long as their jobs are held, acked in batches when they are
 * settled, released in batches when they are not our turn. The broker's lease is only transport: losing one costs nothing,
 * because Postgres decides. An ack or a release that fails is tried again for as long as the delivery may still be ours.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { Acked, Consumer, Delivery, ItemOutcome } from "../broker/BrokerDriver.ts"
import type { BrokerError } from "../JobError.ts"
import type { Ending } from "./Held.ts"
import * as Signal from "./Signal.ts"
import { monotonic, type WorkerContext } from "./WorkerContext.ts"

/** Longest time the last acks may take when the worker stops: what was not acked comes again and is acked then. */
const lastWords = 2_000

export interface Deliveries {
  /** Keeps a delivery for a job that was claimed. Returns what to call when the job is let go of. */
  readonly hold: (delivery: Delivery) => (ending: Ending) => void
  readonly ack: (deliveries: ReadonlyArray<Acked>) => void
  readonly release: (delivery: Delivery, delay: number) => void
}

/** An ack or a release that is due. `until`: when the delivery cannot be ours any more, in monotonic ms. */
interface Due {
  readonly delivery: Acked
  readonly until: number
}

/** Makes them. Acks and releases that are due when the scope closes are sent then, before the loops end. */
export const make = Effect.fnUntraced(function* (
  worker: WorkerContext,
  consumer: Consumer,
  name: string
): Effect.fn.Return<Deliveries, never, Scope.Scope> {
  const { broker, clock, supervisor, timings } = worker
  const maxHold = broker.capabilities.maxHold ?? Infinity
  const held = new Map<string, { readonly delivery: Delivery; readonly since: number }>()
  /** The shortest lease the broker has given, which may be less than what we asked for. */
  let lease = timings.brokerLease
  /** The last extension failed: the next try is soon, not after another third of the lease. */
  let overdue = false
  let acks: Array<Due> = []
  /** By delay in ms: one call per delay. */
  const releases = new Map<number, Array<Due>>()
  const pending = Signal.make()
  let announced = false
  /** What becomes due in one go is one call: the loop would start with the first at once. */
  const announce = () => {
    if (announced) return
    announced = true
    queueMicrotask(() => {
      announced = false
      pending.notify()
    })
  }
  const holding = Signal.make()
  const shortened = Signal.make()
  const oneAtATime = Semaphore.makeUnsafe(1)

  const dueNow = (delivery: Acked): Due => ({ delivery, until: monotonic(clock) + timings.brokerLease })

  /** Sends one batch. What failed goes back to be tried again, and the first failure is the loop's, which tells and waits. */
  const settle = (
    batch: ReadonlyArray<Due>,
    run: (deliveries: ReadonlyArray<Acked>) => Effect.Effect<ReadonlyArray<ItemOutcome>, BrokerError>,
    putBack: (again: ReadonlyArray<Due>) => void
  ): Effect.Effect<void, BrokerError> => {
    const again = (failed: ReadonlyArray<Due>) => {
      const now = monotonic(clock)
      putBack(failed.filter(({ until }) => until > now))
    }
    return Effect.matchEffect(run(batch.map(({ delivery }) => delivery)), {
      onFailure: (error) => {
        again(batch)
        return Effect.fail(error)
      },
      onSuccess: (outcomes) => {
        const failed = batch.filter((_, i) => outcomes[i]?._tag === "Failed")
        if (failed.length === 0) return Effect.void
        again(failed)
        const first = outcomes.find((outcome) => outcome._tag === "Failed")
        return first === undefined ? Effect.void : Effect.fail(first.error)
      }
    })
  }

  const ackAll = Effect.suspend(() => {
    if (acks.length === 0) return Effect.void
    const batch = acks
    acks = []
    return settle(batch, consumer.ack, (again) => (acks = [...again, ...acks]))
  })
  const releaseAll = Effect.suspend(() =>
    Effect.forEach(
      Array.from(releases),
      ([delay, batch]) => {
        releases.delete(delay)
        return settle(
          batch,
          (deliveries) => consumer.release(deliveries, delay),
          (again) => {
            if (again.length > 0) releases.set(delay, [...again, ...(releases.get(delay) ?? [])])
          }
        )
      },
      { discard: true }
    )
  )
  const send = oneAtATime.withPermit(Effect.andThen(ackAll, releaseAll))

  yield* supervisor.loop(
    `settle-hints ${name}`,
    Effect.suspend(() => (acks.length === 0 && releases.size === 0 ? pending.wait : send))
  )

  const ack: Deliveries["ack"] = (deliveries) => {
    for (const delivery of deliveries) acks.push(dueNow(delivery))
    announce()
  }

  const extend = Effect.fnUntraced(function* () {
    const now = monotonic(clock)
    const batch: Array<Delivery> = []
    for (const [key, { delivery, since }] of held) {
      // Longer than the broker can hold it: the job goes on under its lease in Postgres, which needs no hint
      if (now - since + timings.brokerLease > maxHold) {
        held.delete(key)
        ack([delivery])
      } else batch.push(delivery)
    }
    overdue = batch.length > 0
    if (batch.length === 0) return
    const outcomes = yield* consumer.extend(batch, timings.brokerLease)
    let failed: BrokerError | undefined
    outcomes.forEach((outcome, i) => {
      if (outcome._tag === "LeaseLost") held.delete(batch[i]!.receipt)
      else if (outcome._tag === "Failed") failed = outcome.error
    })
    if (failed !== undefined) return yield* Effect.fail(failed)
    overdue = false
  })
  yield* supervisor.loop(
    `extend-hints ${name}`,
    Effect.suspend(() => {
      if (held.size === 0) {
        overdue = false
        return holding.wait
      }
      // The supervisor paces what fails
      if (overdue) return extend()
      const third = Effect.as(Effect.sleep(Duration.millis(lease / 3)), true)
      return Effect.flatMap(Effect.raceFirst(third, Effect.as(shortened.wait, false)), (isTime) =>
        isTime ? extend() : Effect.void
      )
    })
  )

  yield* Effect.addFinalizer(() =>
    // A finaliser is uninterruptible: the time-out needs a fiber of its own
    Effect.flatMap(
      Effect.forkDetach(Effect.timeoutOption(Effect.ignore(send, { log: "Debug" }), lastWords), {
        startImmediately: true
      }),
      Fiber.join
    )
  )
  return {
    hold: (delivery) => {
      if (timings.hintAck === "claimed") {
        ack([delivery])
        return () => {}
      }
      if (delivery.lease !== undefined && delivery.lease < lease) {
        lease = delivery.lease
        shortened.notify()
      }
      held.set(delivery.receipt, { delivery, since: monotonic(clock) })
      holding.notify()
      return (ending) => {
        // Lost: the row is somebody else's, and whoever gets this delivery again will see what it is
        if (!held.delete(delivery.receipt) || ending === "lost") return
        ack([ending === "succeeded" || ending === "failed" ? { ...delivery, ended: ending } : delivery])
      }
    },
    ack,
    release: (delivery, delay) => {
      const batch = releases.get(delay)
      if (batch === undefined) releases.set(delay, [dueNow(delivery)])
      else batch.push(dueNow(delivery))
      announce()
    }
  }
})
