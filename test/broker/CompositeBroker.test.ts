/** Two brokers as one keep the contract of one: side by side by queue, and while a fleet moves from one to the other. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Scope } from "effect"
import * as CompositeBroker from "../../src/broker/CompositeBroker.ts"
import * as BrokerContract from "../../src/testing/BrokerContract.ts"
import { hintsFor, idsOf, reasonOf } from "../../src/testing/broker/BrokerUnderTest.ts"
import * as ReferenceBroker from "../support/ReferenceBroker.ts"

const capabilities = { ...ReferenceBroker.capabilities, name: "reference" }

const underTest = (routing: Omit<CompositeBroker.Routing, "brokers">) =>
  Layer.effect(
    BrokerContract.BrokerUnderTest,
    Effect.gen(function* () {
      const brokers = [(yield* ReferenceBroker.make()).driver, (yield* ReferenceBroker.make()).driver]
      return { driver: CompositeBroker.make({ brokers, ...routing }) }
    })
  )

/** Some queues here, some there. */
const half = (queue: string) => queue.charCodeAt(queue.length - 1) % 2

BrokerContract.suite(
  "queues routed to two brokers",
  underTest({ publishTo: half, consumeFrom: (queue) => [half(queue)] }),
  {
    capabilities
  }
)

BrokerContract.suite(
  "moving from one broker to another",
  underTest({ publishTo: () => 0, consumeFrom: () => [0, 1] }),
  {
    capabilities
  }
)

describe("a broker that is down", () => {
  for (const [name, down] of [
    ["the first", 0],
    ["the second", 1]
  ] as const) {
    it.live(`keeps nobody from the hints of the other, and is not hidden: ${name}`, () =>
      Effect.gen(function* () {
        const both = [yield* ReferenceBroker.make(), yield* ReferenceBroker.make()] as const
        const driver = CompositeBroker.make({
          brokers: both.map(({ driver }) => driver),
          publishTo: () => 1 - down,
          consumeFrom: () => [0, 1]
        })
        const consumer = yield* driver.consumer({ queues: ["mail"], lease: 30_000 })
        const outage = yield* Scope.make()
        yield* Scope.provide(both[down].outage, outage)
        // There already, and coming while somebody waits
        const [first, second] = hintsFor("mail", 2)
        yield* driver.publish([first!])
        assert.deepStrictEqual(idsOf(yield* consumer.receive({ max: 10, wait: 20_000 })), [first!.jobId])
        const waiting = yield* Effect.forkChild(consumer.receive({ max: 10, wait: 20_000 }), { startImmediately: true })
        yield* driver.publish([second!])
        assert.deepStrictEqual(idsOf(yield* Fiber.join(waiting)), [second!.jobId])
        // An empty answer would say that there was nothing
        assert.strictEqual(yield* reasonOf(consumer.receive({ max: 10, wait: 50 })), "Unavailable")
        assert.strictEqual(yield* reasonOf(consumer.receive({ max: 10, wait: 0 })), "Unavailable")
        yield* Scope.close(outage, Exit.void)
        assert.isUndefined(yield* reasonOf(consumer.receive({ max: 10, wait: 50 })))
      }).pipe(Effect.scoped)
    )
  }

  it.live("while a receive waits does not end the wait for the other", () =>
    Effect.gen(function* () {
      const both = [yield* ReferenceBroker.make(), yield* ReferenceBroker.make()] as const
      const driver = CompositeBroker.make({
        brokers: both.map(({ driver }) => driver),
        publishTo: () => 1,
        consumeFrom: () => [0, 1]
      })
      const consumer = yield* driver.consumer({ queues: ["mail"], lease: 30_000 })
      const waiting = yield* Effect.forkChild(consumer.receive({ max: 10, wait: 20_000 }), { startImmediately: true })
      yield* both[0].outage
      const [hint] = hintsFor("mail", 1)
      yield* driver.publish([hint!])
      assert.deepStrictEqual(idsOf(yield* Fiber.join(waiting)), [hint!.jobId])
    }).pipe(Effect.scoped)
  )
})
