/**
 * Defects of the original that its brokers had in common, by their row in `table.ts`: shown absent on Redis, SQS, Service
 * Bus and PGMQ, each on a server of its own with the vendor's client.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import type { BrokerDriver } from "../../src/broker/BrokerDriver.ts"
import {
  Admin,
  Broker,
  BrokerError,
  CurrentJob,
  Job,
  JobStore,
  Polyqueue,
  StoreError,
  Worker,
  WorkerRegistry
} from "../../src/index.ts"
import { describePostgres } from "../support/Postgres.ts"
import { describeOwnRedis } from "../support/Redis.ts"
import { endings, layer, type Name, quick, receive, Stage, until, watched } from "./Stage.ts"

class Plain extends Job.make("Plain", { success: Schema.Int }) {}
class Overdue extends Job.make("Overdue", {
  success: Schema.Int,
  timeout: { after: "300 millis", then: "retry" },
  retry: { schedule: Schedule.spaced("100 millis").pipe(Schedule.upTo({ times: 3 })) }
}) {}
class Flaky extends Job.make("Flaky", {
  success: Schema.Int,
  error: Schema.String,
  retry: { schedule: Schedule.spaced("200 millis").pipe(Schedule.upTo({ times: 3 })) }
}) {}
class Elsewhere extends Job.make("Elsewhere", { queue: "elsewhere" }) {}

const attempt = Effect.map(CurrentJob, (job) => job.attempt)
const Handlers = Layer.mergeAll(
  Plain.toLayer(() => attempt),
  Overdue.toLayer(() => attempt),
  Elsewhere.toLayer(() => Effect.void)
)

const startWorker = Layer.build(Worker.layer([Plain, Overdue], quick).pipe(Layer.provide(Handlers)))

/** How long a delivery of a worker that died is hidden, in ms. */
const HOLD = 2_000

/** How often each job was delivered. */
const counter = () => {
  const counts = new Map<string, number>()
  return {
    of: (id: string) => counts.get(id) ?? 0,
    watch: (driver: BrokerDriver) =>
      watched(driver, ({ hint }) => void counts.set(hint.jobId, (counts.get(hint.jobId) ?? 0) + 1))
  }
}

