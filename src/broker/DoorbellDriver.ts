/**
 * A `BrokerDriver` on a doorbell, written once for the brokers that carry no hints: `receive` waits for a ring and
 * answers `[]`, there is nothing to settle, to count or to drop.
 */
import * as Effect from "effect/Effect"
import type { BrokerDriver, BrokerHealth, Capabilities, Consumer, Delivery, ItemOutcome } from "./BrokerDriver.ts"
import type { Doorbell } from "./Doorbell.ts"

/** What all doorbells declare. `idempotentPublish` and `fenced` hold because no hint and no delivery ever exists. */
export const capabilities: Omit<Capabilities, "name"> = {
  carriesHints: false,
  transactionalPublish: false,
  idempotentPublish: true,
  fenced: true,
  priority: false,
  maxBatch: 10_000,
  maxLease: undefined,
  maxHold: undefined,
  maxReleaseDelay: undefined,
  depth: "none"
}

/** What differs between doorbells. */
export interface Options {
  readonly capabilities: Capabilities
  readonly doorbell: Doorbell
  /** Rings for these queues, here and wherever else this broker is heard. Must not wait. */
  readonly ring: (queues: ReadonlySet<string>) => void
  /** How long one receive that may wait this many milliseconds waits without a ring. */
  readonly waitAtMost: (wait: number) => Effect.Effect<number>
  readonly health: Effect.Effect<BrokerHealth>
}

const ok: ItemOutcome = { _tag: "Ok" }
const leaseLost: ItemOutcome = { _tag: "LeaseLost" }

/** Nobody ever received anything here, so whatever a receipt is about is not ours. */
const settle = (deliveries: ReadonlyArray<Delivery>) => Effect.succeed(deliveries.map(() => leaseLost))

/** Makes the driver. */
export const make = (options: Options): BrokerDriver => ({
  capabilities: options.capabilities,
  publish: (hints) =>
    Effect.sync(() => {
      options.ring(new Set(hints.map((hint) => hint.queue)))
      return hints.map(() => ok)
    }),
  consumer: ({ queues }) =>
    Effect.map(options.doorbell.subscribe(queues), (bell): Consumer => ({
      receive: ({ wait }) => Effect.as(Effect.flatMap(options.waitAtMost(wait), bell.wait), []),
      extend: settle,
      ack: settle,
      release: settle
    })),
  depth: () => Effect.succeed(undefined),
  purge: () => Effect.void,
  health: options.health
})
