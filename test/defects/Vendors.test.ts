/** Defects of the original on SQS, Service Bus or PGMQ alone, by their row in `table.ts`. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import * as ServiceBusBroker from "../../src/broker/ServiceBusBroker.ts"
import * as SqsBroker from "../../src/broker/SqsBroker.ts"
import { CurrentJob, Job, JobStore, RetryAfter, Worker } from "../../src/index.ts"
import { describePostgres, freshDatabase } from "../support/Postgres.ts"
import { localServer, logged } from "../support/ServiceBus.ts"
import { standIn } from "../support/Sqs.ts"
import { client, endings, layer, quick, Stage, until } from "./Stage.ts"

class Later extends Job.make("Later", { payload: { n: Schema.Int } }) {}
class Meeting extends Job.make("Meeting", {}) {}
class Long extends Job.make("Long", {}) {}

const row = (id: string) =>
  Effect.map(
    JobStore.use((store) => store.get([id])),
    ([record]) => record!
  )

// Side by side: each has servers of its own, and mostly waits
const suite = () => {
  it.live("row 26: on SQS a delay and a retry of any length are what was asked for, per job", () =>
    Effect.gen(function* () {
      const { messages } = yield* Stage
      const handler = Later.toLayer(({ n }) =>
        n === 2 ? Effect.fail(new RetryAfter({ delay: "20 minutes" })) : Effect.die("not yet")
      )
      const delayed = yield* Later.enqueue(
        { n: 1 },
        { delay: "2 hours", priority: 2, tags: ["slow"], maxAttempts: 7, idempotencyKey: "one" }
      )
      // Nothing is in SQS, where 15 minutes would be the end of it
      assert.strictEqual(yield* messages, 0)
      yield* Layer.build(Worker.layer([Later], quick).pipe(Layer.provide(handler)))
      const again = yield* Later.enqueue({ n: 2 }, { maxAttempts: 3 })
      const waiting = yield* until(row(again.id), ({ attempt, status }) => attempt === 1 && status === "queued")
      const [first] = yield* JobStore.use((store) => store.attempts(again.id))
      assert.isAtLeast(waiting.runAt - first!.endedAt, 20 * 60_000 - 1)
      yield* until(messages, (n) => n === 0)
      const record = yield* row(delayed.id)
      assert.closeTo(record.runAt - record.enqueuedAt, 2 * 3_600_000, 1_000)
      assert.deepStrictEqual(
        [record.status, record.priority, record.maxAttempts, waiting.maxAttempts, record.tags, record.key],
        ["queued", 2, 7, 3, ["slow"], "one"]
      )
    }).pipe(Effect.scoped, Effect.provide(layer("SQS")))
  )

  it.live("row 32: a worker with 500 running jobs talks to SQS ten jobs at a time", () =>
    Effect.gen(function* () {
      const { config, createQueue, server } = yield* standIn()
      const [queueUrl, url] = [yield* Effect.promise(() => createQueue()), yield* freshDatabase]
      const entries = (action: string) => server.requestsOf(action).map((request) => request.entries)
      const all = yield* Deferred.make<void>()
      let here = 0
      const handler = Meeting.toLayer(() =>
        Effect.andThen(
          Effect.sync(() => ++here),
          Deferred.await(all)
        )
      )
      // Jobs start by their hints alone
      const store = (real: JobStore["Service"]) => ({ ...real, claim: () => Effect.succeed([]) })
      yield* Effect.gen(function* () {
        yield* Layer.build(
          Worker.layer([Meeting], { ...quick, lease: "30 seconds", concurrency: 500 }).pipe(Layer.provide(handler))
        )
        const jobs = yield* Meeting.enqueueAll(Array.from({ length: 500 }, () => undefined))
        yield* until(
          Effect.sync(() => here),
          (n) => n === 500
        )
        const extended = () => entries("ChangeMessageVisibilityBatch").reduce((sum, n) => sum + n, 0)
        yield* until(Effect.sync(extended), (n) => n >= 1_000)
        yield* Deferred.succeed(all, undefined)
        yield* Effect.forEach(jobs, (job) => job.await, { discard: true })
        yield* until(
          Effect.sync(() => server.size(queueUrl)),
          (n) => n === 0
        )
      }).pipe(Effect.scoped, Effect.provide(client(url, SqsBroker.layer({ queueUrl, client: config }), { store })))
      for (const [action, perRequest] of [
        // The relay sends some again where the machine is slow
        ["SendMessageBatch", 8],
        ["ChangeMessageVisibilityBatch", 5],
        ["DeleteMessageBatch", 2]
      ] as const) {
        const sizes = entries(action)
        assert.isAtLeast(sizes.reduce((sum, n) => sum + n, 0) / sizes.length, perRequest, `${action}: ${sizes.join()}`)
      }
      const single = server.requests.filter(
        ({ action }) => /^(Send|Delete|ChangeMessage)/.test(action) && !action.endsWith("Batch")
      )
      assert.deepStrictEqual(single, [])
      const polls = server.requestsOf("ReceiveMessage")
      assert.isAtMost(polls.length, 150)
      assert.isTrue(polls.every(({ request }) => request["WaitTimeSeconds"] >= 1))
    }).pipe(Effect.scoped)
  )

  it.live("row 33: on Service Bus a lock is renewed past the time when a warning is due, and the job runs once", () =>
    Effect.gen(function* () {
      const server = yield* localServer
      const queue = server.createQueue("polyqueue", { lockDuration: 5_000 })
      const broker = ServiceBusBroker.layer({
        connectionString: Redacted.make(server.connectionString),
        lockRenewal: "1 second"
      })
      let runs = 0
      const handler = Long.toLayer(() =>
        Effect.andThen(
          Effect.sync(() => ++runs),
          Effect.sleep("11 seconds")
        )
      )
      const store = (real: JobStore["Service"]) => ({ ...real, claim: () => Effect.succeed([]) })
      const url = yield* freshDatabase
      const { lines } = yield* logged(
        Effect.gen(function* () {
          const live = Worker.layer([Long], quick).pipe(Layer.provide(handler))
          yield* Layer.build(Layer.fresh(live))
          yield* Layer.build(Layer.fresh(live))
          const job = yield* Long.enqueue()
          yield* job.await
          assert.deepStrictEqual(yield* endings(job.id), ["succeeded by worker"])
          yield* until(
            Effect.sync(() => queue.counts),
            ({ active, locked }) => active + locked === 0
          )
        }).pipe(Effect.scoped, Effect.provide(client(url, broker, { store })))
      )
      assert.strictEqual(runs, 1)
      // One that stopped at the warning would have renewed once
      assert.isAtLeast(queue.renewals, 3)
      assert.lengthOf(
        lines.filter((line) => line.startsWith("Warn") && line.includes("is held for")),
        1
      )
    }).pipe(Effect.scoped)
  )

  it.live("row 34: idle workers on PGMQ hold no transaction open", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const live = Worker.layer([Long], { ...quick, sweepEvery: "5 seconds" }).pipe(
        Layer.provide(Long.toLayer(() => Effect.asVoid(CurrentJob)))
      )
      for (let n = 0; n < 3; n++) yield* Layer.build(Layer.fresh(live))
      yield* (yield* Long.enqueue()).await
      const open = Effect.map(
        sql<{ n: number }>`select count(*)::int as n from pg_stat_activity where datname = current_database()
          and pid <> pg_backend_pid() and (xact_start is not null or backend_xmin is not null)`,
        ([found]) => found!.n
      )
      const samples = yield* Effect.forEach(Array.from({ length: 20 }), () => Effect.delay(open, "100 millis"))
      // A statement may be under way now and then; a poll that holds a transaction would be in all of them
      const busy = samples.filter((n) => n > 0)
      assert.isAtMost(busy.length, 10, samples.join())
    }).pipe(Effect.scoped, Effect.provide(layer("PGMQ")))
  )
}

describePostgres("one broker of the original", () => {
  describe("in its place", { concurrent: true }, suite)
})
