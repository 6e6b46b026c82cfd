/** The proxy of the chaos runs: it cuts what it is told to cut; and what callers hear when their session is lost. */
import { assert, layer } from "@effect/vitest"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import { SqlClient } from "effect/sql/SqlClient"
import { Work } from "../../scratchpad/chaos/Jobs.ts"
import { Proxy } from "../../scratchpad/chaos/Proxy.ts"
import * as PostgresBell from "../../src/broker/PostgresBell.ts"
import { Broker, Migrations, Polyqueue, StoreError } from "../../src/index.ts"
import * as Sessions from "../../src/store/postgres/Sessions.ts"
import { describePostgres, freshDatabase, layerUrl, postgresUrl } from "../support/Postgres.ts"

/** A database behind a proxy. */
class Behind extends Context.Service<Behind, { readonly proxy: Proxy; readonly url: string }>()("test/chaos/Behind") {
  static readonly layer = Layer.effect(
    Behind,
    Effect.gen(function* () {
      const url = yield* freshDatabase
      const proxy = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const made = new Proxy(Number(new URL(postgresUrl).port))
          await made.start()
          return made
        }),
        (made) => Effect.promise(() => made.stop())
      )
      return { proxy, url }
    })
  )
}

/** A client of the queue through the proxy, and one that sees the database itself. */
const Client = Layer.unwrap(
  Effect.map(Behind, ({ proxy, url }) =>
    Polyqueue.layerPostgres.pipe(
      Layer.provide(Broker.layerPostgresWith({ listen: false })),
      Layer.provideMerge(PgClient.layer({ url: Redacted.make(proxy.url(url)), applicationName: "through" }))
    )
  )
).pipe(Layer.provideMerge(Behind.layer))

const payload = { n: 1, ms: 1, mode: "ok" } as const

/** Rows of a job, seen without the proxy. */
const rowsOf = Effect.fnUntraced(function* (id: string) {
  const { url } = yield* Behind
  const count = SqlClient.use((sql) => sql`select 1 from polyqueue.polyqueue_jobs where id = ${id}::uuid`)
  return (yield* Effect.provide(count, Layer.fresh(layerUrl(url, { maxConnections: 1 })))).length
})

