import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, Layer, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import * as PostgresBroker from "../../src/broker/PostgresBroker.ts"
import * as BrokerContract from "../../src/testing/BrokerContract.ts"
import { describePostgres, layerFresh, layerUrl, ownServer } from "../support/Postgres.ts"

/** Long enough that only a ring can wake anybody. */
const options = { pollInterval: "1 hour" } as const
const FOR_EVER = 3_600_000
const hint = (queue: string) => ({ jobId: "a", queue, priority: 5, attempt: 1, publication: 1 })

/** Two processes of one installation, the second one with consumers of these queues, once it listens. */
const twoProcesses = Effect.fnUntraced(function* (...queues: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  const channel = `polyqueue_${randomUUID()}`
  const a = yield* PostgresBroker.make({ ...options, channel })
  const b = yield* PostgresBroker.make({ ...options, channel })
  const consumers = yield* Effect.forEach(queues, (queue) => b.consumer({ queues: [queue], lease: 1_000 }))
  const pids = yield* until(listening(sql, channel), (found) => found.length > 0)
  // The look that follows LISTEN is over
  for (const consumer of consumers) yield* consumer.receive({ max: 1, wait: 300 })
  return { sql, a, consumers, consumer: consumers[0]!, channel, pid: pids[0]! }
})

/** The sessions that listen on a channel. */
const listening = (sql: SqlClient.SqlClient, channel: string) =>
  Effect.map(sql<{ pid: number }>`select pid from pg_stat_activity where query = ${`LISTEN "${channel}"`}`, (rows) =>
    rows.map((row) => row.pid)
  )

const doorbells = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql<{ n: number }>`select count(*)::int as n from pg_stat_activity
      where datname = current_database() and application_name = 'polyqueue doorbell'`,
    (rows) => rows[0]!.n
  )

/** Asks until the answer is right; the test's timeout ends it. */
const until = <A, E>(effect: Effect.Effect<A, E>, right: (answer: A) => boolean): Effect.Effect<A, E> =>
  Effect.repeat(effect, { until: right, schedule: Schedule.spaced(20) })

