import { assert, describe, it } from "@effect/vitest"
import { ServiceBusClient } from "@azure/service-bus"
import { Effect, Exit, Fiber, Layer, Scope } from "effect"
import { randomUUID } from "node:crypto"
import * as ServiceBusBroker from "../../src/broker/ServiceBusBroker.ts"
import * as BrokerContract from "../../src/testing/BrokerContract.ts"
import {
  brokerOn,
  hints,
  hooks,
  localServer,
  logged,
  OK,
  reasons,
  receive,
  setup,
  tags,
  underTest,
  until
} from "../support/ServiceBus.ts"

BrokerContract.suite("ServiceBusBroker", Layer.effect(BrokerContract.BrokerUnderTest, underTest).pipe(Layer.orDie), {
  capabilities: ServiceBusBroker.capabilities,
  hooks
})

describe("ServiceBusBroker publishes", () => {
  it.live("500 hints in one request", () =>
    Effect.gen(function* () {
      const { driver, queue, server } = yield* setup()
      assert.deepStrictEqual(tags(yield* driver.publish(hints(500))), OK)
      assert.strictEqual(server.calls.get("send"), 1)
      assert.strictEqual(queue.counts.active, 500)
    })
  )

  it.live("in smaller parts what the service calls too large, and refuses only the one that is", () =>
    Effect.gen(function* () {
      const { driver, queue, server } = yield* setup()
      // Batches carry the message id of their first message
      let sends = 0
      server.faults.send = () =>
        ++sends <= 3 ? { condition: "amqp:link:message-size-exceeded", description: "too large" } : undefined
      // 4 -> 2 -> 1: the first stands alone and is refused, the others pass
      const outcomes = yield* driver.publish(hints(4))
      assert.deepStrictEqual(reasons(outcomes), ["MessageRejected", "Ok", "Ok", "Ok"])
      assert.strictEqual(queue.counts.active, 3)
    })
  )

  it.live("with the reason that the service gives", () =>
    Effect.gen(function* () {
      const { driver, server } = yield* setup()
      const conditions = {
        "com.microsoft:server-busy": "Throttled",
        "amqp:resource-limit-exceeded": "QuotaExceeded",
        "com.microsoft:entity-disabled": "Unavailable",
        "amqp:unauthorized-access": "Unauthorized",
        "amqp:internal-error": "Unavailable"
      }
      for (const [condition, reason] of Object.entries(conditions)) {
        server.faults.send = () => ({ condition, description: "on purpose" })
        assert.deepStrictEqual(reasons(yield* driver.publish(hints(2))), [reason, reason])
      }
    })
  )

  it.live("within a deadline when no answer comes, and again afterwards", () =>
    Effect.gen(function* () {
      const { driver, server } = yield* setup({ requestTimeout: "300 millis" })
      server.faults.send = () => "ignore"
      assert.deepStrictEqual(reasons(yield* driver.publish(hints(1))), ["OutcomeUnknown"])
      server.faults.send = undefined
      assert.deepStrictEqual(reasons(yield* driver.publish(hints(1))), ["Ok"])
    })
  )

  it.live("every publication to a queue that detects duplicates", () =>
    Effect.gen(function* () {
      const { driver, queue } = yield* setup({ duplicateDetection: true })
      const [hint] = hints(1)
      for (const publication of [1, 1, 2]) yield* driver.publish([{ ...hint!, publication }])
      assert.strictEqual(queue.counts.active, 2, "the same publication once, the next one again")
    })
  )
})

describe("ServiceBusBroker receives", () => {
  it.live("what an interrupted receive took, in the next one: no lock and no credit is lost", () =>
    Effect.gen(function* () {
      const { consumer, driver, queue, server } = yield* setup()
      const waiting = yield* Effect.forkChild(consumer.receive({ max: 5, wait: 60_000 }), { startImmediately: true })
      yield* until(() => server.credit("mail") === 1)
      yield* Fiber.interrupt(waiting)
      yield* driver.publish(hints(1))
      yield* until(() => queue.counts.locked === 1)
      assert.strictEqual((yield* receive(consumer, 1))[0]!.deliveryCount, 1)
      assert.strictEqual(server.receivers("mail"), 1)
    })
  )

  it.live("no message after it closed while it waited, and gives back what it held", () =>
    Effect.gen(function* () {
      const { driver, queue, server } = yield* setup()
      const scope = yield* Scope.make()
      const closing = yield* Scope.provide(driver.consumer({ queues: ["mail"], lease: 10_000 }), scope)
      yield* driver.publish(hints(1))
      yield* receive(closing, 1)
      const waiting = yield* Effect.forkChild(closing.receive({ max: 1, wait: 60_000 }), { startImmediately: true })
      yield* until(() => server.credit("mail") === 1)
      yield* Fiber.interrupt(waiting)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual([server.receivers("mail"), queue.counts.locked, queue.counts.active], [0, 0, 1])
      yield* driver.publish(hints(1))
      assert.deepStrictEqual([queue.counts.locked, queue.counts.active], [0, 2])
    })
  )

  it.live("leaves no connection open when its scope closes", () =>
    Effect.gen(function* () {
      const server = yield* localServer
      yield* Effect.scoped(
        Effect.gen(function* () {
          const driver = yield* brokerOn(server.connectionString)
          yield* driver.publish([{ ...hints(1)[0]!, queue: "polyqueue" }])
          yield* receive(yield* driver.consumer({ queues: ["polyqueue"], lease: 10_000 }), 1)
          assert.strictEqual(server.connections, 1)
        })
      )
      yield* until(() => server.connections === 0)
      assert.strictEqual(server.queue("polyqueue").counts.active, 1)
    })
  )

  it.live("dead-letters what is no hint, says so, and goes on", () =>
    Effect.gen(function* () {
      const { consumer, driver, queue, server } = yield* setup()
      const client = new ServiceBusClient(server.connectionString)
      const foreign = ["123e4567-e89b-12d3-a456-426614174000", { pq: 99, j: "x" }, 42].map((body) => ({
        body,
        messageId: randomUUID()
      }))
      yield* Effect.promise(() => client.createSender("mail").sendMessages(foreign))
      const [hint] = hints(1)
      yield* driver.publish([hint!])
      const { lines, value } = yield* logged(receive(consumer, 1))
      assert.strictEqual(value[0]!.hint.jobId, hint!.jobId)
      assert.strictEqual(queue.counts.dead, 3)
      assert.strictEqual(lines.filter((line) => line.includes("dead-letter")).length, 3)
      yield* Effect.promise(() => client.close())
    })
  )

  it.live("again after the service detached its link, and after the connection was reset", () =>
    Effect.gen(function* () {
      const { consumer, driver, server } = yield* setup()
      for (const cut of [() => server.detach("mail"), () => server.dropConnections()]) {
        const waiting = yield* Effect.forkChild(Effect.ignore(consumer.receive({ max: 1, wait: 60_000 })), {
          startImmediately: true
        })
        yield* until(() => server.credit("mail") === 1)
        cut()
        yield* Fiber.interrupt(waiting)
        yield* Effect.repeat(driver.publish(hints(1)), { until: (outcomes) => outcomes[0]?._tag === "Ok" })
        const [delivery] = yield* Effect.retry(receive(consumer, 1), { while: () => true })
        assert.deepStrictEqual(reasons(yield* consumer.ack([delivery!])), ["Ok"])
      }
    })
  )
})
