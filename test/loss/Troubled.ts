/**
 * Brokers that can be hurt: each on a server of its own (PGMQ: on a database of its own), with what empties it at once and,
 * where there is a server besides Postgres, what takes it away and brings it back.
 */
import { PurgeQueueCommand } from "@aws-sdk/client-sqs"
import { Effect, Layer, type Scope } from "effect"
import { SqlClient } from "effect/sql"
import type { BrokerSpec } from "../crash/brokers.ts"
import { installPgmq } from "../support/Pgmq.ts"
import { layerUrl } from "../support/Postgres.ts"
import { adminOf, ownRedis } from "../support/Redis.ts"
import { localServer } from "../support/ServiceBus.ts"
import { standIn } from "../support/Sqs.ts"

export interface Troubled {
  readonly spec: BrokerSpec
  /** Drops everything it holds, deliveries in the hands of workers included. */
  readonly loseAll: Effect.Effect<void>
  /** Takes it away, and brings it back; what it held is gone then where it does not store. */
  readonly stop?: Effect.Effect<void>
  readonly start?: Effect.Effect<void>
}

const redis = Effect.gen(function* () {
  const server = yield* ownRedis()
  const troubled: Troubled = {
    spec: { name: "redis", url: server.url },
    loseAll: Effect.scoped(Effect.flatMap(adminOf(server.url), (admin) => Effect.promise(() => admin.flushall()))),
    stop: Effect.promise(server.kill),
    start: Effect.promise(server.start)
  }
  return troubled
})

const sqs = Effect.gen(function* () {
  const { client, createQueue, server } = yield* standIn()
  const queueUrl = yield* Effect.promise(() => createQueue())
  const troubled: Troubled = {
    spec: { name: "sqs", queueUrl, endpoint: server.endpoint },
    loseAll: Effect.asVoid(Effect.promise(() => client.send(new PurgeQueueCommand({ QueueUrl: queueUrl })))),
    stop: Effect.promise(() => server.close()),
    start: Effect.promise(() => server.start())
  }
  return troubled
})

const serviceBus = Effect.gen(function* () {
  const server = yield* localServer
  const troubled: Troubled = {
    spec: { name: "service-bus", connectionString: server.connectionString },
    loseAll: Effect.sync(() => server.queue("polyqueue").clear()),
    stop: Effect.promise(() => server.stop()),
    start: Effect.promise(() => server.start())
  }
  return troubled
})

const pgmq = Effect.fnUntraced(function* (url: string) {
  const Database = layerUrl(url)
  yield* Effect.orDie(Effect.provide(installPgmq, Database))
  const truncate = SqlClient.SqlClient.use((sql) => sql`truncate pgmq.q_polyqueue`)
  const troubled: Troubled = {
    spec: { name: "pgmq" },
    loseAll: Effect.asVoid(Effect.orDie(Effect.provide(truncate, Layer.fresh(Database))))
  }
  return troubled
})

/** By name; `url`: the database of the jobs. */
export const troubled: Readonly<
  Record<"redis" | "sqs" | "service-bus" | "pgmq", (url: string) => Effect.Effect<Troubled, never, Scope.Scope>>
> = { redis: () => redis, sqs: () => sqs, "service-bus": () => serviceBus, pgmq }
