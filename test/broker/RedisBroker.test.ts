import { Effect, Layer, Redacted, type Scope } from "effect"
import { describe } from "vitest"
import * as RedisBroker from "../../src/broker/RedisBroker.ts"
import * as BrokerContract from "../../src/testing/BrokerContract.ts"
import { describeOwnRedis, givenUrl, ownCluster, ownRedis, type RedisServer } from "../support/Redis.ts"

const { capabilities } = RedisBroker

/** The broker on a private server, which the suite may take away. */
const underTest = (
  started: Effect.Effect<RedisServer, never, Scope.Scope>,
  options: Partial<RedisBroker.Options> = {}
) =>
  Layer.effect(
    BrokerContract.BrokerUnderTest,
    Effect.gen(function* () {
      const server = yield* started
      const driver = yield* RedisBroker.make({ url: Redacted.make(server.url), ...options })
      return {
        driver,
        outage: Effect.acquireRelease(Effect.promise(server.kill), () => Effect.promise(server.start)),
        restart: Effect.promise(() => server.stop().then(server.start))
      }
    })
  )

describeOwnRedis("on a server of its own", () => {
  BrokerContract.suite("RedisBroker", underTest(ownRedis({ persist: true })), {
    capabilities,
    hooks: ["outage", "restart"]
  })
})

describeOwnRedis("on a cluster of its own", () => {
  BrokerContract.suite("RedisBroker", underTest(ownCluster({ persist: true }), { cluster: true }), {
    capabilities,
    hooks: ["outage", "restart"]
  })
})

const given = givenUrl()
if (given !== undefined) {
  // A server that is not ours is not taken away: no hooks
  describe("on POLYQUEUE_TEST_REDIS_URL", () => {
    BrokerContract.suite(
      "RedisBroker",
      Layer.effect(
        BrokerContract.BrokerUnderTest,
        Effect.map(RedisBroker.make({ url: Redacted.make(given) }), (driver) => ({ driver }))
      ),
      { capabilities }
    )
  })
}
