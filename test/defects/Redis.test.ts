/** Defects of the original's Redis broker, by their row in `table.ts`: shown absent on a Redis of the test's own. */
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Redacted, Schedule, Schema, type Scope } from "effect"
import type { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import type { BrokerDriver } from "../../src/broker/BrokerDriver.ts"
import * as RedisBroker from "../../src/broker/RedisBroker.ts"
import { Broker, CurrentJob, Job, JobStore, Polyqueue, type Ports, Worker } from "../../src/index.ts"
import { batch } from "../../src/maintenance/MaintenanceContext.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"
import { adminOf, describeOwnRedis, ownRedis } from "../support/Redis.ts"
import { type Changes, client, endings, quick, receive, until, watched } from "./Stage.ts"

class Plain extends Job.make("Plain", { success: Schema.Int }) {}
class Elsewhere extends Job.make("Elsewhere", { queue: "elsewhere" }) {}
class Wedged extends Job.make("Wedged", {
  timeout: { after: "300 millis", then: "retry" },
  retry: { schedule: Schedule.spaced("200 millis").pipe(Schedule.upTo({ times: 2 })) }
}) {}
class Meeting extends Job.make("Meeting", {}) {}
class Whose extends Job.make("Whose", { success: Schema.String }) {}

const Handlers = Layer.mergeAll(
  Plain.toLayer(() => Effect.map(CurrentJob, (job) => job.attempt)),
  Elsewhere.toLayer(() => Effect.void)
)

/** A server, and what to look behind the broker with. */
const redis = Effect.gen(function* () {
  const { url } = yield* ownRedis()
  return { url, admin: yield* adminOf(url) }
})

const brokerOn = (url: string, prefix = "polyqueue") => RedisBroker.layer({ url: Redacted.make(url), prefix })

/** Runs a test with a client on a database of its own and this Redis. */
const deployed = <A, E>(
  broker: ReturnType<typeof brokerOn>,
  test: (url: string) => Effect.Effect<A, E, Polyqueue | Ports | SqlClient.SqlClient | Scope.Scope>,
  changes: Changes = {}
) => Effect.flatMap(freshDatabase, (url) => Effect.provide(Effect.scoped(test(url)), client(url, broker, changes)))

const HOUR = 3_600_000

/** A worker that takes every hint it gets for an hour. */
const startWorker = Layer.build(Worker.layer([Plain], { ...quick, brokerLease: HOUR }).pipe(Layer.provide(Handlers)))

const suite = () => {
  it.live(
    "row 7: a job that was claimed and that Redis knows nothing of goes to the next owner, without a time limit",
    () =>
      Effect.gen(function* () {
        const { admin, url } = yield* redis
        yield* deployed(brokerOn(url), () =>
          Effect.gen(function* () {
            const job = yield* Plain.enqueue()
            const claim = yield* Polyqueue.use((queue) => queue.makeId)
            const taken = yield* JobStore.use((store) =>
              store.claimHinted({ claim, worker: claim, lease: 1_000, ids: [job.id], types: ["Plain"], suspects: 0 })
            )
            assert.lengthOf(taken.claimed, 1)
            yield* Effect.promise(() => admin.flushall())
            yield* startWorker
            assert.strictEqual(yield* job.await, 2)
            assert.deepStrictEqual(yield* endings(job.id), ["crashed by reaper", "succeeded by worker"])
          })
        )
      }).pipe(Effect.scoped)
  )

  it.live("row 7: a hint that was taken from Redis and never claimed keeps no job waiting", () =>
    Effect.gen(function* () {
      const { url } = yield* redis
      yield* deployed(brokerOn(url), () =>
        Effect.gen(function* () {
          const broker = yield* Broker
          const job = yield* Plain.enqueue()
          // Whoever took it died before it claimed the job, and Redis hides the hint for an hour
          const consumer = yield* broker.consumer({ queues: ["default"], lease: HOUR })
          yield* receive(consumer, 1)
          yield* startWorker
          assert.strictEqual(yield* job.await, 1)
          assert.deepStrictEqual(yield* endings(job.id), ["succeeded by worker"])
        })
      )
    }).pipe(Effect.scoped)
  )

  /** Two deployments on one server; answers the ids that each had delivered, and those that were its own. */
  const two = Effect.fnUntraced(function* (url: string, prefixes: readonly [string, string]) {
    const run = Effect.fnUntraced(function* (name: string, prefix: string) {
      const delivered = new Set<string>()
      const watch = (driver: BrokerDriver) => watched(driver, ({ hint }) => void delivered.add(hint.jobId))
      const handler = Whose.toLayer(() => Effect.delay(Effect.succeed(name), "20 millis"))
      return yield* deployed(
        brokerOn(url, prefix),
        () =>
          Effect.gen(function* () {
            yield* Layer.build(
              Layer.fresh(Worker.layer([Whose], { ...quick, concurrency: 3 })).pipe(Layer.provide(handler))
            )
            const own: Array<string> = []
            for (let n = 0; n < 30; n++) {
              const job = yield* Whose.enqueue()
              own.push(job.id)
              if (n % 3 === 0) assert.strictEqual(yield* job.await, name)
            }
            for (const id of yield* Effect.forEach(own, Job.id)) assert.strictEqual(yield* Whose.handle(id).await, name)
            return { delivered, own: new Set(own) }
          }),
        { broker: watch }
      )
    })
    return yield* Effect.all([run("a", prefixes[0]), run("b", prefixes[1])], { concurrency: 2 })
  })

  it.live("row 13: two deployments on one Redis, each with its prefix, never see each other's hints", () =>
    Effect.gen(function* () {
      const { admin, url } = yield* redis
      for (const { delivered, own } of yield* two(url, ["blue", "green"])) {
        assert.isAbove(delivered.size, 0)
        assert.deepStrictEqual(
          [...delivered].filter((id) => !own.has(id)),
          []
        )
      }
      const keys = yield* Effect.promise(() => admin.keys("*"))
      assert.deepStrictEqual(
        keys.filter((key) => !/^\{(blue|green)\}:/.test(key)),
        []
      )
    }).pipe(Effect.scoped)
  )

  it.live("row 13: two deployments that share a prefix by mistake take each other's hints and lose no job", () =>
    Effect.gen(function* () {
      const { url } = yield* redis
      const stolen = (yield* two(url, ["same", "same"])).flatMap(({ delivered, own }) =>
        [...delivered].filter((id) => !own.has(id))
      )
      assert.isAbove(stolen.length, 0, "some were stolen, or this test shows nothing")
    }).pipe(Effect.scoped)
  )

  it.live(
    "row 12: a timed-out attempt has ended before the next one begins, which comes by itself after its delay",
    () =>
      Effect.gen(function* () {
        const { url } = yield* redis
        let [running, peak] = [0, 0]
        const handler = Wedged.toLayer(() =>
          Effect.acquireUseRelease(
            Effect.sync(() => (peak = Math.max(peak, ++running))),
            () => Effect.never,
            // It takes its time to stop, more than the next attempt has to wait
            () =>
              Effect.delay(
                Effect.sync(() => running--),
                "1500 millis"
              )
          )
        )
        yield* deployed(brokerOn(url), () =>
          Effect.gen(function* () {
            yield* Layer.build(
              Worker.layer([Wedged], { ...quick, interruptGrace: "10 seconds" }).pipe(Layer.provide(handler))
            )
            const job = yield* Wedged.enqueue()
            const error = yield* Effect.flip(job.await)
            assert.strictEqual(error._tag === "JobStopped" && error.reason, "timedOut")
            const log = yield* Polyqueue.use((queue) => queue.attempts(job.id))
            assert.deepStrictEqual(
              yield* endings(job.id),
              Array.from({ length: 3 }, () => "timedOut by worker")
            )
            for (const [index, { claimedAt }] of log.slice(1).entries()) {
              assert.isAtLeast(claimedAt - log[index]!.endedAt, 200)
            }
            assert.strictEqual(peak, 1)
          })
        )
      }).pipe(Effect.scoped)
  )

  it.live("row 19: hundreds of stale hints in front hold up no job, and one worker runs many at once", () =>
    Effect.gen(function* () {
      const { url } = yield* redis
      yield* deployed(brokerOn(url), () =>
        Effect.gen(function* () {
          const stale = Array.from({ length: 500 }, () => ({
            jobId: randomUUID(),
            queue: "default",
            priority: 0,
            attempt: 0,
            publication: 1
          }))
          yield* Broker.use((broker) => broker.publish(stale))
          const jobs = yield* Meeting.enqueueAll(Array.from({ length: 20 }, () => undefined))
          const all = yield* Deferred.make<void>()
          let here = 0
          // Ends only when all of them run
          const handler = Meeting.toLayer(() =>
            Effect.andThen(
              Effect.suspend(() => (++here === jobs.length ? Deferred.succeed(all, undefined) : Effect.void)),
              Deferred.await(all)
            )
          )
          yield* Layer.build(Worker.layer([Meeting], { ...quick, concurrency: 20 }).pipe(Layer.provide(handler)))
          // With a pause of a second per stale hint it would take eight minutes: the test's time-out is the bound
          yield* Effect.forEach(jobs, (job) => job.await, { discard: true })
          yield* until(
            Broker.use((broker) => broker.depth("default")),
            (depth) => depth === 0
          )
        })
      )
    }).pipe(Effect.scoped)
  )

  it.live(
    "row 21: a backlog that Redis knows nothing of is published once, in bounded batches, in few round trips",
    () =>
      Effect.gen(function* () {
        const { admin, url } = yield* redis
        const published: Array<ReadonlyArray<string>> = []
        const counting = (driver: BrokerDriver): BrokerDriver => ({
          ...driver,
          publish: (hints) => {
            published.push(hints.map(({ jobId }) => jobId))
            return driver.publish(hints)
          }
        })
        const calls = Effect.map(
          Effect.promise(() => admin.info("commandstats")),
          (text) =>
            new Map(Array.from(text.matchAll(/cmdstat_([a-z|]+):calls=(\d+)/g), ([, name, n]) => [name!, Number(n)]))
        )
        const jobs = 6 * batch
        yield* deployed(
          brokerOn(url),
          (database) =>
            Effect.gen(function* () {
              const producer = Polyqueue.layerProducer.pipe(Layer.provide(layerUrl(database)))
              yield* Effect.forEach(
                Array.from({ length: jobs / 1_000 }),
                () => Plain.enqueueAll(Array.from({ length: 1_000 }, () => undefined)),
                { discard: true }
              ).pipe(Effect.provide(producer))
              assert.lengthOf(published, 0)
              const before = yield* calls
              yield* Layer.build(Worker.layer([Elsewhere], quick).pipe(Layer.provide(Handlers)))
              yield* until(
                Broker.use((broker) => broker.depth("default")),
                (depth) => depth === jobs
              )
              const after = yield* calls
              assert.isAtMost(Math.max(...published.map((ids) => ids.length)), batch)
              assert.lengthOf(published.flat(), jobs)
              assert.strictEqual(new Set(published.flat()).size, jobs)
              const scripts = (after.get("evalsha") ?? 0) - (before.get("evalsha") ?? 0)
              assert.isAtMost(scripts, jobs / 10, "far less than a round trip per job")
              for (const linear of ["lpos", "lrange", "keys", "scan", "hgetall", "zscan", "hscan"]) {
                assert.strictEqual(after.get(linear) ?? 0, 0, `${linear} looks at everything`)
              }
            }),
          { broker: counting }
        )
      }).pipe(Effect.scoped)
  )
}

describePostgres("the original's Redis broker", () => {
  describeOwnRedis("in its place", suite)
})
