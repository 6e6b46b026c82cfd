/**
 * Several brokers as one: queues routed to different brokers, or two brokers while a fleet moves from one to the other.
 * Publishing a queue's hints goes to one of them; consuming may listen to several. Receipts name the broker they are of. One
 * that is down costs the others nothing.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Acked, BrokerDriver, Capabilities, Consumer, Delivery, ItemOutcome } from "./BrokerDriver.ts"
import { BrokerError } from "../JobError.ts"

/** Which of `brokers`, by position, a queue's hints are published to, and which are listened to for it. */
export interface Routing {
  readonly brokers: ReadonlyArray<BrokerDriver>
  readonly publishTo: (queue: string) => number
  readonly consumeFrom: (queue: string) => ReadonlyArray<number>
}

/** What all of them can do: the least of each. */
const capabilitiesOf = (brokers: ReadonlyArray<BrokerDriver>): Capabilities => {
  const all = brokers.map((broker) => broker.capabilities)
  const least = (of: (one: Capabilities) => number | undefined): number | undefined => {
    const numbers = all.map(of).filter((value) => value !== undefined)
    return numbers.length === 0 ? undefined : Math.min(...numbers)
  }
  return {
    name: Array.from(new Set(all.map(({ name }) => name))).join("+"),
    // Where one carries hints and another only rings, an empty receive makes the worker look in the store: right for both
    carriesHints: all.some(({ carriesHints }) => carriesHints),
    // Publishing inside a transaction is only right where every route can be part of it
    transactionalPublish: all.every(({ transactionalPublish }) => transactionalPublish),
    idempotentPublish: all.every(({ idempotentPublish }) => idempotentPublish),
    fenced: all.every(({ fenced }) => fenced),
    priority: all.every(({ priority }) => priority),
    maxBatch: least(({ maxBatch }) => maxBatch) ?? 1,
    maxLease: least(({ maxLease }) => maxLease),
    maxHold: least(({ maxHold }) => maxHold),
    maxReleaseDelay: least(({ maxReleaseDelay }) => maxReleaseDelay),
    depth: all.every(({ depth }) => depth === "exact")
      ? "exact"
      : all.some(({ depth }) => depth === "none")
        ? "none"
        : "approximate"
  }
}