describePostgres("a session that is lost", () => {
  layer(Client, { excludeTestServices: true, timeout: 60_000 })("in the middle of an enqueue", (it) => {
    for (const [when, sql, rows] of [
      ["after the insert, before the commit", /insert into [^(]*jobs/, 0],
      ["at a savepoint", /^savepoint/i, 0],
      ["after the commit, before its reply", /^commit/i, 1]
    ] as const) {
      it.effect(`${when}: a typed error with the id, and the same id again makes one job`, () =>
        Effect.gen(function* () {
          const { proxy } = yield* Behind
          const id = yield* Polyqueue.use((queue) => queue.makeId)
          proxy.cuts.push({ sql, times: 1 })
          const error = yield* Effect.flip(Work.enqueue(payload, { id }))
          proxy.heal()
          assert.deepStrictEqual([error._tag, error.reason, error.id], ["EnqueueError", "StoreUnavailable", id])
          assert.strictEqual(yield* rowsOf(id), rows)
          const again = yield* Work.enqueue(payload, { id })
          assert.deepStrictEqual([again.id, again.deduplicated, yield* rowsOf(id)], [id, rows === 1, 1])
        })
      )
    }

    it.effect("that is a statement of its own: done, and the caller is told that nobody knows", () =>
      Effect.gen(function* () {
        const { proxy } = yield* Behind
        proxy.cuts.push({ sql: /insert into [^(]*jobs/, times: 1 })
        const error = yield* Effect.flip(Work.enqueue(payload))
        proxy.heal()
        assert.deepStrictEqual([error._tag, error.reason], ["EnqueueError", "StoreUnavailable"])
        assert.strictEqual(yield* rowsOf(error.id), 1)
      })
    )

    it.effect("of the caller's transaction: the enqueue itself fails with a typed error", () =>
      Effect.gen(function* () {
        const { proxy } = yield* Behind
        const sql = yield* SqlClient
        proxy.cuts.push({ sql: /insert into [^(]*jobs/, times: 1 })
        let heard: unknown
        const enqueue = Effect.tapError(Work.enqueue(payload), (error) => Effect.sync(() => (heard = error.reason)))
        const exit = yield* Effect.exit(sql.withTransaction(enqueue))
        proxy.heal()
        assert.isTrue(Exit.isFailure(exit))
        assert.strictEqual(heard, "StoreUnavailable")
      })
    )

    it.effect("in the middle of a migration: a typed error, and the next try makes the tables", () =>
      Effect.gen(function* () {
        const { proxy } = yield* Behind
        proxy.cuts.push({ sql: /create table .*other/s, times: 1 })
        const error = yield* Effect.flip(Migrations.migrate({ schema: "other" }))
        proxy.heal()
        assert.instanceOf(error, StoreError)
        assert.strictEqual(error.reason, "Unavailable")
        assert.deepStrictEqual(yield* Migrations.migrate({ schema: "other" }), { from: 0, to: Migrations.version })
      })
    )

    it.effect("without a word, together with all others: one statement waits for its deadline, the next does not", () =>
      Effect.gen(function* () {
        const { proxy } = yield* Behind
        const { config } = yield* PgClient.PgClient
        const pool = yield* Sessions.makePool(config, "pool", 3, 500)
        const ask = Effect.suspend(() => pool().run("test", "select 1 from pg_sleep(0.1)", []))
        yield* Effect.all([ask, ask, ask], { concurrency: 3 })
        proxy.blackhole(/^pool$/)
        proxy.heal()
        const error = yield* Effect.flip(ask)
        assert.strictEqual(error.reason, "Unavailable")
        assert.lengthOf(yield* ask, 1)
      })
    )

    it.effect("in the middle of a notification, without a word: it is sent again, on another session", () =>
      Effect.gen(function* () {
        const { proxy, url } = yield* Behind
        const heard = yield* Queue.unbounded<ReadonlyArray<string> | undefined>()
        const make = (client: PgClient.PgClient, hear: (queues: ReadonlyArray<string> | undefined) => void) =>
          PostgresBell.make({ client, channel: "cut", throttle: 0, heard: hear })
        const direct = Context.get(yield* Layer.build(layerUrl(url)), PgClient.PgClient)
        const listener = yield* make(direct, (queues) => Queue.offerUnsafe(heard, queues))
        const ringer = yield* make(yield* PgClient.PgClient, () => {})
        yield* listener.listen
        assert.isUndefined(yield* Queue.take(heard))
        ringer.ring(["before"])
        assert.deepStrictEqual(yield* Queue.take(heard), ["before"])
        proxy.blackhole(/doorbell/)
        proxy.heal()
        ringer.ring(["after"])
        // With the one before, when its answer was cut off: twice is not too often
        assert.isTrue((yield* Queue.take(heard))?.includes("after"))
      })
    )

    it.effect("without a word (half-open): nothing comes through, and new sessions do", () =>
      Effect.gen(function* () {
        const { proxy } = yield* Behind
        const sql = yield* SqlClient
        yield* sql`select 1`
        proxy.blackhole(/through/)
        proxy.heal()
        const asked = yield* Effect.forkDetach(sql`select 1`)
        yield* Effect.sleep("300 millis")
        assert.isUndefined(asked.pollUnsafe())
        const fresh = Effect.provide(
          SqlClient.use((other) => other`select 1`),
          Layer.fresh(layerUrl(proxy.url((yield* Behind).url), { maxConnections: 1 }))
        )
        assert.lengthOf(yield* fresh, 1)
        // At last it is told
        yield* Effect.promise(() => proxy.stop())
        yield* Effect.promise(() => proxy.start())
        assert.isTrue(Exit.isFailure(yield* Fiber.await(asked)))
      })
    )
  })
})
