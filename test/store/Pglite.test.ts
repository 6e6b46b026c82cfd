import { assert, describe, it, layer } from "@effect/vitest"
import * as PgClient from "@effect/sql-pg/PgClient"
import { Deferred, Effect, Exit, Fiber, Layer, Logger, Queue, Stream } from "effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type Duplex } from "node:stream"
import * as Pglite from "../../src/store/Pglite.ts"

const temporaryFolder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "polyqueue-pglite-"))),
  (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
)

/** Another client on the same embedded database, as the store makes its own sessions. */
const another = (pg: PgClient.PgClient, maxConnections = 2) =>
  PgClient.make({ ...pg.config, maxConnections }).pipe(
    Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make)
  )

layer(Pglite.layer(), { timeout: "60 seconds", excludeTestServices: true })("Pglite in memory", (it) => {
  it.effect("is Postgres: types, errors and streams through the same client", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [row] = yield* sql`select 1::int8 as n, ${"x"} || 'y' as text, '{"a":1}'::jsonb as json`
      assert.deepStrictEqual(row, { n: 1n, text: "xy", json: { a: 1 } })
      const error = yield* Effect.flip(sql`select * from missing`)
      assert.strictEqual(Reflect.get(Object(error.reason.cause), "code"), "42P01")
      const rows = yield* Stream.runCollect(sql<{ i: number }>`select i from generate_series(1, 1000) i`.stream)
      assert.strictEqual(rows.length, 1000)
      const large = "x".repeat(2_000_000)
      assert.deepStrictEqual(yield* sql`select length(${large}) as n`, [{ n: 2_000_000 }])
    })
  )

  it.effect("a transaction holds the session: nobody writes into it, and others wait until it ends", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const other = yield* another(yield* PgClient.PgClient)
      yield* sql`create table held (who text)`
      const inside = yield* Deferred.make<void>()
      const go = yield* Deferred.make<void>()
      const transaction = yield* sql`insert into held values ('transaction')`.pipe(
        Effect.andThen(Deferred.succeed(inside, undefined)),
        Effect.andThen(Deferred.await(go)),
        Effect.andThen(Effect.fail("roll back")),
        sql.withTransaction,
        Effect.forkChild({ startImmediately: true })
      )
      yield* Deferred.await(inside)
      const waiting = yield* Effect.forkChild(other`insert into held values ('other')`, { startImmediately: true })
      yield* Effect.sleep(50)
      assert.isUndefined(waiting.pollUnsafe())
      yield* Deferred.succeed(go, undefined)
      yield* Fiber.join(waiting)
      assert.deepStrictEqual(yield* Fiber.await(transaction), Exit.fail("roll back"))
      assert.deepStrictEqual(yield* sql`select who from held`, [{ who: "other" }])
    })
  )

  it.effect("a stream holds the session until it ends: its portal survives other statements", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      let seen = 0
      const counting = sql`select i from generate_series(1, 3000) i`.stream.pipe(
        Stream.runForEach(() => Effect.sync(() => seen++))
      )
      const others = Effect.forEach(Array.from({ length: 50 }), () => sql`select 1`, { concurrency: 5 })
      yield* Effect.all([counting, others, counting], { concurrency: "unbounded" })
      assert.strictEqual(seen, 6000)
    })
  )

  it.effect("a connection that is destroyed mid-transaction is rolled back, and the rest goes on", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { config } = yield* PgClient.PgClient
      yield* sql`create table abandoned (n int)`
      const streams: Array<Duplex> = []
      const stream = () => {
        const made = config.stream!()
        streams.push(made)
        return made
      }
      const doomed = yield* another(yield* PgClient.PgClient).pipe(
        Effect.andThen(PgClient.make({ ...config, stream, maxConnections: 1 })),
        Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make)
      )
      for (const end of ["destroyed between statements", "destroyed during a statement"]) {
        const inside = yield* Deferred.make<void>()
        const last = end === "destroyed between statements" ? Effect.never : doomed`select pg_sleep(0.2)`
        const transaction = yield* doomed`insert into abandoned values (1)`.pipe(
          Effect.andThen(Deferred.succeed(inside, undefined)),
          Effect.andThen(last),
          doomed.withTransaction,
          Effect.forkChild({ startImmediately: true })
        )
        yield* Deferred.await(inside)
        streams.at(-1)!.destroy(new Error(end))
        assert.deepStrictEqual(yield* sql`select count(*)::int as n from abandoned`, [{ n: 0 }], end)
        yield* Fiber.interrupt(transaction)
      }
      assert.deepStrictEqual(yield* doomed`select 1 as one`, [{ one: 1 }], "and it connects again")
    })
  )

  it.effect("a transaction that is interrupted while it waits for the session leaves no trace", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`create table interrupted (n int)`
      const inside = yield* Deferred.make<void>()
      const go = yield* Deferred.make<void>()
      const holding = yield* Deferred.succeed(inside, undefined).pipe(
        Effect.andThen(Deferred.await(go)),
        sql.withTransaction,
        Effect.forkChild({ startImmediately: true })
      )
      yield* Deferred.await(inside)
      const waiting = yield* Effect.forkChild(sql`insert into interrupted values (1)`, { startImmediately: true })
      yield* Effect.sleep(20)
      // Answered although the session is held: the cancel request finds the statement that waits
      yield* Fiber.interrupt(waiting)
      yield* Deferred.succeed(go, undefined)
      yield* Fiber.join(holding)
      assert.deepStrictEqual(yield* sql`select count(*)::int as n from interrupted`, [{ n: 0 }])
    })
  )

  it.effect("notifications reach who listens", () =>
    Effect.gen(function* () {
      const pg = yield* PgClient.PgClient
      const inbox = yield* pg.listen("wake")
      yield* pg.notify("wake", "mail")
      assert.strictEqual((yield* Queue.take(inbox)).payload, "mail")
    })
  )

  it.effect("new connections are made while a transaction holds the session", () =>
    Effect.gen(function* () {
      const pg = yield* PgClient.PgClient
      const inTransaction = Effect.gen(function* () {
        const fresh = yield* another(pg, 1)
        return yield* Effect.forkDetach(fresh`select 1 as one`, { startImmediately: true })
      })
      const query = yield* pg.withTransaction(inTransaction)
      yield* Fiber.join(query)
    })
  )
})

