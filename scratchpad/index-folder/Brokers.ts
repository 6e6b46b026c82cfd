/**
 * The brokers that `npm start -- --broker` can choose from: one value each, and nothing else in the program knows which.
 * Those with a server of their own take where it is from the environment, and are loaded when they are asked for: nobody
 * else waits for their client libraries.
 */
import { Config, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { Broker } from "../../src/index.ts"

export const brokers = {
  memory: Broker.layerMemory,
  postgres: Broker.layerPostgres,
  redis: Layer.unwrap(
    Effect.map(
      Effect.promise(() => import("../../src/broker/RedisBroker.ts")),
      (RedisBroker) => RedisBroker.layerConfig({ url: Config.Redacted("POLYQUEUE_REDIS_URL") })
    )
  ),
  sqs: Layer.unwrap(
    Effect.map(
      Effect.promise(() => import("../../src/broker/SqsBroker.ts")),
      (SqsBroker) =>
        SqsBroker.layerConfig({
          queueUrl: Config.String("POLYQUEUE_SQS_QUEUE_URL"),
          // Nobody waits here for long, and the program ends no later than its last poll
          longPoll: Config.succeed("1 second")
        })
    )
  ),
  "service-bus": Layer.unwrap(
    Effect.map(
      Effect.promise(() => import("../../src/broker/ServiceBusBroker.ts")),
      (ServiceBusBroker) =>
        ServiceBusBroker.layerConfig({
          connectionString: Config.Redacted("POLYQUEUE_AZURE_SB_CONNECTION_STRING"),
          queue: Config.String("POLYQUEUE_AZURE_SB_QUEUE_NAME").pipe(Config.withDefault("polyqueue"))
        })
    )
  ),
  pgmq: Layer.unwrap(
    Effect.gen(function* () {
      const PgmqBroker = yield* Effect.promise(() => import("../../src/broker/PgmqBroker.ts"))
      yield* installPgmq
      return PgmqBroker.layer()
    })
  )
}

export type BrokerName = keyof typeof brokers

/** Where each of them is, for those that need to be told. */
export const needs: Partial<Record<BrokerName, string>> = {
  redis: "POLYQUEUE_REDIS_URL",
  sqs: "POLYQUEUE_SQS_QUEUE_URL",
  "service-bus": "POLYQUEUE_AZURE_SB_CONNECTION_STRING"
}

/** The embedded database has no extension files: pgmq's SQL comes from the package that the tests take it from. */
const installPgmq = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const installed = yield* sql`select 1 from pg_namespace where nspname = 'pgmq'`
  if (installed.length > 0) return
  const support = yield* Effect.promise(() => import("../../test/support/Pgmq.ts"))
  yield* support.installPgmq
})
