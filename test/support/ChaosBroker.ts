/**
 * A broker that misbehaves as it is told: drops, doubles and reorders hints, from a seed; counts what passes. Around any
 * broker that carries hints.
 */
import { Effect } from "effect"
import type { BrokerDriver, Hint } from "../../src/broker/BrokerDriver.ts"

export interface Chaos {
  /** Share of hints that vanish, from 0 to 1. */
  drop: number
  /** Share of hints that arrive twice. */
  double: number
  /** Whether a batch arrives in another order. */
  reorder: boolean
  /** Hints handed over for publishing. */
  published: number
  /** Hints received. */
  received: number
  /** Calls of receive. */
  receives: number
  releases: number
  acks: number
}

/** Deterministic: the same seed makes the same trouble. */
const seeded = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
}

export const make = (inner: BrokerDriver, seed = 1): { readonly driver: BrokerDriver; readonly chaos: Chaos } => {
  const random = seeded(seed)
  const chaos: Chaos = {
    drop: 0,
    double: 0,
    reorder: false,
    published: 0,
    received: 0,
    receives: 0,
    releases: 0,
    acks: 0
  }
  const driver: BrokerDriver = {
    ...inner,
    publish: (hints) =>
      Effect.suspend(() => {
        chaos.published += hints.length
        const arriving: Array<Hint> = []
        for (const hint of hints) {
          if (random() < chaos.drop) continue
          arriving.push(hint)
          if (random() < chaos.double) arriving.push(hint)
        }
        if (chaos.reorder) arriving.sort(() => random() - 0.5)
        // It says all is well: nobody is told that a hint was lost
        return Effect.as(
          inner.publish(arriving),
          hints.map(() => ({ _tag: "Ok" }) as const)
        )
      }),
    consumer: (options) =>
      Effect.map(inner.consumer(options), (consumer) => ({
        ...consumer,
        receive: (asked) =>
          Effect.tap(consumer.receive(asked), (deliveries) =>
            Effect.sync(() => {
              chaos.receives++
              chaos.received += deliveries.length
            })
          ),
        ack: (deliveries) => {
          chaos.acks += deliveries.length
          return consumer.ack(deliveries)
        },
        release: (deliveries, delay) => {
          chaos.releases += deliveries.length
          return consumer.release(deliveries, delay)
        }
      }))
  }
  return { driver, chaos }
}
