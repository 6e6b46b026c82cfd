import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Redacted } from "effect"
import { inspect } from "node:util"
import { Broker } from "../../src/Broker.ts"
import * as ServiceBusBroker from "../../src/broker/ServiceBusBroker.ts"
import { brokerOn, hints, localServer, OK, reasons, setup, tags } from "../support/ServiceBus.ts"

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

  it.live(
    "its connection anew when a link was being opened while the connection died: the SDK alone is held up for a minute",
    () =>
      Effect.gen(function* () {
        const { driver, server } = yield* setup({ requestTimeout: "300 millis" })
        yield* driver.publish(hints(1))
        server.createQueue("other")
        const [hint] = hints(1)
        server.dropConnections()
        const publish = driver.publish([{ ...hint!, queue: "other" }])
        yield* Effect.repeat(publish, { until: (outcomes) => outcomes[0]?._tag === "Ok" })
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