/** Runs a batch per broker and answers in the order of the items. A broker that fails as a whole fails only its own items. */
const perBroker = <Item>(
  items: ReadonlyArray<Item>,
  brokerOf: (item: Item) => number,
  run: (broker: number, items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<ItemOutcome>, BrokerError>
): Effect.Effect<ReadonlyArray<ItemOutcome>> => {
  const groups = new Map<number, Array<number>>()
  items.forEach((item, at) => {
    const broker = brokerOf(item)
    const group = groups.get(broker)
    if (group === undefined) groups.set(broker, [at])
    else group.push(at)
  })
  const outcomes: Array<ItemOutcome> = Array.from({ length: items.length })
  return Effect.as(
    Effect.forEach(
      groups,
      ([broker, positions]) =>
        Effect.map(
          Effect.catch(
            run(
              broker,
              positions.map((at) => items[at]!)
            ),
            (error) => Effect.succeed(positions.map((): ItemOutcome => ({ _tag: "Failed", error })))
          ),
          (answers) => positions.forEach((at, i) => (outcomes[at] = answers[i]!))
        ),
      { concurrency: "unbounded", discard: true }
    ),
    outcomes
  )
}

const tagged = (broker: number, delivery: Delivery): Delivery => ({
  ...delivery,
  receipt: `${broker}:${delivery.receipt}`
})
const brokerOf = (delivery: Delivery): number => Number(delivery.receipt.slice(0, delivery.receipt.indexOf(":")))
const untagged = <D extends Acked>(delivery: D): D => ({
  ...delivery,
  receipt: delivery.receipt.slice(delivery.receipt.indexOf(":") + 1)
})

interface Part {
  readonly broker: number
  readonly name: string
  readonly carriesHints: boolean
  readonly consumer: Consumer
  /** Its last receive failed: told once, when it begins and when it ends. */
  failing: boolean
}

/** The deliveries of a part, or why there are none. A part that fails keeps nobody from those of the others. */
const receiveOf = (part: Part, options: { readonly max: number; readonly wait: number }) =>
  Effect.matchEffect(part.consumer.receive(options), {
    onFailure: (error) => {
      const told = part.failing
      part.failing = true
      return Effect.as(
        told
          ? Effect.void
          : Effect.logWarning(`receiving from one of several brokers fails (${part.name}): ${error.message}`),
        error
      )
    },
    onSuccess: (deliveries) => {
      const told = part.failing
      part.failing = false
      return Effect.as(
        told ? Effect.logInfo(`receiving from ${part.name} works again`) : Effect.void,
        deliveries.map((delivery) => tagged(part.broker, delivery))
      )
    }
  })

/** Takes what is there; where nothing is, waits until the first of them has something to say. */
const receiveFrom = Effect.fnUntraced(function* (
  parts: ReadonlyArray<Part>,
  options: { readonly max: number; readonly wait: number }
): Effect.fn.Return<ReadonlyArray<Delivery>, BrokerError> {
  const ends = (yield* Clock.currentTimeMillis) + options.wait
  const share = Math.max(1, Math.floor(options.max / parts.length))
  const received: Array<Delivery> = []
  const failed = new Map<Part, BrokerError>()
  for (const part of parts) {
    // A bell is not asked here: its empty answer would swallow a ring
    if (!part.carriesHints || received.length >= options.max) continue
    const answer = yield* receiveOf(part, { max: Math.min(share, options.max - received.length), wait: 0 })
    if (answer instanceof BrokerError) failed.set(part, answer)
    else received.push(...answer)
  }
  if (received.length > 0) return received
  const others = parts.filter((part) => !failed.has(part))
  if (options.wait > 0 && others.length > 0) {
    const fibers = yield* Effect.forEach(others, (part) =>
      Effect.forkChild(
        Effect.flatMap(receiveOf(part, { max: share, wait: options.wait }), (answer) => {
          if (!(answer instanceof BrokerError)) return Effect.succeed(answer)
          failed.set(part, answer)
          return failed.size === parts.length ? Effect.succeed([]) : Effect.never
        }),
        { startImmediately: true }
      )
    )
    // All of them wait equally long: the first answer, also an empty one (a bell that rang), ends the wait of the others
    const first = yield* Effect.onExit(Effect.raceAllFirst(fibers.map(Fiber.join)), () => Fiber.interruptAll(fibers))
    if (first.length > 0) return first
  }
  const [error] = failed.values()
  const isOver = failed.size === parts.length || (yield* Clock.currentTimeMillis) >= ends
  // Nothing came, and it is not known whether there was nothing
  return error !== undefined && isOver ? yield* error : []
})

/** Makes one broker of several. */
export const make = ({ brokers, consumeFrom, publishTo }: Routing): BrokerDriver => ({
  capabilities: capabilitiesOf(brokers),
  publish: (hints) =>
    perBroker(
      hints,
      ({ queue }) => publishTo(queue),
      (broker, group) => brokers[broker]!.publish(group)
    ),
  consumer: Effect.fnUntraced(function* ({ lease, queues }) {
    const queuesOf = new Map<number, Array<string>>()
    for (const queue of queues) {
      for (const broker of consumeFrom(queue)) queuesOf.set(broker, [...(queuesOf.get(broker) ?? []), queue])
    }
    const parts = yield* Effect.forEach(queuesOf, ([broker, queues]) =>
      Effect.map(brokers[broker]!.consumer({ queues, lease }), (consumer): Part => ({
        broker,
        name: brokers[broker]!.capabilities.name,
        carriesHints: brokers[broker]!.capabilities.carriesHints,
        consumer,
        failing: false
      }))
    )
    const consumers = new Map(parts.map(({ broker, consumer }) => [broker, consumer]))
    const settle =
      <D extends Delivery>(run: (consumer: Consumer, deliveries: ReadonlyArray<D>) => ReturnType<Consumer["ack"]>) =>
      (deliveries: ReadonlyArray<D>) =>
        perBroker(deliveries, brokerOf, (broker, group) => {
          const consumer = consumers.get(broker)
          return consumer === undefined
            ? Effect.succeed(group.map((): ItemOutcome => ({ _tag: "LeaseLost" })))
            : run(consumer, group.map(untagged))
        })
    return {
      receive: (options) => receiveFrom(parts, options),
      extend: (deliveries, lease) => settle((consumer, group) => consumer.extend(group, lease))(deliveries),
      ack: settle((consumer, group: ReadonlyArray<Acked>) => consumer.ack(group)),
      release: (deliveries, delay) => settle((consumer, group) => consumer.release(group, delay))(deliveries)
    }
  }),
  depth: (queue) =>
    Effect.map(
      Effect.forEach(consumeFrom(queue), (broker) => brokers[broker]!.depth(queue)),
      (depths) =>
        depths.reduce<number | undefined>((sum, depth) => (depth === undefined ? sum : (sum ?? 0) + depth), undefined)
    ),
  purge: (queue) => Effect.forEach(consumeFrom(queue), (broker) => brokers[broker]!.purge(queue), { discard: true }),
  health: Effect.map(
    Effect.forEach(brokers, (broker) => broker.health, { concurrency: "unbounded" }),
    (reports) => ({
      ok: reports.every(({ ok }) => ok),
      problems: reports.flatMap(({ problems }, at) =>
        problems.map((problem) => `${brokers[at]!.capabilities.name}: ${problem}`)
      )
    })
  )
})
