/**
 * A doorbell between simulated processes: publishing wakes whoever waits for the queue, if the ring arrives. It carries no
 * hints; its only fault is a ring that nobody hears.
 */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type { Capabilities, Hint } from "../../broker/BrokerDriver.ts"
import * as Doorbell from "../../broker/Doorbell.ts"
import * as DoorbellDriver from "../../broker/DoorbellDriver.ts"
import type { Chaos } from "./Chaos.ts"

export class BellServer {
  readonly capabilities: Capabilities = { ...DoorbellDriver.capabilities, name: "simulated-bell" }
  readonly #chaos: Chaos
  readonly #doorbell = Doorbell.make()
  /** Never closed: a process may die without a word, and bells are few. */
  readonly #scope = Scope.makeUnsafe()

  constructor(chaos: Chaos) {
    this.#chaos = chaos
  }

  ring(hints: ReadonlyArray<Hint>): void {
    const heard = new Set<string>()
    for (const { queue } of hints) {
      if (!this.#chaos.losesHint()) heard.add(queue)
    }
    this.#doorbell.ring(heard)
  }

  subscribe(queues: ReadonlyArray<string>): Effect.Effect<Doorbell.Bell> {
    return Effect.provideService(this.#doorbell.subscribe(queues), Scope.Scope, this.#scope)
  }
}
