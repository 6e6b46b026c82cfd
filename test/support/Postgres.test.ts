/** The tests' own server: that it answers, survives a crash, and that databases are apart. */
import { assert, it, layer } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { describePostgres, freshDatabase, layerFresh, layerUrl, ownServer } from "./Postgres.ts"

const names = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ name: string }>`select relname as name from pg_class where relname = 'probe'`
)

describePostgres("test servers", () => {
  layer(layerFresh())("a fresh database", (it) => {
    it.effect("is apart from other databases", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`create table probe (a int)`
        assert.lengthOf(yield* names, 1)
        const other = yield* freshDatabase
        assert.lengthOf(yield* names.pipe(Effect.provide(layerUrl(other))), 0)
      })
    )
  })

  it.live(
    "a private server keeps what was committed before a crash",
    () =>
      Effect.gen(function* () {
        const server = yield* ownServer({ durable: true })
        const client = () => layerUrl(server.url, { maxConnections: 1 })
        yield* Effect.flatMap(SqlClient.SqlClient, (sql) => sql`create table probe (a int)`).pipe(
          Effect.provide(client())
        )
        yield* Effect.promise(() => server.stop("immediate"))
        assert.isUndefined(server.pid())
        yield* Effect.promise(() => server.start())
        assert.lengthOf(yield* names.pipe(Effect.provide(client())), 1)
      }).pipe(Effect.scoped),
    60_000
  )
})
