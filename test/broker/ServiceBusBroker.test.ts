import { assert, describe, it } from "@effect/vitest"
import { ServiceBusClient } from "@azure/service-bus"
import { Config, ConfigProvider, Effect, Exit, Fiber, Layer, Logger, Redacted, Schedule, Scope } from "effect"
import { randomUUID } from "node:crypto"
import { inspect } from "node:util"
import { Broker } from "../../src/Broker.ts"
import type { Consumer, Delivery, Hint, ItemOutcome } from "../../src/broker/BrokerDriver.ts"
import * as ServiceBusBroker from "../../src/broker/ServiceBusBroker.ts"
import * as BrokerContract from "../../src/testing/BrokerContract.ts"
import { brokerOn, hooks, localServer, underTest } from "../support/ServiceBus.ts"
import type { QueueOptions } from "../support/serviceBus/EmulatedQueue.ts"

BrokerContract.suite("ServiceBusBroker", Layer.effect(BrokerContract.BrokerUnderTest, underTest).pipe(Layer.orDie), {
  capabilities: ServiceBusBroker.capabilities,
  hooks
})

/** A server and a broker of the test's own, with one queue and a consumer of it. */
const setup = Effect.fnUntraced(function* (options: QueueOptions & ServiceBusBroker.Settings = {}) {
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

const hints = (count: number): ReadonlyArray<Hint> =>
  Array.from({ length: count }, () => ({ jobId: randomUUID(), queue: "mail", priority: 5, attempt: 1, publication: 1 }))
const tags = (outcomes: ReadonlyArray<ItemOutcome>) => new Set(outcomes.map((outcome) => outcome._tag))
const reasons = (outcomes: ReadonlyArray<ItemOutcome>) =>
  outcomes.map((outcome) => (outcome._tag === "Failed" ? outcome.error.reason : outcome._tag))
const OK = new Set(["Ok"])

/** Receives until so many deliveries are there; the test's timeout ends it. */
const receive = Effect.fnUntraced(function* (consumer: Consumer, count: number) {
  const got: Array<Delivery> = []
  while (got.length < count) got.push(...(yield* consumer.receive({ max: count - got.length, wait: 1_000 })))
  return got
})
/** Waits until something holds; the test's timeout ends it. */
const until = (holds: () => boolean) =>
  Effect.repeat(Effect.sync(holds), { until: (yes) => yes, schedule: Schedule.spaced(10) })
/** Runs an effect and answers what it logged. */
const logged = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => void lines.push(`${logLevel} ${inspect(message)}`))
  const value = yield* Effect.provide(effect, Logger.layer([logger]))
  return { lines, value }
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

  it.live("says when the queue's lock is shorter than the lease", () =>
    Effect.gen(function* () {
      const { consumer, driver } = yield* setup({ lockDuration: 3_000 })
      yield* driver.publish(hints(2))
      const { lines } = yield* logged(receive(consumer, 2))
      assert.strictEqual(lines.filter((line) => line.includes("LockDuration")).length, 1)
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

describe("ServiceBusBroker starts", () => {
  const refused = (options: ServiceBusBroker.Options) =>
    Effect.map(Effect.flip(Effect.scoped(ServiceBusBroker.make(options))), (error) => {
      assert.strictEqual(error.reason, "Misconfigured")
      return error
    })
  const valid = "Endpoint=sb://localhost;SharedAccessKeyName=Root;SharedAccessKey=c2VjcmV0;UseDevelopmentEmulator=true;"

  it.live("not with options that it cannot honour, and says which", () =>
    Effect.gen(function* () {
      const connectionString = Redacted.make(valid)
      const secret = yield* refused({ connectionString: Redacted.make("Endpoint=;SharedAccessKey=hush") })
      assert.notInclude(inspect(secret, { depth: 9 }), "hush")
      assert.include((yield* refused({ connectionString, concurrency: 0 })).message, "concurrency")
      assert.include((yield* refused({ connectionString, requestTimeout: 1 })).message, "requestTimeout")
      assert.include((yield* refused({ connectionString, queue: "no such?" })).message, "no such?")
      const ofOne = Redacted.make(`${valid}EntityPath=mail`)
      assert.include((yield* refused({ connectionString: ofOne, queue: "other" })).message, "mail")
    })
  )

  it.live("and reaches only the queue that its connection string names", () =>
    Effect.gen(function* () {
      const server = yield* localServer
      const driver = yield* ServiceBusBroker.make({
        connectionString: Redacted.make(`${server.connectionString}EntityPath=polyqueue`)
      })
      const [hint] = hints(1)
      const outcomes = yield* driver.publish([{ ...hint!, queue: "default" }, hint!])
      assert.deepStrictEqual(reasons(outcomes), ["Ok", "Misconfigured"])
      const error = yield* Effect.flip(driver.consumer({ queues: ["mail"], lease: 10_000 }))
      assert.strictEqual(error.reason, "Misconfigured")
    })
  )

  it.live("with job queues on Service Bus queues of their own", () =>
    Effect.gen(function* () {
      const server = yield* localServer
      server.createQueue("polyqueue-mail")
      const driver = yield* ServiceBusBroker.make({ connectionString: Redacted.make(server.connectionString) })
      const [hint] = hints(1)
      assert.deepStrictEqual(tags(yield* driver.publish([{ ...hint!, queue: "default" }, hint!])), OK)
      const active = ["polyqueue", "polyqueue-mail"].map((name) => server.queue(name).counts.active)
      assert.deepStrictEqual(active, [1, 1])
    })
  )

  it.live("from configuration, as a Broker", () =>
    Effect.gen(function* () {
      const server = yield* localServer
      const live = ServiceBusBroker.layerConfig({
        connectionString: Config.Redacted("POLYQUEUE_AZURE_SB_CONNECTION_STRING"),
        queue: Config.String("POLYQUEUE_AZURE_SB_QUEUE_NAME").pipe(Config.withDefault("polyqueue"))
      })
      const env = (values: Record<string, string>) => ConfigProvider.layer(ConfigProvider.fromEnv({ env: values }))
      const health = Broker.use((broker) => broker.health)
      const set = env({ POLYQUEUE_AZURE_SB_CONNECTION_STRING: server.connectionString })
      const found = yield* health.pipe(Effect.provide(live), Effect.provide(set))
      assert.deepStrictEqual(found, { ok: true, problems: [] })
      const missing = yield* Effect.flip(health.pipe(Effect.provide(live), Effect.provide(env({}))))
      assert.strictEqual(missing._tag, "ConfigError")
    })
  )

  it.live("and names neither key nor connection string in any error", () =>
    Effect.gen(function* () {
      const server = yield* localServer
      const driver = yield* brokerOn(server.connectionString)
      server.faults.authorize = () => 401
      const outcomes = yield* driver.publish(hints(1))
      assert.deepStrictEqual(reasons(outcomes), ["Unauthorized"])
      const health = yield* driver.health
      assert.isFalse(health.ok)
      const key = /SharedAccessKey=([^;]+)/.exec(server.connectionString)![1]!
      assert.notInclude(inspect([outcomes, health], { depth: 9, showHidden: true }), key)
    })
  )

  it.live("with a namespace and a credential, whose token it presents", () =>
    Effect.gen(function* () {
      const server = yield* localServer
      const host = /sb:\/\/([^;]+)/.exec(server.connectionString)![1]!
      const asked: Array<string | ReadonlyArray<string>> = []
      let identity = true
      const driver = yield* ServiceBusBroker.make({
        // The SDK offers no plain TCP beside a credential; the rest of its connection string can be told through the host
        namespace: `${host};UseDevelopmentEmulator=true;Rest=`,
        credential: {
          getToken: (scopes) => {
            asked.push(scopes)
            const refusal = Object.assign(new Error("no identity here"), { name: "CredentialUnavailableError" })
            return identity
              ? Promise.resolve({ token: "a-token", expiresOnTimestamp: Date.now() + 3_600_000 })
              : Promise.reject(refusal)
          }
        }
      })
      const [hint] = hints(1)
      assert.deepStrictEqual(reasons(yield* driver.publish([{ ...hint!, queue: "default" }])), ["Ok"])
      assert.deepStrictEqual([asked.length, server.tokens], [1, ["a-token"]])
      identity = false
      assert.deepStrictEqual(reasons(yield* driver.publish([hint!])), ["Unauthorized"])
    })
  )
})
