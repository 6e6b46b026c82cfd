/** The contract of brokers on PGMQ: on a server that comes and goes, and on PGlite. */
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import * as PgmqBroker from "../../src/broker/PgmqBroker.ts"
import { pgmqQueue } from "../../src/broker/pgmq/QueueName.ts"
import * as Pglite from "../../src/store/Pglite.ts"
import * as BrokerContract from "../../src/testing/BrokerContract.ts"
import { installPgmq } from "../support/Pgmq.ts"
import { describePostgres, layerUrl, ownServer } from "../support/Postgres.ts"

const { capabilities } = PgmqBroker

/** Queues are made by their owner here, so that a missing one can be tried. */
const onServer = Effect.gen(function* () {
  const server = yield* ownServer({ durable: true })
  return Layer.effect(
    BrokerContract.BrokerUnderTest,
    Effect.gen(function* () {
      yield* installPgmq
      const sql = yield* SqlClient.SqlClient
      const stop = Effect.promise(() => server.stop("immediate"))
      const start = Effect.promise(() => server.start())
      return {
        driver: yield* PgmqBroker.make({ createIfMissing: false }),
        queue: () =>
          Effect.gen(function* () {
            const queue = `Contract ${randomUUID()}`
            yield* Effect.orDie(sql`select pgmq.create(${pgmqQueue("polyqueue", queue)})`)
            return queue
          }),
        outage: Effect.acquireRelease(stop, () => start),
        restart: Effect.andThen(stop, start),
        missingQueue: "missing"
      }
    })
  ).pipe(Layer.provide(layerUrl(server.url)))
})

describePostgres("on a server", () => {
  BrokerContract.suite("PgmqBroker", Layer.orDie(Layer.unwrap(onServer)), {
    capabilities,
    hooks: ["outage", "restart", "missingQueue"]
  })
})

const onPglite = Layer.effect(
  BrokerContract.BrokerUnderTest,
  Effect.gen(function* () {
    yield* installPgmq
    return { driver: yield* PgmqBroker.make() }
  })
).pipe(Layer.provide(Pglite.layer()))

BrokerContract.suite("PgmqBroker on PGlite", Layer.orDie(onPglite), { capabilities })
