/**
 * One stack per broker: a fresh database on the run's server, the broker on a server of its own where it needs one, and
 * the ports over both. Swapping the broker is one layer.
 */
import { Effect, Layer, Redacted } from "effect"
import type { SqlClient } from "effect/sql"
import * as PgmqBroker from "../../src/broker/PgmqBroker.ts"
import * as RedisBroker from "../../src/broker/RedisBroker.ts"
import * as ServiceBusBroker from "../../src/broker/ServiceBusBroker.ts"
import * as SqsBroker from "../../src/broker/SqsBroker.ts"
import { Broker, Polyqueue } from "../../src/index.ts"
import { installPgmq } from "../support/Pgmq.ts"
import { layerFresh } from "../support/Postgres.ts"
import { ownRedis } from "../support/Redis.ts"
import { localServer } from "../support/ServiceBus.ts"
import { scopedSqs } from "../support/Sqs.ts"

const redis = Layer.unwrap(Effect.map(ownRedis(), (server) => RedisBroker.layer({ url: Redacted.make(server.url) })))

const sqs = Layer.unwrap(
  Effect.gen(function* () {
    const server = yield* scopedSqs()
    const queueUrl = yield* Effect.promise(() => server.createQueue())
    return SqsBroker.layer({ queueUrl, client: server.config })
  })
)

const serviceBus = Layer.unwrap(
  Effect.map(localServer, (server) =>
    ServiceBusBroker.layer({ connectionString: Redacted.make(server.connectionString), queue: "polyqueue" })
  )
)

const pgmq = PgmqBroker.layer().pipe(Layer.provide(Layer.effectDiscard(installPgmq)))

/** A fresh database, a broker on it or beside it, the client and the ports. */
const stack = <E>(broker: Layer.Layer<Broker, E, SqlClient.SqlClient>) => {
  const Database = layerFresh()
  return {
    sql: Database,
    live: Polyqueue.layerPostgres.pipe(Layer.provideMerge(broker), Layer.provide(Database))
  }
}

export const stacks = {
  memory: () => stack(Broker.layerMemory),
  postgres: () => stack(Broker.layerPostgres),
  pgmq: () => stack(pgmq),
  redis: () => stack(redis),
  sqs: () => stack(sqs),
  serviceBus: () => stack(serviceBus)
}
