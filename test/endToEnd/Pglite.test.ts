import { Layer } from "effect"
import { SqlClient } from "effect/sql"
import { Polyqueue } from "../../src/index.ts"
import { suite } from "./suite.ts"

const Embedded = Polyqueue.layerEmbedded()
const Sql = Layer.effect(SqlClient.SqlClient, SqlClient.SqlClient).pipe(Layer.provide(Embedded))

suite("embedded Postgres", Embedded, { sql: Sql })
