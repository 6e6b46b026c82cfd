/**
 * A broker that carries hints, as a server in the simulated world: it keeps what it must not keep, loses what it must not
 * lose, doubles, delays, reorders and forges, as the faults of the run say. Its leases are real: what is received comes
 * again when it is neither acked nor extended.
 */
import * as Effect from "effect/Effect"
import type { Capabilities, Delivery, Hint, ItemOutcome } from "../../broker/BrokerDriver.ts"
import type { Chaos } from "./Chaos.ts"

interface Message {
  readonly hint: Hint
  visibleAt: number
  receipt: string | undefined
  count: number
}

interface Waiter {
  readonly queues: ReadonlyArray<string>
  readonly wake: () => void
}

/** What a simulated broker can do: drawn per run, because workers read it. */
export interface Ability {
  readonly fenced: boolean
  readonly idempotentPublish: boolean
  readonly countsDeliveries: boolean
  readonly maxHold: number | undefined
}

const ok: ItemOutcome = { _tag: "Ok" }
const lost: ItemOutcome = { _tag: "LeaseLost" }

export class HintServer {
  readonly capabilities: Capabilities
  /** Messages ever made receivable. */
  published = 0
  readonly #chaos: Chaos
  readonly #ability: Ability
  /** Ids that exist, to forge hints of. */
  readonly #ids: () => ReadonlyArray<string>
  #messages: Array<Message> = []
  #receipts = 0
  readonly #waiters = new Set<Waiter>()

  constructor(chaos: Chaos, ability: Ability, ids: () => ReadonlyArray<string>) {
    this.#chaos = chaos
    this.#ability = ability
    this.#ids = ids
    this.capabilities = {
      name: "simulated",
      carriesHints: true,
      transactionalPublish: false,
      idempotentPublish: ability.idempotentPublish,
      fenced: ability.fenced,
      priority: false,
      maxBatch: 10,
      maxLease: undefined,
      maxHold: ability.maxHold,
      maxReleaseDelay: undefined,
      depth: "exact"
    }
  }

  publish(hints: ReadonlyArray<Hint>): ReadonlyArray<ItemOutcome> {
    const { faults, world } = this.#chaos
    for (const hint of hints) {
      if (this.#chaos.losesHint()) continue
      const delay = this.#chaos.strikes("hint delayed", faults.hintDelayed) ? world.rng.int(1, faults.hintDelay) : 0
      this.#add(hint, delay)
      if (this.#chaos.strikes("hint doubled", faults.hintDoubled)) this.#add(hint, world.rng.int(0, 500))
      if (this.#chaos.strikes("hint forged", faults.hintForged)) this.#forge(hint)
    }
    return hints.map(() => ok)
  }

  /** Answers as soon as there is something, `[]` when `wait` is over. */
  receive(
    queues: ReadonlyArray<string>,
    lease: number,
    max: number,
    wait: number
  ): Effect.Effect<ReadonlyArray<Delivery>> {
    return Effect.callback((resume) => {
      const { world } = this.#chaos
      const first = this.#take(queues, lease, max)
      if (first.length > 0 || wait <= 0) return resume(Effect.succeed(first))
      const waiter: Waiter = {
        queues,
        wake: () => {
          const taken = this.#take(queues, lease, max)
          if (taken.length === 0) return
          leave()
          resume(Effect.succeed(taken))
        }
      }
      const timer = world.after(wait, () => {
        leave()
        resume(Effect.succeed([]))
      })
      const leave = () => {
        timer.cancelled = true
        this.#waiters.delete(waiter)
      }
      this.#waiters.add(waiter)
      return Effect.sync(leave)
    })
  }

  ack(deliveries: ReadonlyArray<Delivery>): ReadonlyArray<ItemOutcome> {
    return this.#settle(deliveries, (message) => {
      this.#messages = this.#messages.filter((other) => other !== message)
    })
  }

  extend(deliveries: ReadonlyArray<Delivery>, lease: number): ReadonlyArray<ItemOutcome> {
    return this.#settle(deliveries, (message) => this.#hide(message, lease))
  }

  release(deliveries: ReadonlyArray<Delivery>, delay: number): ReadonlyArray<ItemOutcome> {
    return this.#settle(deliveries, (message) => {
      message.receipt = undefined
      this.#hide(message, delay)
    })
  }

  depth(queue: string): number {
    return this.#messages.filter((message) => message.hint.queue === queue).length
  }

  /** Forgets everything, of one queue or all. */
  flush(queue?: string): void {
    this.#messages = queue === undefined ? [] : this.#messages.filter((message) => message.hint.queue !== queue)
  }

  #add(hint: Hint, delay: number): void {
    const known = this.#ability.idempotentPublish
      ? this.#messages.find((message) => message.hint.jobId === hint.jobId)
      : undefined
    if (known !== undefined) return
    this.published++
    const message: Message = { hint, visibleAt: 0, receipt: undefined, count: 0 }
    this.#messages.push(message)
    this.#hide(message, delay)
  }

  /** A hint that nobody of ours published: an unknown job, or any known one, whatever its state. */
  #forge(hint: Hint): void {
    const { rng } = this.#chaos.world
    const ids = this.#ids()
    const jobId =
      rng.chance(0.5) || ids.length === 0 ? `00000000-0000-4000-8000-${hint.jobId.slice(24)}` : rng.pick(ids)
    this.#add({ ...hint, jobId, attempt: rng.int(0, 3) }, 0)
  }

  #hide(message: Message, duration: number): void {
    const { world } = this.#chaos
    message.visibleAt = world.now + duration
    const wake = () => {
      for (const waiter of this.#waiters) if (waiter.queues.includes(message.hint.queue)) waiter.wake()
    }
    if (duration <= 0) wake()
    else world.after(duration, wake)
  }

  #take(queues: ReadonlyArray<string>, lease: number, max: number): ReadonlyArray<Delivery> {
    const { faults, world } = this.#chaos
    const due = this.#messages.filter(
      (message) => message.visibleAt <= world.now && queues.includes(message.hint.queue)
    )
    if (this.#chaos.strikes("hints reordered", faults.hintReordered)) due.sort(() => world.rng.next() - 0.5)
    return due.slice(0, max).map((message) => {
      message.receipt = `r${++this.#receipts}`
      message.count++
      const { count, hint, receipt } = message
      this.#hide(message, lease)
      return { hint, receipt, deliveryCount: this.#ability.countsDeliveries ? count : undefined }
    })
  }

  #settle(deliveries: ReadonlyArray<Delivery>, apply: (message: Message) => void): ReadonlyArray<ItemOutcome> {
    return deliveries.map((delivery) => {
      const message = this.#messages.find((message) =>
        this.#ability.fenced
          ? message.receipt === delivery.receipt
          : message.hint.jobId === delivery.hint.jobId && message.receipt !== undefined
      )
      if (message === undefined) return lost
      apply(message)
      return ok
    })
  }
}
