/**
 * What the broker contract suite drives: a driver, and the few things only its author can do to the server behind it
 * (make a queue, take the server away). Beside it the steps that the cases are written in: each of them waits for what
 * it needs and gives up after a generous time, so that no case depends on how fast a machine is.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { BrokerDriver, Capabilities, Consumer, Delivery, Hint, ItemOutcome } from "../../broker/BrokerDriver.ts"
import type { BrokerError, BrokerReason } from "../../JobError.ts"

/** What a case needs: the service, a scope of its own; a `BrokerError` fails it. */
export type Case = Effect.Effect<void, BrokerError, BrokerUnderTest | Scope.Scope>

/** One sentence of the contract, for which brokers it holds, and how it is tried. */
export interface ContractCase {
  /** The sentence; also what `skip` names. */
  readonly name: string
  readonly applies: (capabilities: Capabilities, hooks: ReadonlyArray<Hook>) => boolean
  /** Takes the server away from everybody: never runs beside another case. */
  readonly alone?: true
  readonly run: Case
}

/** The optional members of `BrokerUnderTest` that bring cases of their own. */
export type Hook = "outage" | "restart" | "missingQueue"

/**
 * The broker that the suite tries. Only `driver` is required; each hook makes more of the contract testable.
 */
export class BrokerUnderTest extends Context.Service<
  BrokerUnderTest,
  {
    readonly driver: BrokerDriver
    /**
     * Makes a queue that no test used before, and answers its name. `lease`: what its consumers will ask for, for brokers
     * where that belongs to the queue. Default: a random name, for brokers that make queues as they are used.
     */
    readonly queue?: (options: { readonly lease: number }) => Effect.Effect<string, BrokerError, Scope.Scope>
    /** The shortest lease the broker knows, in milliseconds: expiry is waited for in real time. Default 1,000. */
    readonly lease?: number
    /** Ends the broker's lease of this delivery now. Default: the case waits until it ends. */
    readonly expireLease?: (delivery: Delivery) => Effect.Effect<void>
    /** Takes the broker away until the scope closes. Its case needs the hook to be named in the suite's options. */
    readonly outage?: Effect.Effect<void, never, Scope.Scope>
    /** Restarts the broker, or drops all its connections, keeping what it stores. */
    readonly restart?: Effect.Effect<void>
    /** The name of a queue that does not exist and that the broker does not make. */
    readonly missingQueue?: string
  }
>()("polyqueue/testing/BrokerUnderTest") {}

/** A lease that does not end while a case runs. */
export const LONG_LEASE = 30_000

/** How long a case waits for what must come, in milliseconds. Reached only when the promise is broken. Default 20 s. */
export const Patience = Context.Reference<number>("polyqueue/testing/Patience", { defaultValue: () => 20_000 })

/** How long a case listens to be sure that nothing comes. */
export const SILENCE = 600

/** A queue of the case's own, the driver, and the shortest lease to wait for. */
export const setup = Effect.fnUntraced(function* (options?: {
  readonly longLease?: boolean
  readonly leases?: number
}) {
  const broker = yield* BrokerUnderTest
  const lease = options?.longLease === true ? LONG_LEASE : (broker.lease ?? 1_000) * (options?.leases ?? 1)
  const queue = broker.queue === undefined ? `contract-${yield* randomName}` : yield* broker.queue({ lease })
  const consumer = broker.driver.consumer({ queues: [queue], lease })
  return { broker, driver: broker.driver, capabilities: broker.driver.capabilities, queue, lease, consumer }
})

const randomName = Effect.sync(() => globalThis.crypto.randomUUID())

/** Hints of jobs that nobody knows, in one queue. */
export const hintsFor = (queue: string, count: number, override?: Partial<Hint>): ReadonlyArray<Hint> =>
  Array.from({ length: count }, () => ({
    jobId: globalThis.crypto.randomUUID(),
    queue,
    priority: 5,
    attempt: 1,
    publication: 1,
    ...override
  }))

/** Publishes in batches the broker takes, and insists that every item was taken. */
export const publish = Effect.fnUntraced(function* (driver: BrokerDriver, hints: ReadonlyArray<Hint>) {
  for (const batch of batches(hints, driver.capabilities.maxBatch)) {
    assert.deepStrictEqual(yield* driver.publish(batch), allOk(batch.length), "publish answers Ok per item")
  }
})

/** Splits into batches of at most `size`. */
export const batches = <A>(items: ReadonlyArray<A>, size: number): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, index) => items.slice(index * size, (index + 1) * size))

/** The answer to a batch of which every item went well. */
export const allOk = (count: number): ReadonlyArray<ItemOutcome> =>
  Array.from({ length: count }, () => ({ _tag: "Ok" }))

/** The tags of a per-item answer. */
export const tags = (outcomes: ReadonlyArray<ItemOutcome>): ReadonlyArray<ItemOutcome["_tag"]> =>
  outcomes.map((outcome) => outcome._tag)

/** The ids that some deliveries are about, sorted. */
export const idsOf = (items: ReadonlyArray<Delivery | Hint>): ReadonlyArray<string> =>
  items.map((item) => ("hint" in item ? item.hint.jobId : item.jobId)).sort()

/** Receives until `count` deliveries are there, and fails the case when they do not come. */
export const receive = Effect.fnUntraced(function* (consumer: Consumer, count: number, max = count) {
  const got: Array<Delivery> = []
  const patience = yield* Patience
  const started = yield* Clock.currentTimeMillis
  while (got.length < count) {
    const left = patience - ((yield* Clock.currentTimeMillis) - started)
    assert.isAbove(left, 0, `${count} deliveries within ${patience} ms; got ${got.length}`)
    const batch = yield* bounded(consumer.receive({ max: Math.min(max, count - got.length), wait: 1_000 }), "receive")
    got.push(...batch)
  }
  return got
})

/** Receives one delivery. */
export const receiveOne = (consumer: Consumer): Effect.Effect<Delivery, BrokerError> =>
  Effect.map(receive(consumer, 1), (deliveries) => deliveries[0]!)

/** Insists that nothing can be received for a while. */
export const receiveNothing = Effect.fnUntraced(function* (consumer: Consumer, wait = SILENCE) {
  const got = yield* bounded(consumer.receive({ max: 10, wait }), "receive")
  assert.deepStrictEqual(idsOf(got), [], "nothing may be receivable now")
})

/** Fails the case, instead of hanging it, when an effect takes longer than (a share of) a case's patience. */
export const bounded = <A, E, R>(effect: Effect.Effect<A, E, R>, what: string, share = 1): Effect.Effect<A, E, R> =>
  Effect.flatMap(Patience, (patience) =>
    Effect.timeoutOrElse(effect, {
      duration: patience * share,
      orElse: () => Effect.die(new Error(`${what} was not answered within ${patience * share} ms`))
    })
  )

/** Receives with an expired lease: the delivery that a consumer lost, taken over by another. */
export const takeOver = Effect.fnUntraced(function* (lost: Delivery, other: Consumer) {
  const broker = yield* BrokerUnderTest
  if (broker.expireLease !== undefined) yield* broker.expireLease(lost)
  const taken = yield* receiveOne(other)
  assert.strictEqual(taken.hint.jobId, lost.hint.jobId, "the delivery that was lost comes again")
  return taken
})

/** The reason of a `BrokerError`, or undefined when the effect succeeded. */
export const reasonOf = <A, R>(
  effect: Effect.Effect<A, BrokerError, R>
): Effect.Effect<BrokerReason | undefined, never, R> =>
  Effect.match(effect, { onFailure: (error) => error.reason, onSuccess: () => undefined })
