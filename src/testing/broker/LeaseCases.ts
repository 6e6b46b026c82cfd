/**
 * What a broker that carries hints promises about a delivery in somebody's hands: it stays theirs for a lease and as
 * long as it is extended, comes again afterwards, and a receipt of the past can do no harm to the next owner.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { Capabilities, Delivery } from "../../broker/BrokerDriver.ts"
import * as Under from "./BrokerUnderTest.ts"

const carriers = (capabilities: Capabilities) => capabilities.carriesHints
const fenced = (capabilities: Capabilities) => capabilities.carriesHints && capabilities.fenced

/** One delivery that a first consumer let expire and a second one took over. */
const stale = Effect.gen(function* () {
  const { consumer, driver, lease, queue } = yield* Under.setup({ leases: 2 })
  yield* Under.publish(driver, Under.hintsFor(queue, 1))
  const first = yield* consumer
  const second = yield* consumer
  const lost = yield* Under.receiveOne(first)
  const taken = yield* Under.takeOver(lost, second)
  return { first, second, lost, taken, lease }
})

/** The cases, in the order of the contract. */
export const leaseCases: ReadonlyArray<Under.ContractCase> = [
  {
    name: "a delivery whose lease ended is received again",
    applies: carriers,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup()
      yield* Under.publish(driver, Under.hintsFor(queue, 1))
      const lost = yield* Under.receiveOne(yield* consumer)
      const taken = yield* Under.takeOver(lost, yield* consumer)
      if (lost.deliveryCount !== undefined) {
        assert.isAbove(taken.deliveryCount ?? 0, lost.deliveryCount, "deliveries are counted")
      }
    })
  },
  {
    name: "extend keeps a delivery away from others, and answers per item, in order",
    applies: carriers,
    run: Effect.gen(function* () {
      const { consumer, driver, lease, queue } = yield* Under.setup({ leases: 4 })
      yield* Under.publish(driver, Under.hintsFor(queue, 2))
      const first = yield* consumer
      const held = yield* Under.receive(first, 2)
      // A broker whose leases belong to its queues may give less than was asked for
      const given = Math.min(lease, ...held.map((delivery) => delivery.lease ?? lease))
      const answers: Array<ReadonlyArray<string>> = []
      const extending = first.extend(held, lease).pipe(
        Effect.tap((outcomes) => Effect.sync(() => answers.push(Under.tags(outcomes)))),
        Effect.repeat(Schedule.spaced(given / 4))
      )
      const other = yield* consumer
      yield* Effect.raceFirst(extending, Under.receiveNothing(other, given * 1.5))
      assert.isAtLeast(answers.length, 2)
      assert.deepStrictEqual(
        answers,
        answers.map(() => ["Ok", "Ok"])
      )
      assert.deepStrictEqual(yield* first.ack(held), Under.allOk(2))
    })
  },
  {
    name: "extend of a delivery that a newer receipt owns answers LeaseLost and takes nothing back",
    applies: fenced,
    run: Effect.gen(function* () {
      const { first, lease, lost, second, taken } = yield* stale
      assert.deepStrictEqual(Under.tags(yield* first.extend([lost], lease)), ["LeaseLost"])
      assert.deepStrictEqual(yield* second.ack([taken]), Under.allOk(1))
    })
  },
  {
    name: "ack does not touch a delivery that a newer receipt owns",
    applies: fenced,
    run: Effect.gen(function* () {
      const { first, lease, lost, second, taken } = yield* stale
      assert.deepStrictEqual(Under.tags(yield* first.ack([lost])), ["LeaseLost"])
      assert.deepStrictEqual(Under.tags(yield* second.extend([taken], lease)), ["Ok"], "still there, still owned")
      assert.deepStrictEqual(yield* second.ack([taken]), Under.allOk(1))
    })
  },
  {
    name: "release does not touch a delivery that a newer receipt owns",
    applies: fenced,
    run: Effect.gen(function* () {
      const { first, lease, lost, second, taken } = yield* stale
      assert.deepStrictEqual(Under.tags(yield* first.release([lost], 0)), ["LeaseLost"])
      assert.deepStrictEqual(Under.tags(yield* second.extend([taken], lease)), ["Ok"], "still owned")
      yield* Under.receiveNothing(first, 300)
      assert.deepStrictEqual(yield* second.ack([taken]), Under.allOk(1))
    })
  },
  {
    name: "a lost lease is an answer per item, never a failure of the batch",
    applies: carriers,
    run: Effect.gen(function* () {
      const { consumer, driver, lease, queue } = yield* Under.setup({ longLease: true })
      yield* Under.publish(driver, Under.hintsFor(queue, 3))
      const one = yield* consumer
      const [acked, held, other] = yield* Under.receive(one, 3)
      assert.deepStrictEqual(yield* one.ack([acked!]), Under.allOk(1))
      const gone: ReadonlyArray<string | undefined> = ["Ok", "LeaseLost"]
      const extended = Under.tags(yield* one.extend([held!, acked!, other!], lease))
      assert.deepStrictEqual([extended[0], extended[2], extended.length], ["Ok", "Ok", 3])
      assert.include(gone, extended[1])
      const again = Under.tags(yield* one.ack([acked!, held!]))
      assert.deepStrictEqual([again[1], again.length], ["Ok", 2])
      assert.include(gone, again[0])
      const released = Under.tags(yield* one.release([acked!, other!], 0))
      assert.deepStrictEqual([released[1], released.length], ["Ok", 2])
      assert.include(gone, released[0])
      assert.strictEqual((yield* Under.receiveOne(one)).hint.jobId, other!.hint.jobId)
    })
  },
  {
    name: "a forged receipt is an answer per item, never a failure of the batch",
    applies: carriers,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup({ longLease: true })
      yield* Under.publish(driver, Under.hintsFor(queue, 2))
      const one = yield* consumer
      const [real, model] = yield* Under.receive(one, 2)
      const forged: Delivery = { ...model!, receipt: "no receipt of ours" }
      const outcomes = Under.tags(yield* one.ack([forged, real!]))
      assert.deepStrictEqual([outcomes[1], outcomes.length], ["Ok", 2])
      assert.include(["LeaseLost", "Failed"], outcomes[0])
    })
  },
  {
    name: "release without delay makes a hint receivable at once",
    applies: carriers,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup({ longLease: true })
      yield* Under.publish(driver, Under.hintsFor(queue, 1))
      const one = yield* consumer
      const delivery = yield* Under.receiveOne(one)
      assert.deepStrictEqual(yield* one.release([delivery], 0), Under.allOk(1))
      assert.strictEqual((yield* Under.receiveOne(one)).hint.jobId, delivery.hint.jobId)
    })
  },
  {
    name: "release makes a hint receivable again after delay, not earlier",
    applies: carriers,
    run: Effect.gen(function* () {
      const { capabilities, consumer, driver, queue } = yield* Under.setup({ longLease: true })
      yield* Under.publish(driver, Under.hintsFor(queue, 1))
      const one = yield* consumer
      const delivery = yield* Under.receiveOne(one)
      const started = yield* Clock.currentTimeMillis
      assert.deepStrictEqual(yield* one.release([delivery], 2_000), Under.allOk(1))
      const again = yield* Under.receiveOne(one)
      assert.strictEqual(again.hint.jobId, delivery.hint.jobId)
      const earliest = Math.min(2_000, capabilities.maxReleaseDelay ?? 2_000)
      assert.isAtLeast((yield* Clock.currentTimeMillis) - started, earliest * 0.9)
    })
  },
  {
    name: "closing a consumer gives back what it held, or lets it expire",
    applies: carriers,
    run: Effect.gen(function* () {
      const { consumer, driver, queue } = yield* Under.setup()
      const hints = Under.hintsFor(queue, 3)
      yield* Under.publish(driver, hints)
      const scope = yield* Scope.make()
      const closing = yield* Scope.provide(consumer, scope)
      yield* Under.receive(closing, 3)
      yield* Scope.close(scope, Exit.void)
      const seen = new Set<string>()
      const other = yield* consumer
      const rest = Effect.gen(function* () {
        while (seen.size < 3) for (const { hint } of yield* other.receive({ max: 3, wait: 1_000 })) seen.add(hint.jobId)
      })
      yield* Under.bounded(rest, "receiving what the closed consumer held")
      assert.deepStrictEqual([...seen].sort(), Under.idsOf(hints))
    })
  }
]
