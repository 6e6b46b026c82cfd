/**
 * The brokers that `npm start -- --broker` can choose from: one value each, and nothing else in the program knows which.
 */
import { Config, Effect, Layer, Redacted } from "effect"
import { Broker } from "../../src/index.ts"

export const brokers = {
  memory: Broker.layerMemory,
  postgres: Broker.layerPostgres,
  /** Loaded when it is asked for: nobody else waits for its client library. */
  redis: Layer.unwrap(
    Effect.map(
      Effect.promise(() => import("../../src/broker/RedisBroker.ts")),
      (RedisBroker) =>
        RedisBroker.layerConfig({
          url: Config.Redacted("POLYQUEUE_REDIS_URL").pipe(Config.withDefault(Redacted.make("redis://127.0.0.1:6379")))
        })
    )
  )
}

export type BrokerName = keyof typeof brokers
