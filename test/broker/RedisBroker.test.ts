import { Effect, Layer, Redacted } from "effect"
import * as RedisBroker from "../../src/broker/RedisBroker.ts"
import * as BrokerContract from "../../src/testing/BrokerContract.ts"
import { describeOwnRedis, startRedis } from "../support/Redis.ts"

const serverOf = (options: Parameters<typeof startRedis>[0] = {}) =>
  Effect.acquireRelease(
    Effect.promise(() => startRedis(options)),
    (server) => Effect.promise(() => server.destroy())
  )

describeOwnRedis("on a server of its own", () => {
  BrokerContract.suite(
    "RedisBroker",
    Layer.effect(
      BrokerContract.BrokerUnderTest,
      Effect.gen(function* () {
        const server = yield* serverOf({ persist: true })
        const driver = yield* RedisBroker.make({ url: Redacted.make(server.url) })
        return {
          driver,
          outage: Effect.acquireRelease(
            Effect.promise(() => server.kill()),
            () => Effect.promise(() => server.start())
          ),
          restart: Effect.promise(async () => {
            await server.stop()
            await server.start()
          })
        }
      })
    ).pipe(Layer.orDie),
    { capabilities: RedisBroker.capabilities, hooks: ["outage", "restart"] }
  )
})