describe("Pglite and time", () => {
  it.effect("a transaction that holds the session for 10 seconds is logged, a shorter one is not", () =>
    Effect.gen(function* () {
      const logged: Array<unknown> = []
      const logger = Logger.make(({ message }) => logged.push(message))
      const held = (time: number) =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const inside = yield* Deferred.make<void>()
          const fiber = yield* Deferred.succeed(inside, undefined).pipe(
            Effect.andThen(Effect.sleep(time)),
            sql.withTransaction,
            Effect.forkChild({ startImmediately: true })
          )
          yield* Deferred.await(inside)
          yield* TestClock.adjust(time)
          yield* Fiber.join(fiber)
        })
      yield* Effect.gen(function* () {
        yield* held(9_900)
        assert.lengthOf(logged, 0)
        yield* held(10_100)
        assert.lengthOf(logged, 1)
        assert.include(String(logged[0]), "has held the embedded database")
      }).pipe(Effect.provide(Pglite.layer().pipe(Layer.provideMerge(Logger.layer([logger])))))
    })
  )
})

describe("Pglite in a folder", () => {
  const write = (n: number) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`create table if not exists kept (n int)`
      yield* sql`insert into kept values (${n})`
      return (yield* sql<{ n: number }>`select n from kept order by n`).map((row) => row.n)
    })

  it.live(
    "refuses a second owner of the folder, says who has it, and survives a restart",
    () =>
      Effect.gen(function* () {
        const dataDir = join(yield* temporaryFolder, "not", "there", "yet")
        const twice = Effect.gen(function* () {
          const error = yield* Effect.flip(Effect.scoped(Layer.build(Pglite.layer({ dataDir }))))
          assert.strictEqual(error.reason, "Unavailable")
          assert.include(error.message, `process ${process.pid}`)
          assert.include(error.message, dataDir)
          return yield* write(1)
        })
        assert.deepStrictEqual(yield* Effect.provide(twice, Pglite.layer({ dataDir })), [1])
        assert.deepStrictEqual(yield* Effect.provide(write(2), Pglite.layer({ dataDir })), [1, 2])
      }),
    120_000
  )

  it.live(
    "survives kill -9 of its process, and takes over the lock that was left",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* temporaryFolder
        yield* Effect.promise(() => writeAndDie(dataDir))
        assert.isTrue(existsSync(join(dataDir, "polyqueue-1.lock")))
        assert.deepStrictEqual(yield* Effect.provide(write(2), Pglite.layer({ dataDir })), [1, 2])
      }),
    120_000
  )
})

/** Another process writes a row, and is killed before it can close anything. */
const writeAndDie = (dataDir: string): Promise<void> => {
  const source = `
    import { Effect } from "effect"
    import { SqlClient } from "effect/sql"
    import * as Pglite from ${JSON.stringify(new URL("../../src/store/Pglite.ts", import.meta.url).href)}
    await Effect.runPromise(Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql\`create table kept (n int)\`
      yield* sql\`insert into kept values (1)\`
      process.kill(process.pid, "SIGKILL")
    }).pipe(Effect.provide(Pglite.layer({ dataDir: ${JSON.stringify(dataDir)} }))))`
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--input-type=module-typescript", "--eval", source], {
      cwd: new URL("../..", import.meta.url),
      stdio: ["ignore", "ignore", "pipe"]
    })
    let output = ""
    child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()))
    child.on("exit", (_, signal) => (signal === "SIGKILL" ? resolve() : reject(new Error(output))))
  })
}
