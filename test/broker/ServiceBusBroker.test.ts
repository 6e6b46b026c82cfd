import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { randomUUID } from "node:crypto"
import * as ServiceBusBroker from "../../src/broker/ServiceBusBroker.ts"
import * as BrokerContract from "../../src/testing/BrokerContract.ts"
import { ServiceBusServer } from "../support/ServiceBusServer.ts"

const server = Effect.acquireRelease(
  Effect.promise(() => ServiceBusServer.start({ polyqueue: {} })),
  (running) => Effect.promise(() => running.close())
)

const underTest = Effect.gen(function* () {
  const running = yield* server
  const driver = yield* ServiceBusBroker.make({
    connectionString: Redacted.make(running.connectionString),
    requestTimeout: "5 seconds",
    entity: (queue) => queue
  })
  return {
    driver,
    queue: ({ lease }: { readonly lease: number }) =>
      Effect.sync(() => {
        const name = `contract-${randomUUID()}`
        running.createQueue(name, { lockDuration: lease })
        return name
      }),
    outage: Effect.acquireRelease(
      Effect.promise(() => running.stop()),
      () => Effect.promise(() => running.start())
    ),
    restart: Effect.sync(() => running.dropConnections()),
    missingQueue: "nowhere"
  }
})

BrokerContract.suite(
  "ServiceBusBroker",
  Layer.effect(BrokerContract.BrokerUnderTest, underTest).pipe(Layer.orDie),
  { capabilities: ServiceBusBroker.capabilities, hooks: ["outage", "restart", "missingQueue"] }
)