const suite = (name: Name) =>
  describe(name, () => {
    it.live(
      "row 1: a worker that dies takes no job with it: leases, timeouts and dead workers are seen to",
      () => {
        const delivered = counter()
        return Effect.gen(function* () {
          const [store, broker, registry] = [yield* JobStore, yield* Broker, yield* WorkerRegistry]
          const [plain, overdue] = [yield* Plain.enqueue(), yield* Overdue.enqueue()]
          // A worker that has both deliveries and both jobs, and is never heard of again
          const consumer = yield* broker.consumer({ queues: ["default"], lease: HOLD })
          yield* receive(consumer, 2)
          const claim = Effect.fnUntraced(function* (id: string, lease: number) {
            const name = yield* Polyqueue.use((queue) => queue.makeId)
            const types = ["Plain", "Overdue"]
            const got = yield* store.claimHinted({ claim: name, worker: "dead", lease, ids: [id], types, suspects: 0 })
            assert.lengthOf(got.claimed, 1)
          })
          // Both leases live on when the broker brings the messages again; one of them longer than anybody would wait
          yield* claim(plain.id, 3 * HOLD)
          yield* claim(overdue.id, 3_600_000)
          yield* registry.heartbeat(deadWorker)
          yield* Layer.build(
            Worker.layer([Plain, Overdue], { ...quick, staleAfter: "500 millis" }).pipe(Layer.provide(Handlers))
          )
          yield* until(
            Effect.sync(() => [plain, overdue].every(({ id }) => delivered.of(id) >= 2)),
            (yes) => yes
          )
          assert.deepStrictEqual([yield* plain.await, yield* overdue.await], [2, 2])
          assert.deepStrictEqual(yield* endings(plain.id), ["crashed by reaper", "succeeded by worker"])
          assert.deepStrictEqual(yield* endings(overdue.id), ["timedOut by reaper", "succeeded by worker"])
          yield* until(registry.list, (all) => all.some(({ id, status }) => id === "dead" && status === "dead"))
        }).pipe(Effect.scoped, Effect.provide(layer(name, { hold: HOLD, broker: delivered.watch })))
      },
      60_000
    )

    it.live(
      "row 2: a retry whose message cannot be sent runs all the same",
      () =>
        Effect.gen(function* () {
          const { messages, refuse } = yield* Stage
          const handler = Flaky.toLayer(() =>
            Effect.flatMap(attempt, (n) => (n === 1 ? Effect.andThen(refuse, Effect.fail("once")) : Effect.succeed(n)))
          )
          yield* Layer.build(Worker.layer([Flaky], quick).pipe(Layer.provide(handler)))
          const job = yield* Flaky.enqueue()
          assert.strictEqual(yield* job.await, 2)
          assert.deepStrictEqual(yield* endings(job.id), ["failed by worker", "succeeded by worker"])
          // The message of the first attempt is gone, and no other can have come
          yield* until(messages, (n) => n === 0)
          const hint = { jobId: job.id, queue: "default", priority: 5, attempt: 2, publication: 9 }
          const sent = yield* Effect.match(
            Broker.use((broker) => broker.publish([hint])),
            {
              onFailure: () => "refused",
              onSuccess: ([outcome]) => (outcome?._tag === "Ok" ? "taken" : "refused")
            }
          )
          assert.strictEqual(sent, "refused")
        }).pipe(Effect.scoped, Effect.provide(layer(name))),
      60_000
    )

    if (name !== "PGMQ") {
      it.live(
        "row 6: a producer that dies between its commit and its publication costs seconds: the relay publishes, the job runs",
        () => {
          let alive = false
          const dying = (driver: BrokerDriver): BrokerDriver => ({
            ...driver,
            publish: (hints) => (alive ? driver.publish(hints) : Effect.succeed(hints.map(() => ({ _tag: "Ok" }))))
          })
          return Effect.gen(function* () {
            const { messages } = yield* Stage
            const job = yield* Plain.enqueue()
            assert.strictEqual(yield* messages, 0)
            alive = true
            // Somebody who has no handler for it, and does the maintenance of all
            yield* Layer.build(Worker.layer([Elsewhere], quick).pipe(Layer.provide(Handlers)))
            yield* until(messages, (n) => n > 0)
            yield* startWorker
            assert.strictEqual(yield* job.await, 1)
          }).pipe(Effect.scoped, Effect.provide(layer(name, { broker: dying })))
        },
        60_000
      )
    }

    it.live(
      "row 8: an error in the heartbeats ends none of them: a long job keeps both leases and runs once",
      () => {
        const delivered = counter()
        let [extensions, renewals] = [0, 0]
        const extend = Effect.suspend(() =>
          ++extensions <= 3
            ? Effect.fail(new BrokerError({ reason: "Unavailable", operation: "extend", message: "a hiccup" }))
            : Effect.void
        )
        const changes = {
          hold: 5_000,
          broker: (driver: BrokerDriver) => watched(delivered.watch(driver), () => {}, extend),
          store: (store: JobStore["Service"]): JobStore["Service"] => ({
            ...store,
            // Jobs start by their hints alone
            claim: () => Effect.succeed([]),
            renew: (leases, lease) =>
              Effect.suspend(() =>
                ++renewals <= 2
                  ? Effect.fail(new StoreError({ reason: "Unavailable", operation: "renew", message: "a hiccup" }))
                  : store.renew(leases, lease)
              )
          })
        }
        let runs = 0
        // Longer than twice the longer of the two leases
        const handler = Plain.toLayer(() => Effect.as(Effect.delay(attempt, "11 seconds"), ++runs))
        const live = Worker.layer([Plain], { ...quick, lease: "5 seconds", brokerLease: "5 seconds" }).pipe(
          Layer.provide(handler)
        )
        return Effect.gen(function* () {
          yield* Layer.build(Layer.fresh(live))
          yield* Layer.build(Layer.fresh(live))
          const job = yield* Plain.enqueue()
          assert.strictEqual(yield* job.await, 1)
          assert.deepStrictEqual(yield* endings(job.id), ["succeeded by worker"])
          assert.deepStrictEqual([runs, delivered.of(job.id)], [1, 1])
          assert.isTrue(extensions > 4 && renewals > 4, `${extensions} extensions, ${renewals} renewals`)
        }).pipe(Effect.scoped, Effect.provide(layer(name, changes)))
      },
      60_000
    )

    it.live(
      "row 17: requeue puts the job's message into the broker again",
      () =>
        Effect.gen(function* () {
          const [admin, broker, { messages }] = [yield* Admin, yield* Broker, yield* Stage]
          const by = { who: "ada", reason: "a test" }
          const consumer = yield* broker.consumer({ queues: ["default"], lease: 30_000 })
          const job = yield* Plain.enqueue()
          yield* consumer.ack(yield* receive(consumer, 1))
          assert.strictEqual((yield* admin.fail({ ids: [job.id] }, by)).done, 1)
          assert.strictEqual(yield* messages, 0)
          assert.strictEqual((yield* admin.requeue({ ids: [job.id] }, by)).done, 1)
          const [again] = yield* receive(consumer, 1)
          assert.strictEqual(again!.hint.jobId, job.id)
          const { records } = yield* admin.audit({ target: job.id })
          assert.deepStrictEqual(
            records.map(({ action }) => action),
            ["requeue", "fail"]
          )
          const { finishedAt, status } = yield* admin.job(job.id)
          assert.deepStrictEqual([status, finishedAt], ["queued", undefined])
        }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(Admin.layer, layer(name)))),
      60_000
    )
  })

const deadWorker = {
  id: "dead",
  host: "nowhere",
  pid: 1,
  name: "dead",
  version: "0",
  queues: ["default"],
  jobTypes: ["Plain", "Overdue"],
  slots: 1,
  running: [],
  runningCount: 2,
  status: "running",
  memory: 0,
  eventLoopDelay: 0
} as const

describePostgres("a broker of the original", () => {
  // Side by side: each has servers of its own, and mostly waits
  describe("in its place", { concurrent: true }, () => {
    describeOwnRedis("with a server of its own", () => suite("Redis"))
    suite("SQS")
    suite("Service Bus")
    suite("PGMQ")
  })

  it.live("row 6: on PGMQ the message commits and rolls back with its job", () =>
    Effect.gen(function* () {
      const { messages } = yield* Stage
      const sql = yield* SqlClient.SqlClient
      const ids: Array<string> = []
      const insert = Effect.map(Plain.enqueue(), ({ id }) => void ids.push(id))
      yield* Effect.ignore(sql.withTransaction(Effect.andThen(insert, Effect.fail("no"))))
      const stored = Effect.map(
        Effect.flatMap(JobStore, (store) => store.get(ids)),
        (rows) => rows.length
      )
      assert.deepStrictEqual([yield* stored, yield* messages], [0, 0])
      yield* sql.withTransaction(insert)
      assert.deepStrictEqual([yield* stored, yield* messages], [1, 1])
    }).pipe(Effect.scoped, Effect.provide(layer("PGMQ")))
  )
})
