import { Layer } from "effect"
import { Broker, Polyqueue } from "../../src/index.ts"
import { describePostgres, layerFresh } from "../support/Postgres.ts"
import { suite } from "./suite.ts"

describePostgres("Postgres", () => {
  const Database = layerFresh()
  suite(
    "a Postgres server",
    Polyqueue.layerPostgres.pipe(Layer.provideMerge(Broker.layerPostgres), Layer.provide(Database)),
    {
      sql: Database
    }
  )
})
