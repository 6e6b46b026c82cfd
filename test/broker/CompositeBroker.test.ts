/** Two brokers as one keep the contract of one: side by side by queue, and while a fleet moves from one to the other. */
import { Effect, Layer } from "effect"
import * as CompositeBroker from "../../src/broker/CompositeBroker.ts"
import * as BrokerContract from "../../src/testing/BrokerContract.ts"
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
