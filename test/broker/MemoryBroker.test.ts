import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as MemoryBroker from "../../src/broker/MemoryBroker.ts"
import * as BrokerContract from "../../src/testing/BrokerContract.ts"

BrokerContract.suite(
  "MemoryBroker",
  Layer.effect(
    BrokerContract.BrokerUnderTest,
    Effect.map(MemoryBroker.make, (driver) => ({ driver }))
  ),
  { capabilities: MemoryBroker.capabilities }
)

const hint = (queue: string) => ({ jobId: "a", queue, priority: 5, attempt: 1, publication: 1 })

describe("MemoryBroker on the TestClock", () => {
  it.effect("a receive without a ring ends exactly when its wait is over", () =>
    Effect.gen(function* () {
      const driver = yield* MemoryBroker.make
      const consumer = yield* driver.consumer({ queues: ["mail"], lease: 1_000 })
      const fiber = yield* Effect.forkChild(consumer.receive({ max: 1, wait: 5_000 }), { startImmediately: true })
      yield* TestClock.adjust(4_999)
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* Fiber.join(fiber), [])
    })
  )

  it.effect("a ring for another queue wakes nobody, and rings are coalesced", () =>
    Effect.gen(function* () {
      const driver = yield* MemoryBroker.make
      const consumer = yield* driver.consumer({ queues: ["mail"], lease: 1_000 })
      yield* driver.publish([hint("other")])
      yield* driver.publish([hint("mail"), hint("mail")])
      yield* driver.publish([hint("mail")])
      assert.deepStrictEqual(yield* consumer.receive({ max: 1, wait: 5_000 }), [])
      const second = yield* Effect.forkChild(consumer.receive({ max: 1, wait: 5_000 }), { startImmediately: true })
      yield* driver.publish([hint("other")])
      yield* TestClock.adjust(4_999)
      assert.isUndefined(second.pollUnsafe())
      yield* driver.publish([hint("mail")])
      yield* Fiber.join(second)
    })
  )

  it.effect("a closed consumer is forgotten", () =>
    Effect.gen(function* () {
      const driver = yield* MemoryBroker.make
      const scope = yield* Scope.make()
      const consumer = yield* Scope.provide(driver.consumer({ queues: ["mail"], lease: 1_000 }), scope)
      yield* Scope.close(scope, Exit.void)
      yield* driver.publish([hint("mail")])
      const fiber = yield* Effect.forkChild(consumer.receive({ max: 1, wait: 5_000 }), { startImmediately: true })
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust(5_000)
      yield* Fiber.join(fiber)
    })
  )
})
