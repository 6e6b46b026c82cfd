/** PGMQ: the contract on a server and on PGlite, and what only this broker promises. */
import { Effect, Layer } from "effect"
import * as PgmqBroker from "../../src/broker/PgmqBroker.ts"
import * as BrokerContract from "../../src/testing/BrokerContract.ts"
import { describePostgres, layerFresh } from "../support/Postgres.ts"
import { installPgmq } from "../support/Pgmq.ts"

describePostgres("on a server", () => {
  BrokerContract.suite(
    "PgmqBroker",
    Layer.effect(
      BrokerContract.BrokerUnderTest,
      Effect.gen(function* () {
        yield* installPgmq
        return { driver: yield* PgmqBroker.make() }
      })
    ).pipe(Layer.provide(layerFresh()), Layer.orDie),
    { capabilities: PgmqBroker.capabilities }
  )
})
