/** What only PGMQ promises: hints commit with their jobs, nothing is held while waiting, and a clear refusal. */
import { assert, layer } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Fiber, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { Broker } from "../../src/Broker.ts"
import * as PgmqBroker from "../../src/broker/PgmqBroker.ts"
import { installPgmq, layerPglitePgmq } from "../support/Pgmq.ts"
import {
  base,
  countOf,
  hint,
  LEASE,
  onlyRings,
  open,
  reasonAndMessage,
  reasonOf,
  Server,
  until
} from "../support/PgmqBroker.ts"
import { describePostgres, freshDatabase, layerFresh, layerUrl } from "../support/Postgres.ts"

const joinsTransactions = Effect.gen(function* () {
  const { broker, consumer, sql, table } = yield* open()
  const [kept, dropped] = [hint(), hint()]
  yield* sql.withTransaction(
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* broker.publish([kept]), [{ _tag: "Ok" }])
      assert.strictEqual(yield* countOf(sql, table), 1, "the transaction sees its own hint")
    })
  )
  const rolledBack = Effect.andThen(broker.publish([dropped]), Effect.fail("roll back"))
  assert.strictEqual(yield* Effect.flip(sql.withTransaction(rolledBack)), "roll back")
  const got = yield* consumer.receive({ max: 10, wait: 0 })
  assert.deepStrictEqual(
    got.map((delivery) => delivery.hint),
    [kept]
  )
})

const makesQueuesInTransactions = Effect.gen(function* () {
  const { broker, sql } = yield* open()
  const publish = broker.publish([hint("fresh")])
  yield* Effect.flip(sql.withTransaction(Effect.andThen(publish, Effect.fail("roll back"))))
  assert.deepStrictEqual(yield* sql.withTransaction(publish), [{ _tag: "Ok" }])
  assert.strictEqual(yield* broker.depth("fresh"), 1)
})

