import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { hints, logged, OK, reasons, receive, setup, tags } from "../support/ServiceBus.ts"

describe("ServiceBusBroker holds", () => {
  it.live("500 deliveries, renewed one by one, as many at a time as it was told", () =>
    Effect.gen(function* () {
      const { consumer, driver, queue, server } = yield* setup({ concurrency: 20 })
      yield* driver.publish(hints(500))
      const held = yield* receive(consumer, 500)
      server.faults.managementDelay = 5
      const outcomes = yield* consumer.extend(held, 10_000)
      assert.deepStrictEqual([outcomes.length, tags(outcomes)], [500, OK])
      assert.strictEqual(queue.renewals, 500)
      assert.strictEqual(server.peakManagement, 20)
    })
  )

  it.live("on after the time when it warns, once", () =>
    Effect.gen(function* () {
      const { consumer, driver, queue } = yield* setup({ lockRenewal: 0 })
      yield* driver.publish(hints(1))
      const held = yield* receive(consumer, 1)
      yield* Effect.sleep(5)
      const { lines } = yield* logged(
        Effect.forEach([1, 2, 3], () =>
          Effect.map(consumer.extend(held, 10_000), (got) => assert.deepStrictEqual(tags(got), OK))
        )
      )
      assert.strictEqual(queue.renewals, 3)
      assert.strictEqual(lines.filter((line) => line.startsWith("Warn") && line.includes("is held for")).length, 1)
    })
  )

  it.live("by the queue's lock, and says how long that is where it is shorter than the lease", () =>
    Effect.gen(function* () {
      const { consumer, driver } = yield* setup({ lockDuration: 8_000 })
      yield* driver.publish(hints(2))
      for (const { lease } of yield* receive(consumer, 2)) {
        assert.isTrue(lease !== undefined && lease > 5_000 && lease <= 8_000, `${lease}`)
      }
      const { consumer: other, driver: driverOfOther } = yield* setup({ lockDuration: 30_000 })
      yield* driverOfOther.publish(hints(1))
      assert.isUndefined((yield* receive(other, 1))[0]!.lease)
    })
  )

  it.live("what it received before a reconnection, and settles it after", () =>
    Effect.gen(function* () {
      const { consumer, driver, queue, server } = yield* setup()
      yield* driver.publish(hints(3))
      const [acked, kept, released] = yield* receive(consumer, 3)
      server.dropConnections()
      yield* Effect.repeat(driver.publish(hints(1)), { until: (outcomes) => outcomes[0]?._tag === "Ok" })
      // A new link stands, under which the SDK would wait for an answer for ever
      yield* Effect.retry(receive(consumer, 1), { while: () => true })
      assert.deepStrictEqual(reasons(yield* consumer.ack([acked!])), ["Ok"])
      assert.deepStrictEqual(reasons(yield* consumer.extend([kept!], 10_000)), ["Ok"])
      assert.deepStrictEqual(reasons(yield* consumer.release([released!], 0)), ["Ok"])
      assert.deepStrictEqual([queue.counts.locked, queue.counts.active], [2, 1])
    })
  )
})

describe("ServiceBusBroker settles", () => {
  it.live("a release with delay by copies in one request, and counts deliveries across them", () =>
    Effect.gen(function* () {
      const { consumer, driver, queue, server } = yield* setup({ duplicateDetection: true })
      yield* driver.publish(hints(10))
      assert.deepStrictEqual(tags(yield* consumer.release(yield* receive(consumer, 10), 300)), OK)
      assert.strictEqual(server.calls.get("com.microsoft:schedule-message"), 1)
      const again = yield* receive(consumer, 10)
      assert.deepStrictEqual(new Set(again.map((delivery) => delivery.deliveryCount)), new Set([2]))
      yield* consumer.release(again, 100)
      const third = yield* receive(consumer, 10)
      assert.deepStrictEqual(new Set(third.map((delivery) => delivery.deliveryCount)), new Set([3]))
      assert.deepStrictEqual(tags(yield* consumer.ack(third)), OK)
      assert.deepStrictEqual(queue.counts, { active: 0, locked: 0, scheduled: 0, deferred: 0, dead: 0 })
    })
  )

  it.live("a release with delay after its copy is safe: what cannot be scheduled is not completed", () =>
    Effect.gen(function* () {
      const { consumer, driver, queue, server } = yield* setup()
      yield* driver.publish(hints(2))
      const held = yield* receive(consumer, 2)
      server.faults.management = (operation) =>
        operation === "com.microsoft:schedule-message"
          ? { status: 503, description: "busy", condition: "com.microsoft:server-busy" }
          : undefined
      assert.deepStrictEqual(reasons(yield* consumer.release(held, 1_000)), ["Throttled", "Throttled"])
      assert.strictEqual(queue.counts.locked, 2)
    })
  )

  it.live("takes back the copy of a delivery that turned out to be lost", () =>
    Effect.gen(function* () {
      const { consumer, driver, queue } = yield* setup()
      yield* driver.publish(hints(2))
      const [lost, held] = yield* receive(consumer, 2)
      queue.expire(lost!.receipt)
      assert.deepStrictEqual(reasons(yield* consumer.release([lost!, held!], 60_000)), ["LeaseLost", "Ok"])
      assert.deepStrictEqual([queue.counts.active, queue.counts.scheduled], [1, 1])
    })
  )

  it.live("within a deadline when no answer comes: the outcome is unknown, and may be asked for again", () =>
    Effect.gen(function* () {
      const { consumer, driver, queue, server } = yield* setup({ requestTimeout: "300 millis" })
      yield* driver.publish(hints(1))
      const held = yield* receive(consumer, 1)
      server.faults.settle = () => "ignore"
      assert.deepStrictEqual(reasons(yield* consumer.ack(held)), ["OutcomeUnknown"])
      server.faults.settle = undefined
      assert.deepStrictEqual(reasons(yield* consumer.ack(held)), ["Ok"])
      assert.strictEqual(queue.counts.locked, 0)
    })
  )

  it.live("different outcomes in one turn of the event loop, each as it was meant", () =>
    Effect.gen(function* () {
      const { consumer, driver, queue } = yield* setup()
      yield* driver.publish(hints(4))
      const [a, b, c, d] = yield* receive(consumer, 4)
      const both = Effect.all([consumer.ack([a!]), consumer.release([b!], 0), consumer.ack([c!])], {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(tags((yield* both).flat()), OK)
      assert.deepStrictEqual([queue.counts.active, queue.counts.locked], [1, 1])
      assert.strictEqual((yield* receive(consumer, 1))[0]!.hint.jobId, b!.hint.jobId)
      assert.deepStrictEqual(tags(yield* consumer.ack([d!])), OK)
    })
  )

  it.live("500 deliveries", () =>
    Effect.gen(function* () {
      const { consumer, driver, queue } = yield* setup()
      yield* driver.publish(hints(500))
      assert.deepStrictEqual(tags(yield* consumer.ack(yield* receive(consumer, 500))), OK)
      assert.deepStrictEqual([queue.counts.active, queue.counts.locked], [0, 0])
    })
  )
})
