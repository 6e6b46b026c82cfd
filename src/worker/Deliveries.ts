/**
 * The deliveries one consumer holds: extended in batches for as long as their jobs are held, acked in batches when they are
 * settled, released in batches when they are not our turn. The broker's lease is only transport: losing one costs nothing,
 * because Postgres decides.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Acked, Consumer, Delivery } from "../broker/BrokerDriver.ts"
import type { Ending } from "./Held.ts"
import * as Signal from "./Signal.ts"
import { monotonic, type WorkerContext } from "./WorkerContext.ts"

export interface Deliveries {
  /** Keeps a delivery for a job that was claimed. Returns what to call when the job is let go of. */
  readonly hold: (delivery: Delivery) => (ending: Ending) => void
  readonly ack: (deliveries: ReadonlyArray<Acked>) => void
  readonly release: (delivery: Delivery, delay: number) => void
  /** Sends all acks and releases that wait. */
  readonly flush: Effect.Effect<void>
}

export const make = Effect.fnUntraced(function* (
  worker: WorkerContext,
  consumer: Consumer,
  name: string
): Effect.fn.Return<Deliveries, never, Scope.Scope> {
  const { broker, clock, supervisor, timings } = worker
  const maxHold = broker.capabilities.maxHold ?? Infinity
  const held = new Map<string, { readonly delivery: Delivery; readonly since: number }>()
  let acks: Array<Acked> = []
  /** By delay in ms: one call per delay. */
  let releases = new Map<number, Array<Delivery>>()
  const pending = Signal.make()

  const send = Effect.gen(function* () {
    if (acks.length > 0) {
      const batch = acks
      acks = []
      yield* consumer.ack(batch)
    }
    for (const [delay, batch] of releases) {
      releases.delete(delay)
      yield* consumer.release(batch, delay)
    }
  })
  yield* supervisor.loop(
    `settle-hints ${name}`,
    // A broker that does not answer redelivers: the hint is then found to be settled and acked again
    Effect.suspend(() => (acks.length === 0 && releases.size === 0 ? pending.wait : send))
  )

  const ack: Deliveries["ack"] = (deliveries) => {
    for (const delivery of deliveries) acks.push(delivery)
    pending.notify()
  }
  yield* supervisor.loop(
    `extend-hints ${name}`,
    Effect.gen(function* () {
      yield* Effect.sleep(Duration.millis(timings.brokerLease / 3))
      const now = monotonic(clock)
      const batch: Array<Delivery> = []
      for (const [key, { delivery, since }] of held) {
        // Longer than the broker can hold it: the job goes on under its lease in Postgres, which needs no hint
        if (now - since + timings.brokerLease > maxHold) {
          held.delete(key)
          ack([delivery])
        } else batch.push(delivery)
      }
      if (batch.length === 0) return
      const outcomes = yield* consumer.extend(batch, timings.brokerLease)
      outcomes.forEach((outcome, i) => {
        if (outcome._tag === "LeaseLost") held.delete(batch[i]!.receipt)
      })
    })
  )
  return {
    hold: (delivery) => {
      if (timings.hintAck === "claimed") {
        ack([delivery])
        return () => {}
      }
      held.set(delivery.receipt, { delivery, since: monotonic(clock) })
      return (ending) => {
        // Lost: the row is somebody else's, and whoever gets this delivery again will see what it is
        if (!held.delete(delivery.receipt) || ending === "lost") return
        ack([ending === "succeeded" || ending === "failed" ? { ...delivery, ended: ending } : delivery])
      }
    },
    ack,
    release: (delivery, delay) => {
      const batch = releases.get(delay)
      if (batch === undefined) releases.set(delay, [delivery])
      else batch.push(delivery)
      pending.notify()
    },
    flush: Effect.ignore(send, { log: "Debug" })
  }
})
