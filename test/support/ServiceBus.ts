/**
 * The Service Bus that tests run against: the local server, or with `POLYQUEUE_TEST_SERVICEBUS_CONNECTION` another one.
 * There, queues are made and deleted by the administration client (the key needs Manage rights), or taken from
 * `POLYQUEUE_TEST_SERVICEBUS_QUEUES`, a list of queues with a LockDuration of 5 s (for servers without administration,
 * such as the official emulator).
 */
import { ServiceBusAdministrationClient } from "@azure/service-bus"
import { Effect, Logger, Redacted, Schedule, type Scope } from "effect"
import { randomUUID } from "node:crypto"
import { inspect } from "node:util"
import type { Consumer, Delivery, Hint, ItemOutcome } from "../../src/broker/BrokerDriver.ts"
import * as ServiceBusBroker from "../../src/broker/ServiceBusBroker.ts"
import type { BrokerUnderTest } from "../../src/testing/BrokerContract.ts"
import type { Hook } from "../../src/testing/broker/BrokerUnderTest.ts"
import type { QueueOptions } from "./serviceBus/EmulatedQueue.ts"
import { ServiceBusServer } from "./ServiceBusServer.ts"

const elsewhere = process.env["POLYQUEUE_TEST_SERVICEBUS_CONNECTION"] ?? ""
const pool = (process.env["POLYQUEUE_TEST_SERVICEBUS_QUEUES"] ?? "").split(",").filter((name) => name !== "")

/** Which hooks the server under test has: only the local one can be taken away. */
export const hooks: ReadonlyArray<Hook> = elsewhere === "" ? ["outage", "restart", "missingQueue"] : ["missingQueue"]

/** A local server, for the scope. */
export const localServer: Effect.Effect<ServiceBusServer, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(() => ServiceBusServer.start({ polyqueue: {} })),
  (server) => Effect.promise(() => server.close())
)

/** A broker on a server whose queues are named like those of jobs. */
export const brokerOn = (connectionString: string, options: ServiceBusBroker.Settings = {}) =>
  ServiceBusBroker.make({
    connectionString: Redacted.make(connectionString),
    requestTimeout: "3 seconds",
    entity: (queue) => queue,
    ...options
  })

const local = Effect.gen(function* () {
  const server = yield* localServer
  const under: BrokerUnderTest["Service"] = {
    driver: yield* brokerOn(server.connectionString),
    queue: ({ lease }) =>
      Effect.sync(() => server.createQueue(`contract-${randomUUID()}`, { lockDuration: lease }).name),
    outage: Effect.acquireRelease(
      Effect.promise(() => server.stop()),
      () => Effect.promise(() => server.start())
    ),
    restart: Effect.sync(() => server.dropConnections()),
    missingQueue: "nowhere"
  }
  return under
})

const remote = Effect.gen(function* () {
  const driver = yield* brokerOn(elsewhere)
  const administration = new ServiceBusAdministrationClient(elsewhere)
  let next = 0
  const under: BrokerUnderTest["Service"] = {
    driver,
    lease: 5_000,
    queue: Effect.fnUntraced(function* ({ lease }) {
      if (pool.length > 0) {
        const name = pool[next++ % pool.length]!
        yield* driver.purge(name)
        return name
      }
      const made = yield* Effect.acquireRelease(
        Effect.promise(() =>
          administration.createQueue(`contract-${randomUUID()}`, { lockDuration: `PT${Math.ceil(lease / 1_000)}S` })
        ),
        ({ name }) => Effect.promise(() => administration.deleteQueue(name))
      )
      return made.name
    }),
    missingQueue: `missing-${randomUUID()}`
  }
  return under
})

/** What the contract suite runs on. */
export const underTest = elsewhere === "" ? local : remote

/** A server and a broker of the test's own, with one queue and a consumer of it. */
export const setup = Effect.fnUntraced(function* (options: QueueOptions & ServiceBusBroker.Settings = {}) {
  const { duplicateDetection, lockDuration, maxDeliveryCount, ...settings } = options
  const server = yield* localServer
  const queue = server.createQueue("mail", {
    ...(lockDuration === undefined ? {} : { lockDuration }),
    ...(duplicateDetection === undefined ? {} : { duplicateDetection }),
    ...(maxDeliveryCount === undefined ? {} : { maxDeliveryCount })
  })
  const driver = yield* brokerOn(server.connectionString, settings)
  const consumer = yield* driver.consumer({ queues: ["mail"], lease: 10_000 })
  return { server, queue, driver, consumer }
})

/** Hints of jobs that nobody knows. */
export const hints = (count: number): ReadonlyArray<Hint> =>
  Array.from({ length: count }, () => ({ jobId: randomUUID(), queue: "mail", priority: 5, attempt: 1, publication: 1 }))
/** Which answers there are. */
export const tags = (outcomes: ReadonlyArray<ItemOutcome>) => new Set(outcomes.map((outcome) => outcome._tag))
/** Per item: `Ok`, `LeaseLost`, or the reason of its failure. */
export const reasons = (outcomes: ReadonlyArray<ItemOutcome>) =>
  outcomes.map((outcome) => (outcome._tag === "Failed" ? outcome.error.reason : outcome._tag))
/** That every item went well. */
export const OK = new Set(["Ok"])

/** Receives until so many deliveries are there; the test's timeout ends it. */
export const receive = Effect.fnUntraced(function* (consumer: Consumer, count: number) {
  const got: Array<Delivery> = []
  while (got.length < count) got.push(...(yield* consumer.receive({ max: count - got.length, wait: 1_000 })))
  return got
})
/** Waits until something holds; the test's timeout ends it. */
export const until = (holds: () => boolean) =>
  Effect.repeat(Effect.sync(holds), { until: (yes) => yes, schedule: Schedule.spaced(10) })
/** Runs an effect and answers what it logged. */
export const logged = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => void lines.push(`${logLevel} ${inspect(message)}`))
  const value = yield* Effect.provide(effect, Logger.layer([logger]))
  return { lines, value }
})
