/** The PGMQ broker and its tables: guards, archives, persistence, plans, isolation, batches. */
import { assert, layer } from "@effect/vitest"
import { Effect, Logger, Tracer } from "effect"
import { SqlClient } from "effect/sql"
import * as PgmqBroker from "../../src/broker/PgmqBroker.ts"
import * as HintMessage from "../../src/broker/HintMessage.ts"
import * as Statements from "../../src/broker/pgmq/Statements.ts"
import { installPgmq } from "../support/Pgmq.ts"
import { base, countOf, hint, LEASE, open, reasonAndMessage, Server } from "../support/PgmqBroker.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"

describePostgres("on a server", () => {
  layer(Server, { excludeTestServices: true, timeout: "60 seconds" })("PgmqBroker and its tables", (it) => {
    for (const ended of ["succeeded", "failed", undefined] as const) {
      for (const options of [{}, { archiveOnSuccess: true }, { archiveOnTerminalFail: true }]) {
        const kept =
          (ended === "succeeded" && "archiveOnSuccess" in options) ||
          (ended === "failed" && "archiveOnTerminalFail" in options)
        it.effect(
          `ack of a job that ${ended ?? "goes on"} ${kept ? "archives" : "deletes"} with ${JSON.stringify(options)}`,
          () =>
            Effect.gen(function* () {
              const { broker, consumer, queue, sql, table } = yield* open(options)
              yield* broker.publish([hint()])
              const [delivery] = yield* consumer.receive({ max: 1, wait: 0 })
              assert.deepStrictEqual(yield* consumer.ack([{ ...delivery!, ended }]), [{ _tag: "Ok" }])
              assert.strictEqual(yield* countOf(sql, table), 0)
              assert.strictEqual(yield* countOf(sql, `pgmq."a_${queue}"`), kept ? 1 : 0)
            })
        )
      }
    }

    it.effect("a stale receipt archives nothing", () =>
      Effect.gen(function* () {
        const { broker, consumer, queue, sql } = yield* open({ archiveOnSuccess: true })
        yield* broker.publish([hint()])
        const [lost] = yield* consumer.receive({ max: 1, wait: 0 })
        yield* consumer.release([lost!], 0)
        const [taken] = yield* consumer.receive({ max: 1, wait: 0 })
        const both = [lost!, taken!].map((delivery) => ({ ...delivery, ended: "succeeded" }) as const)
        assert.deepStrictEqual(yield* consumer.ack(both.slice(0, 1)), [{ _tag: "LeaseLost" }])
        assert.deepStrictEqual(yield* consumer.ack(both), [{ _tag: "LeaseLost" }, { _tag: "Ok" }])
        assert.strictEqual(yield* countOf(sql, `pgmq."a_${queue}"`), 1)
      })
    )

    it.effect("a receipt owns nothing in a queue that was made again", () =>
      Effect.gen(function* () {
        const { broker, consumer, queue, sql } = yield* open()
        yield* broker.publish([hint()])
        const [old] = yield* consumer.receive({ max: 1, wait: 0 })
        yield* sql`select pgmq.drop_queue(${queue})`
        assert.deepStrictEqual(yield* broker.publish([hint()]), [{ _tag: "Ok" }], "the queue is made again")
        const [young] = yield* consumer.receive({ max: 1, wait: 0 })
        assert.deepStrictEqual(
          old!.receipt.split(".").slice(0, 2),
          young!.receipt.split(".").slice(0, 2),
          "the same id"
        )
        assert.deepStrictEqual(yield* consumer.ack([old!]), [{ _tag: "LeaseLost" }])
        assert.deepStrictEqual(yield* consumer.ack([young!]), [{ _tag: "Ok" }])
      })
    )

    it.effect("receipts of two queues are never the same", () =>
      Effect.gen(function* () {
        const { broker, sql } = yield* open()
        const consumer = yield* broker.consumer({ queues: ["a", "b"], lease: LEASE })
        // Of one transaction, and the first of their queues: same id, same read count, same birth
        yield* sql.withTransaction(broker.publish([hint("a"), hint("b")]))
        const got = yield* consumer.receive({ max: 2, wait: 0 })
        assert.strictEqual(new Set(got.map(({ receipt }) => receipt)).size, 2)
        const [a, b] = [got[0]!, got[1]!]
        assert.deepStrictEqual(yield* consumer.ack([{ ...a, receipt: b.receipt }]), [{ _tag: "LeaseLost" }])
        assert.deepStrictEqual(yield* consumer.ack([a, b]), [{ _tag: "Ok" }, { _tag: "Ok" }])
      })
    )

    it.effect("messages of others are removed with a warning, and end no loop", () =>
      Effect.gen(function* () {
        const { broker, consumer, queue, sql, table } = yield* open()
        const published = hint()
        const foreign = ['{"job_id":"1"}', '"text"', "[]", "null", HintMessage.encode({ ...published, queue: "other" })]
        for (const message of foreign) yield* sql`select pgmq.send(${queue}, ${message}::text::jsonb)`
        yield* broker.publish([published])
        const logged: Array<string> = []
        const collect = Logger.make(({ message }) => void logged.push(String(message)))
        const got = yield* Effect.provide(consumer.receive({ max: 10, wait: 0 }), Logger.layer([collect]))
        assert.deepStrictEqual(
          got.map((delivery) => delivery.hint),
          [published]
        )
        assert.isTrue(logged.some((line) => line.startsWith(`removed 5 messages from the pgmq queue ${queue}`)))
        assert.strictEqual(yield* countOf(sql, table), 1)
      })
    )

    it.effect("a batch is one statement per queue, whatever its size", () =>
      Effect.gen(function* () {
        const { broker, consumer } = yield* open({ listen: false })
        const spans: Array<string> = []
        const tracer = Tracer.make({
          span(options) {
            spans.push(options.name)
            return new Tracer.NativeSpan(options)
          }
        })
        const statements = Effect.fnUntraced(function* (effect: Effect.Effect<unknown, unknown>) {
          spans.length = 0
          yield* Effect.orDie(Effect.withTracer(effect, tracer))
          return spans.length
        })
        assert.strictEqual(yield* statements(broker.publish(Array.from({ length: 500 }, () => hint()))), 1)
        const held = yield* consumer.receive({ max: 500, wait: 0 })
        assert.lengthOf(held, 500)
        assert.strictEqual(yield* statements(consumer.extend(held, LEASE)), 1)
        assert.strictEqual(yield* statements(consumer.release(held.slice(0, 250), 0)), 1)
        assert.strictEqual(yield* statements(consumer.ack(held)), 1)
        assert.strictEqual(yield* statements(consumer.receive({ max: 500, wait: 0 })), 0, "looking is no span")
      })
    )

    it.effect("reading follows the index, past any number of invisible messages", () =>
      Effect.gen(function* () {
        const { queue, sql, table } = yield* open()
        yield* sql.unsafe(
          `insert into ${table} (vt, message) select now() + interval '1 day', '{}' from generate_series(1, 20000)`
        )
        const text = Statements.read([table], true).replaceAll("$1", "50").replaceAll("$2", "1000")
        const plan = yield* sql.unsafe<Record<string, string>>(`explain ${text}`)
        const lines = plan.map((row) => row["QUERY PLAN"] ?? "")
        assert.isTrue(lines.some((line) => line.includes(`Index Scan using q_${queue}_vt_idx`)))
        assert.isTrue(
          lines.some((line) => line.includes("Index Cond: (vt <= statement_timestamp())")),
          "stops where the invisible ones begin"
        )
        assert.isTrue(lines.some((line) => line.includes("Tid Scan")))
        assert.isFalse(lines.some((line) => line.includes("Seq Scan")))
      })
    )

    it.effect("an unlogged queue is one, and asking for it where it is logged is refused", () =>
      Effect.gen(function* () {
        const { queue, sql } = yield* open({ unlogged: true })
        const kinds = yield* sql<{ kind: string }>`select relpersistence::text as kind from pg_class
          where relname = any(${[`q_${queue}`, `q_${queue}_msg_id_seq`]}) order by relkind`
        assert.deepStrictEqual(
          kinds.map(({ kind }) => kind),
          ["p", "u"],
          "the sequence survives a crash, the table need not"
        )
        const logged = yield* open()
        const refused = yield* reasonAndMessage(open({ queue: logged.queue, unlogged: true }))
        assert.strictEqual(refused.reason, "Misconfigured")
        assert.include(refused.message, `alter table ${logged.table} set unlogged`)
      })
    )

    it.effect("works for roles whose transactions are serializable by default", () =>
      Effect.gen(function* () {
        const url = yield* freshDatabase
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          yield* installPgmq
          yield* sql.unsafe(
            `alter database ${new URL(url).pathname.slice(1)} set default_transaction_isolation = 'serializable'`
          )
        }).pipe(Effect.provide(layerUrl(url, { maxConnections: 1 })))
        yield* Effect.gen(function* () {
          const { broker, consumer } = yield* open()
          yield* broker.publish(Array.from({ length: 600 }, () => hint()))
          let got = 0
          const drain = Effect.gen(function* () {
            while (got < 600) {
              const batch = yield* consumer.receive({ max: 3, wait: 0 })
              got += batch.length
              yield* consumer.ack(batch)
            }
          })
          yield* Effect.all([drain, drain, drain], { concurrency: 3, discard: true })
          assert.strictEqual(got, 600)
        }).pipe(Effect.provide(layerUrl(url)))
      })
    )

    it.effect("a delivery is hidden at least as long as `visibility` says", () =>
      Effect.gen(function* () {
        const queue = base()
        const broker = yield* PgmqBroker.make({ queue, visibility: "660 seconds" })
        const consumer = yield* broker.consumer({ queues: ["default"], lease: 1_000 })
        const sql = yield* SqlClient.SqlClient
        const hidden = Effect.map(
          sql.unsafe<{ s: number }>(
            `select extract(epoch from vt - clock_timestamp())::int as s from ${Statements.tableOf(queue)}`
          ),
          ([row]) => row!.s
        )
        yield* broker.publish([hint()])
        const got = yield* consumer.receive({ max: 1, wait: 0 })
        assert.isAbove(yield* hidden, 300)
        yield* consumer.release(got, 5_000)
        assert.isBelow(yield* hidden, 6)
        yield* consumer.extend(got, 1_000)
        assert.isAbove(yield* hidden, 300)
      })
    )
  })
})