describePostgres("on a server", () => {
  layer(Server, { excludeTestServices: true, timeout: "60 seconds" })("PgmqBroker", (it) => {
    it.effect("a hint commits or rolls back with the caller's transaction", () => joinsTransactions)

    it.effect("a queue can be made by a transaction that rolls back", () => makesQueuesInTransactions)

    it.effect("nobody else sees a hint, and no bell rings, before the commit", () =>
      Effect.gen(function* () {
        const { broker, consumer, queue, sql } = yield* open(onlyRings)
        const other = yield* open({ queue, pollFor: 0 })
        yield* consumer.receive({ max: 1, wait: 0 })
        const waiting = yield* Effect.forkChild(consumer.receive({ max: 1, wait: LEASE }), { startImmediately: true })
        const published = hint()
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* broker.publish([published])
            assert.deepStrictEqual(yield* other.consumer.receive({ max: 1, wait: 0 }), [])
            const [row] = yield* sql<{ n: number }>`select count(*)::int as n from pg_locks
              where pid = pg_backend_pid() and locktype = 'object' and mode = 'AccessExclusiveLock'`
            assert.strictEqual(row?.n, 0, "no NOTIFY lock in the user's transaction")
          })
        )
        const [delivery] = yield* Fiber.join(waiting)
        assert.deepStrictEqual(delivery?.hint, published)
      })
    )

    it.effect("the bell wakes the consumers of another process", () =>
      Effect.gen(function* () {
        const { consumer, queue, sql } = yield* open(onlyRings)
        const listening = sql<{ n: number }>`select count(*)::int as n from pg_stat_activity
          where query = ${`LISTEN "polyqueue_pgmq_${queue}"`}`
        yield* until(listening, ([row]) => row!.n > 0)
        const other = yield* PgmqBroker.make({ queue })
        const waiting = yield* Effect.forkChild(consumer.receive({ max: 1, wait: LEASE }), { startImmediately: true })
        const published = hint()
        yield* other.publish([published])
        assert.deepStrictEqual((yield* Fiber.join(waiting))[0]?.hint, published)
      })
    )

    it.effect("a publish that fails leaves the caller's transaction usable, and fails for its items alone", () =>
      Effect.gen(function* () {
        const { broker, consumer, queue, sql } = yield* open()
        const strict = yield* PgmqBroker.make({ queue, createIfMissing: false })
        const published = hint()
        yield* sql.withTransaction(
          Effect.gen(function* () {
            const outcomes = yield* strict.publish([hint("missing"), published, hint("missing")])
            assert.deepStrictEqual(outcomes.map(reasonOf), ["QueueNotFound", "Ok", "QueueNotFound"])
            // A refusal by the server itself: an id that jsonb cannot hold
            const [refused] = yield* broker.publish([{ ...hint(), jobId: "\u0000" }])
            assert.strictEqual(reasonOf(refused), "MessageRejected")
            yield* sql`select 1`
          })
        )
        const got = yield* consumer.receive({ max: 10, wait: 0 })
        assert.deepStrictEqual(
          got.map((delivery) => delivery.hint),
          [published]
        )
      })
    )

    it.effect("holds no connection and no transaction while it waits (defect 34)", () =>
      Effect.gen(function* () {
        const { consumer, sql } = yield* open({ ...onlyRings, pollInterval: "10 seconds" })
        const waiting = yield* Effect.forkChild(consumer.receive({ max: 1, wait: LEASE }), { startImmediately: true })
        const ours = sql<{ state: string; open: boolean }>`
          select state, xact_start is not null or backend_xmin is not null as open from pg_stat_activity
          where datname = current_database() and application_name like 'polyqueue%'`
        const idle = yield* until(ours, (rows) => rows.length > 0 && rows.every((row) => row.state === "idle"))
        assert.isFalse(idle.some((row) => row.open))
        assert.isUndefined(waiting.pollUnsafe(), "it still waits")
        yield* Fiber.interrupt(waiting)
      })
    )

    it.effect("an interrupted receive gives back what it took, at once", () =>
      Effect.gen(function* () {
        const { broker, consumer } = yield* open({ pollInterval: 1 })
        const ids = new Set<string>()
        for (let round = 0; round < 20; round++) {
          const published = hint()
          const waiting = yield* Effect.forkChild(consumer.receive({ max: 1, wait: LEASE }), { startImmediately: true })
          yield* Effect.all([broker.publish([published]), Fiber.interrupt(waiting)], { concurrency: 2 })
          const exit = waiting.pollUnsafe()
          if (exit?._tag === "Success") yield* consumer.ack(exit.value)
          else ids.add(published.jobId)
        }
        // The lease is an hour: what was not given back would not come
        const got = yield* consumer.receive({ max: 100, wait: 0 })
        assert.deepStrictEqual(got.map((delivery) => delivery.hint.jobId).sort(), [...ids].sort())
      })
    )

    it.effect("two installations on one database share nothing (defect 13)", () =>
      Effect.gen(function* () {
        const [a, b] = [yield* open(), yield* open()]
        yield* a.broker.publish([hint()])
        assert.deepStrictEqual(yield* b.consumer.receive({ max: 1, wait: 0 }), [])
        yield* b.broker.purge("default")
        assert.strictEqual(yield* a.broker.depth("default"), 1)
      })
    )

    it.effect("is a layer, from options or from configuration", () =>
      Effect.gen(function* () {
        const queue = base()
        const config = ConfigProvider.layer(ConfigProvider.fromUnknown({ QUEUE: queue }))
        const fromConfig = PgmqBroker.layerConfig({ queue: Config.String("QUEUE") }).pipe(Layer.provide(config))
        const published = hint()
        yield* Broker.use((broker) => broker.publish([published])).pipe(Effect.provide(fromConfig))
        const depth = Broker.use((broker) => broker.depth("default")).pipe(Effect.provide(PgmqBroker.layer({ queue })))
        assert.strictEqual(yield* depth, 1)
      })
    )

    it.effect("a consumer of nothing receives nothing", () =>
      Effect.gen(function* () {
        const { broker } = yield* open()
        const consumer = yield* broker.consumer({ queues: [], lease: 1_000 })
        assert.deepStrictEqual(yield* consumer.receive({ max: 1, wait: 10 }), [])
      })
    )

    it.effect("its connections end with its scope", () =>
      Effect.gen(function* () {
        const url = yield* freshDatabase
        yield* Effect.provide(installPgmq, layerUrl(url, { maxConnections: 1 }))
        const sql = yield* SqlClient.SqlClient
        const ours = Effect.map(
          sql<{ n: number }>`select count(*)::int as n from pg_stat_activity
            where datname = ${new URL(url).pathname.slice(1)} and application_name like 'polyqueue%'`,
          ([row]) => row!.n
        )
        const used = Effect.gen(function* () {
          const { broker, consumer } = yield* open()
          yield* broker.publish([hint()])
          yield* consumer.receive({ max: 1, wait: 0 })
          assert.isAbove(yield* ours, 0)
        })
        yield* Effect.scoped(Effect.provide(used, layerUrl(url)))
        yield* until(ours, (n) => n === 0)
      })
    )
  })

  layer(Server, { timeout: "60 seconds" })("PgmqBroker on the TestClock", (it) => {
    it.effect("every call has a deadline, also one that cannot be interrupted", () =>
      Effect.gen(function* () {
        const { broker, consumer, sql, table } = yield* open({ listen: false })
        yield* broker.publish([hint()])
        const [held] = yield* consumer.receive({ max: 1, wait: 0 })
        const calls = [
          Effect.map(broker.publish([hint()]), ([outcome]) => reasonOf(outcome)),
          Effect.map(consumer.ack([held!]), ([outcome]) => reasonOf(outcome)),
          Effect.map(Effect.flip(consumer.receive({ max: 1, wait: 0 })), ({ reason }) => reason)
        ]
        const locking = yield* sql.reserve
        yield* locking.executeRaw("begin", [])
        yield* locking.executeRaw(`lock table ${table} in access exclusive mode`, [])
        const fibers = yield* Effect.forEach(calls, (call) => Effect.forkChild(call, { startImmediately: true }))
        const blocked = sql<{ n: number }>`select count(*)::int as n from pg_locks where not granted`
        yield* TestClock.withLive(until(blocked, ([row]) => row!.n === calls.length))
        yield* TestClock.adjust(10_000)
        const reasons = yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
        assert.deepStrictEqual(reasons, ["OutcomeUnknown", "OutcomeUnknown", "OutcomeUnknown"])
        yield* locking.executeRaw("rollback", [])
      })
    )
  })

  layer(layerFresh(), { excludeTestServices: true, timeout: "60 seconds" })("PgmqBroker where it cannot work", (it) => {
    it.effect("says how to install pgmq where it is missing", () =>
      Effect.gen(function* () {
        const { message, reason } = yield* reasonAndMessage(PgmqBroker.make())
        assert.strictEqual(reason, "Misconfigured")
        assert.include(message, "create extension pgmq")
      })
    )

    it.effect("refuses a queue name that could not be kept apart from others", () =>
      Effect.gen(function* () {
        const { message, reason } = yield* reasonAndMessage(PgmqBroker.make({ queue: "a__b" }))
        assert.strictEqual(reason, "Misconfigured")
        assert.include(message, "a__b")
      })
    )

    it.effect("reports in its health that pgmq went away", () =>
      Effect.gen(function* () {
        const url = yield* freshDatabase
        yield* Effect.gen(function* () {
          yield* installPgmq
          const { broker, sql } = yield* open()
          assert.deepStrictEqual(yield* broker.health, { ok: true, problems: [] })
          yield* sql`drop schema pgmq cascade`
          const { ok, problems } = yield* broker.health
          assert.isFalse(ok)
          assert.include(problems[0], "create extension pgmq")
          const [outcome] = yield* broker.publish([hint()])
          assert.strictEqual(reasonOf(outcome), "Misconfigured")
        }).pipe(Effect.provide(layerUrl(url)))
      })
    )

    it.effect("an unreachable server is Unavailable, and no error holds the password", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(
          Effect.provide(PgmqBroker.make(), layerUrl("postgres://somebody:hunter2@127.0.0.1:1/db"))
        )
        assert.strictEqual(error.reason, "Unavailable")
        assert.notInclude(`${JSON.stringify(error)} ${String(error)} ${error.stack}`, "hunter2")
      })
    )
  })
})

layer(layerPglitePgmq, { excludeTestServices: true, timeout: "60 seconds" })("PgmqBroker on PGlite", (it) => {
  it.effect("a hint commits or rolls back with the caller's transaction", () => joinsTransactions)

  it.effect("a queue can be made by a transaction that rolls back", () => makesQueuesInTransactions)
})
