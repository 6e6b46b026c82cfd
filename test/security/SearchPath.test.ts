/**
 * A hostile search path with functions and operators of somebody else before PostgreSQL's own: the schema, our sessions, and
 * the clock of enqueues on the caller's session do not follow it. And our sessions have the settings they ask for.
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Broker, Job, Migrations, Polyqueue, Worker, WorkerRegistry } from "../../src/index.ts"
import * as Sessions from "../../src/store/postgres/Sessions.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"

class Echo extends Job.make("Echo", { payload: { n: Schema.Int }, success: Schema.Int }) {}

/** Whoever is called by mistake says so with an error. */
const evil = [
  "create schema evil",
  "create function evil.boom() returns boolean language plpgsql as $$ begin raise exception 'evil was called'; end $$",
  ...["now", "clock_timestamp"].map(
    (name) =>
      `create function evil.${name}() returns timestamptz language sql as $$ select '2099-01-01'::timestamptz $$`
  ),
  "create function evil.date_part(text, timestamptz) returns float8 language sql as $$ select evil.boom()::int::float8 $$",
  "create function evil.power(integer, integer) returns float8 language sql as $$ select evil.boom()::int::float8 $$",
  "create function evil.array_to_json(text[]) returns json language sql as $$ select to_json(evil.boom()) $$",
  "create function evil.text_is(text, text) returns boolean language plpgsql as $$ begin return false; end $$",
  "create operator evil.= (leftarg = text, rightarg = text, procedure = evil.text_is)",
  "create table evil.polyqueue_jobs (id int)"
]

/** A database in which every session begins with the hostile path. */
const Hostile = Layer.unwrap(
  Effect.gen(function* () {
    const url = yield* freshDatabase
    yield* Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      for (const statement of evil) yield* sql.unsafe(statement)
      yield* sql.unsafe(`alter database ${new URL(url).pathname.slice(1)} set search_path = evil, pg_catalog, public`)
    }).pipe(Effect.provide(layerUrl(url, { maxConnections: 1 })))
    return layerUrl(url)
  })
)

describePostgres("a hostile search path", () => {
  layer(Hostile, { timeout: "60 seconds", excludeTestServices: true })("with a shadow of everything", (it) => {
    it.effect("is in force on the caller's sessions", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const [row] = yield* sql.unsafe<{ year: string; same: boolean }>(
          "select to_char(now(), 'YYYY') as year, 'a'::text = 'a'::text as same"
        )
        assert.deepStrictEqual(row, { year: "2099", same: false })
      })
    )

    it.effect("does not get into the tables", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* Migrations.migrate()
        const defaults = yield* sql.unsafe<{ text: string }>(
          `select pg_get_expr(d.adbin, d.adrelid) as text from pg_attrdef d join pg_class c on c.oid = d.adrelid
          where c.relnamespace operator(pg_catalog.=) 'polyqueue'::regnamespace
          union all select pg_get_constraintdef(k.oid) from pg_constraint k
          where k.connamespace operator(pg_catalog.=) 'polyqueue'::regnamespace`
        )
        assert.isAbove(defaults.length, 20)
        for (const { text } of defaults) {
          assert.notInclude(text, "evil")
          // Written with their schema, because in this session the path would find others: so they are PostgreSQL's own
          if (text.includes("now()")) assert.include(text, "pg_catalog.now()")
        }
      })
    )

    it.effect("is not followed by our own sessions, nor by the clock of an enqueue on the caller's", () =>
      Effect.gen(function* () {
        const job = yield* Echo.enqueue({ n: 7 })
        assert.strictEqual(yield* job.await, 7)
        const record = yield* Polyqueue.use((queue) => queue.get(job.id))
        assert.isBelow(record.enqueuedAt, Date.UTC(2099, 0, 1))
        assert.isBelow(record.runAt, Date.UTC(2099, 0, 1))
        assert.strictEqual((yield* WorkerRegistry.use((registry) => registry.list)).length, 1)
      }).pipe(
        Effect.provide(
          Worker.layer([Echo]).pipe(
            Layer.provide(Echo.toLayer(({ n }) => Effect.succeed(n))),
            Layer.provideMerge(Polyqueue.layerPostgres),
            Layer.provide(Broker.layerPostgres)
          )
        )
      )
    )

    it.effect("our sessions have the settings they ask for, and a name", () =>
      Effect.gen(function* () {
        const sessions = yield* Sessions.make
        const settings = [
          "application_name",
          "search_path",
          "default_transaction_isolation",
          "statement_timeout",
          "lock_timeout",
          "idle_in_transaction_session_timeout"
        ]
        for (const [run, name] of [
          [sessions.work, "polyqueue"],
          [sessions.renewal, "polyqueue renewal"]
        ] as const) {
          const [row] = yield* run(
            "read back",
            `select ${settings.map((s) => `current_setting('${s}')`).join(", ")}`,
            []
          )
          assert.deepStrictEqual(row, [name, "pg_catalog", "read committed", "10s", "5s", "10s"])
        }
      })
    )
  })
})
