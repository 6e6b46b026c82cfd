/**
 * Makes what an action made runnable known: through the broker at once, or by the relay, which finds it in the row in any
 * case. So a broker that fails, or none at all, costs a second.
 */
import * as Effect from "effect/Effect"
import type { Broker } from "../Broker.ts"
import { publishGrace } from "../client/HintPublisher.ts"
import type { ActionResult } from "../store/JobStoreDriver.ts"

export interface Publisher {
  /** How long the relay leaves what we publish ourselves to us, in ms. */
  readonly grace: number
  /** Publishes the hints among these results. */
  readonly publish: (results: ReadonlyArray<ActionResult>) => Effect.Effect<void>
  /** Wakes who waits for work of these queues, where nothing else would. */
  readonly ring: (queues: ReadonlyArray<string>) => Effect.Effect<void>
}

/** Everything is left to the relay and to polls. */
export const none: Publisher = { grace: 0, publish: () => Effect.void, ring: () => Effect.void }

export const make = (broker: Broker["Service"]): Publisher => ({
  grace: broker.capabilities.carriesHints ? publishGrace : 0,
  publish: (results) => {
    const hints = results.flatMap(({ hint, id }) =>
      hint === undefined ? [] : [{ ...hint, jobId: id, publication: 1 }]
    )
    return hints.length === 0 ? Effect.void : Effect.ignore(broker.publish(hints), { log: "Warn" })
  },
  ring: (queues) =>
    broker.capabilities.carriesHints || queues.length === 0
      ? Effect.void
      : Effect.ignore(
          broker.publish(queues.map((queue) => ({ jobId: "", queue, priority: 5, attempt: 0, publication: 1 }))),
          { log: "Warn" }
        )
})