describePostgres("on a server", () => {
  BrokerContract.suite(
    "PostgresBroker",
    Layer.effect(
      BrokerContract.BrokerUnderTest,
      Effect.map(PostgresBroker.make(options), (driver) => ({ driver }))
    ).pipe(Layer.provide(layerFresh()), Layer.orDie),
    { capabilities: PostgresBroker.capabilities }
  )

  layer(layerFresh(), { excludeTestServices: true, timeout: "60 seconds" })("PostgresBroker", (it) => {
    it.effect("rings the consumers of other processes", () =>
      Effect.gen(function* () {
        const { a, consumer } = yield* twoProcesses("mail")
        const waiting = yield* Effect.forkChild(consumer.receive({ max: 1, wait: FOR_EVER }), {
          startImmediately: true
        })
        yield* a.publish([hint("mail")])
        assert.deepStrictEqual(yield* Fiber.join(waiting), [])
      })
    )

    it.effect("what was rung as it closes is still sent: a process that enqueues once and ends", () =>
      Effect.gen(function* () {
        const { channel, consumer } = yield* twoProcesses("mail")
        const waiting = yield* Effect.forkChild(consumer.receive({ max: 1, wait: FOR_EVER }), {
          startImmediately: true
        })
        yield* Effect.scoped(
          Effect.flatMap(PostgresBroker.make({ ...options, channel }), (broker) => broker.publish([hint("mail")]))
        )
        assert.deepStrictEqual(yield* Fiber.join(waiting), [])
      })
    )

    it.effect("sends one notification for what piles up, and only the queues' names", () =>
      Effect.gen(function* () {
        const { a, consumers } = yield* twoProcesses("mail", "other")
        const [mail, other] = [consumers[0]!, consumers[1]!]
        const waiting = yield* Effect.forkChild(other.receive({ max: 1, wait: FOR_EVER }), { startImmediately: true })
        for (let n = 0; n < 100; n++) yield* a.publish([hint("mail")])
        yield* mail.receive({ max: 1, wait: FOR_EVER })
        assert.isUndefined(waiting.pollUnsafe(), "a queue that was not rung for is not woken")
        yield* Fiber.interrupt(waiting)
      })
    )

    it.effect("listens again after its session was ended, and looks once for what it missed", () =>
      Effect.gen(function* () {
        const { a, consumer, pid, sql } = yield* twoProcesses("mail")
        yield* sql`select pg_terminate_backend(${pid})`
        // The look after listening again wakes it without a ring
        yield* consumer.receive({ max: 1, wait: FOR_EVER })
        yield* a.publish([hint("mail")])
        yield* consumer.receive({ max: 1, wait: FOR_EVER })
      })
    )

    it.effect("publishing inside a transaction that rolls back leaves the transaction alone", () =>
      Effect.gen(function* () {
        const { a, consumer, sql } = yield* twoProcesses("mail")
        const held = Effect.gen(function* () {
          yield* a.publish([hint("mail")])
          yield* consumer.receive({ max: 1, wait: FOR_EVER })
          const [row] = yield* sql<{ locks: number }>`select count(*)::int as locks from pg_locks
            where pid = pg_backend_pid() and locktype = 'object'`
          assert.strictEqual(row?.locks, 0, "no NOTIFY lock in the user's transaction")
          return yield* Effect.fail("roll back")
        })
        assert.strictEqual(yield* Effect.flip(sql.withTransaction(held)), "roll back")
      })
    )

    it.effect("its sessions end with its scope", () =>
      Effect.gen(function* () {
        const { channel, sql } = yield* Effect.scoped(twoProcesses("mail"))
        yield* until(listening(sql, channel), (pids) => pids.length === 0)
      })
    )

    it.effect("without a server health says so, and nothing fails", () =>
      Effect.gen(function* () {
        const gone = yield* ownServer()
        const broker = yield* Effect.provide(PostgresBroker.make(options), yield* Layer.build(layerUrl(gone.url)))
        assert.deepStrictEqual(yield* broker.health, { ok: true, problems: [] })
        const consumer = yield* broker.consumer({ queues: ["mail"], lease: 1_000 })
        yield* Effect.promise(() => gone.stop("immediate"))
        yield* broker.publish([hint("mail")])
        assert.deepStrictEqual(yield* consumer.receive({ max: 1, wait: FOR_EVER }), [])
        const health = yield* until(broker.health, ({ problems }) =>
          problems.some((_) => _.startsWith("Cannot listen"))
        )
        assert.isFalse(health.ok)
        assert.isTrue(health.problems.some((problem) => problem.startsWith("Postgres does not answer")))
      })
    )
  })

  layer(layerFresh(), { excludeTestServices: true, timeout: "60 seconds" })("PostgresBroker without LISTEN", (it) => {
    it.effect("polls, and opens no session of its own", () =>
      Effect.gen(function* () {
        const broker = yield* PostgresBroker.make({ pollInterval: "100 millis", listen: false })
        const consumer = yield* broker.consumer({ queues: ["mail"], lease: 1_000 })
        yield* broker.publish([hint("mail")])
        yield* consumer.receive({ max: 1, wait: FOR_EVER })
        yield* consumer.receive({ max: 1, wait: FOR_EVER })
        assert.strictEqual(yield* doorbells(yield* SqlClient.SqlClient), 0)
      })
    )

    it.effect("a process that only enqueues holds no listening session", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const broker = yield* PostgresBroker.make(options)
        yield* broker.publish([hint("mail")])
        yield* until(doorbells(sql), (n) => n === 1)
        const [row] = yield* sql<{ n: number }>`select count(*)::int as n from pg_stat_activity
          where datname = current_database() and query ilike 'listen %'`
        assert.strictEqual(row?.n, 0)
      })
    )
  })

  layer(layerFresh(), { timeout: "60 seconds" })("PostgresBroker on the TestClock", (it) => {
    it.effect("polls every second, give or take a fifth", () =>
      Effect.gen(function* () {
        const broker = yield* PostgresBroker.make({ listen: false })
        const consumer = yield* broker.consumer({ queues: ["mail"], lease: 1_000 })
        for (let round = 0; round < 20; round++) {
          const waiting = yield* Effect.forkChild(consumer.receive({ max: 1, wait: 60_000 }), {
            startImmediately: true
          })
          yield* TestClock.adjust(799)
          assert.isUndefined(waiting.pollUnsafe())
          yield* TestClock.adjust(401)
          yield* Fiber.join(waiting)
        }
      })
    )
  })
})
