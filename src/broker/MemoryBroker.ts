/**
 * The in-process broker: a doorbell. Publishing wakes the consumers of this process that wait for the queue; they then
 * claim from the store. It holds one bit per consumer, so no number of jobs fills it, and it loses nothing, because it
 * keeps nothing. All its waiting is on Effect's `Clock`: `TestClock` moves it.
 *
 * Workers in other processes do not hear it; with a shared store they find the job at their next poll.
 */
import * as Effect from "effect/Effect"
import type { BrokerDriver, Capabilities } from "./BrokerDriver.ts"
import * as Doorbell from "./Doorbell.ts"
import * as DoorbellDriver from "./DoorbellDriver.ts"

/** What this broker declares. */
export const capabilities: Capabilities = { ...DoorbellDriver.capabilities, name: "memory" }

/** Makes a broker that rings within this process. Consumers of one value hear what is published to the same value. */
export const make: Effect.Effect<BrokerDriver> = Effect.sync(() => {
  const doorbell = Doorbell.make()
  return DoorbellDriver.make({
    capabilities,
    doorbell,
    ring: doorbell.ring,
    waitAtMost: Effect.succeed,
    health: Effect.succeed({ ok: true, problems: [] })
  })
})
