/** Defects of the original's worker, by their row in `table.ts`. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { Broker, CurrentJob, Job, JobStore, Polyqueue, Worker } from "../../src/index.ts"
import { describePostgres, freshDatabase } from "../support/Postgres.ts"
import { client, endings, quick } from "./Stage.ts"

class Make extends Job.make("Make", { payload: { what: Schema.String }, success: Schema.Unknown }) {}
class Work extends Job.make("Work", { success: Schema.String }) {}
class Patient extends Job.make("Patient", {
  success: Schema.String,
  timeout: { after: "1 hour", then: "fail" },
  retry: { schedule: Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 3 })) }
}) {}
class Overrun extends Job.make("Overrun", { success: Schema.Int, timeout: { after: "1 second", then: "ignore" } }) {}
class Limited extends Job.make("Limited", { timeout: { after: "10 seconds", then: "fail" } }) {}

const cycle: { self?: unknown } = {}
cycle.self = cycle

/** What JSON or Postgres cannot hold. */
const poisonous: Readonly<Record<string, unknown>> = {
  NaN: { deep: [Number.NaN] },
  infinity: Number.POSITIVE_INFINITY,
  NUL: "a\u0000b",
  surrogate: "\ud800",
  cycle,
  bigint: 1n
}

describePostgres("the original's worker, on Postgres", () => {
  it.live("row 3: a result that cannot be stored ends its job after one run, and harms nobody else", () => {
    const runs = new Map<string, number>()
    const handler = Make.toLayer(({ what }) =>
      Effect.sync(() => {
        runs.set(what, (runs.get(what) ?? 0) + 1)
        return what in poisonous ? poisonous[what] : what
      })
    )
    return Effect.gen(function* () {
      // Among good ones, so that they are settled together
      const jobs = yield* Make.enqueueAll(
        Object.keys(poisonous).flatMap((what) => [{ what }, { what: `good ${what}` }])
      )
      yield* Layer.build(Worker.layer([Make], quick).pipe(Layer.provide(handler)))
      for (const [index, what] of Object.keys(poisonous).entries()) {
        const error = yield* Effect.flip(jobs[2 * index]!.await)
        assert.strictEqual(error._tag === "JobStopped" && error.reason, "resultInvalid", what)
        assert.strictEqual(yield* jobs[2 * index + 1]!.await, `good ${what}`)
      }
      assert.deepStrictEqual([...new Set(runs.values())], [1])
      assert.strictEqual(yield* Make.execute({ what: "the worker lives" }), "the worker lives")
    }).pipe(Effect.scoped, Effect.provide(onPostgres))
  })

  it.live("row 4: a success that cannot be written at once is written later; nothing runs twice", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [started, end] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      let runs = 0
      const handler = Work.toLayer(() =>
        Effect.gen(function* () {
          runs++
          yield* Deferred.succeed(started, undefined)
          yield* Deferred.await(end)
          return "done"
        })
      )
      yield* Layer.build(Worker.layer([Work], { ...quick, lease: "20 seconds" }).pipe(Layer.provide(handler)))
      const job = yield* Work.enqueue()
      yield* Deferred.await(started)
      // Every write of a success is refused for a while, as by a server that goes down; and sessions are cut on top of it
      yield* sql.unsafe(`create function refuse() returns trigger language plpgsql as
        'begin raise ''the test takes the server down'' using errcode = ''57P01''; end'`)
      yield* sql.unsafe(`create trigger refuse before update on polyqueue.polyqueue_jobs for each row
        when (new.status = 'succeeded') execute function refuse()`)
      yield* Deferred.succeed(end, undefined)
      yield* Effect.sleep("500 millis")
      yield* sql`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name like 'polyqueue%'`
      yield* Effect.sleep("500 millis")
      assert.strictEqual((yield* JobStore.use((store) => store.get([job.id])))[0]?.status, "processing")
      yield* sql`drop trigger refuse on polyqueue.polyqueue_jobs`
      assert.strictEqual(yield* job.await, "done")
      assert.deepStrictEqual(yield* endings(job.id), ["succeeded by worker"])
      assert.strictEqual(runs, 1)
    }).pipe(Effect.scoped, Effect.provide(onPostgres))
  )
})

const onPostgres = Layer.unwrap(Effect.map(freshDatabase, (url) => client(url, Broker.layerPostgres)))

describe("the original's worker, on virtual time", () => {
  it.effect.each<readonly [string, Effect.Effect<never, unknown>]>([
    ["Effect.timeout", Effect.timeout(Effect.never, "5 seconds")],
    ["AbortSignal.timeout", Effect.fail(new DOMException("The operation was aborted due to timeout", "TimeoutError"))],
    ["a client of its own", Effect.fail(Object.assign(new Error("ETIMEDOUT"), { name: "TimeoutError" }))]
  ])("row 10: a time-out of the handler's own is no time limit of the job: %s", ([, timesOut]) =>
    Effect.gen(function* () {
      const handler = Patient.toLayer(() =>
        Effect.flatMap(CurrentJob, ({ attempt }) =>
          attempt === 1 ? Effect.orDie(timesOut) : Effect.succeed("the second time")
        )
      )
      yield* Layer.build(Worker.layer([Patient]).pipe(Layer.provide(handler)))
      const job = yield* Patient.enqueue()
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(yield* job.await, "the second time")
      assert.deepStrictEqual(yield* endings(job.id), ["failed by worker", "succeeded by worker"])
    }).pipe(Effect.scoped, Effect.provide(Polyqueue.layerMemory))
  )

  it.effect("row 11: an overrun that is ignored does not keep a job from being recovered when its worker dies", () =>
    Effect.gen(function* () {
      const [store, polyqueue] = [yield* JobStore, yield* Polyqueue]
      const job = yield* Overrun.enqueue()
      const claim = yield* polyqueue.makeId
      const pools = [{ ranges: [{ queue: "default", type: "Overrun" }], limit: 1 }]
      const [held] = yield* store.claim({ claim, worker: "dead", lease: 30_000, suspects: 0, pools })
      // It runs over its limit, is alive for ten minutes, and then it is not
      for (let n = 0; n < 60; n++) {
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual((yield* store.renew([held!], 30_000)).lost, [])
      }
      assert.isDefined((yield* store.get([job.id]))[0]?.overranAt)
      const handler = Overrun.toLayer(() => Effect.map(CurrentJob, ({ attempt }) => attempt))
      yield* Layer.build(Worker.layer([Overrun]).pipe(Layer.provide(handler)))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* job.await, 2)
      assert.deepStrictEqual(yield* endings(job.id), ["crashed by reaper", "succeeded by worker"])
    }).pipe(Effect.scoped, Effect.provide(Polyqueue.layerMemory))
  )

  it.effect("row 30: two applications in one process handle one job each in its own way", () =>
    Effect.gen(function* () {
      const run = (name: string) =>
        Effect.gen(function* () {
          const handler = Work.toLayer(() => Effect.delay(Effect.succeed(name), "1 second"))
          yield* Layer.build(Layer.fresh(Worker.layer([Work])).pipe(Layer.provide(handler)))
          const jobs = yield* Work.enqueueAll(Array.from({ length: 5 }, () => undefined))
          yield* TestClock.adjust("10 seconds")
          return yield* Effect.forEach(jobs, (job) => job.await)
        }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Polyqueue.layerMemory)))
      const [one, other] = yield* Effect.all([run("one"), run("other")], { concurrency: 2 })
      assert.deepStrictEqual([[...new Set(one)], [...new Set(other)]], [["one"], ["other"]])
    })
  )

  it.effect("row 31: in memory there are rows, results, limits and attempts, and closing a worker drops no job", () =>
    Effect.gen(function* () {
      const handlers = Layer.merge(
        Work.toLayer(() =>
          Effect.delay(
            Effect.map(CurrentJob, ({ attempt }) => `attempt ${attempt}`),
            "5 seconds"
          )
        ),
        Limited.toLayer(() => Effect.never)
      )
      const live = Worker.layer([Work, Limited], { shutdownGrace: "1 second" }).pipe(Layer.provide(handlers))
      const work = yield* Work.enqueue()
      // A worker that is closed in the middle of the job
      yield* Effect.gen(function* () {
        const running = yield* Effect.forkChild(
          Effect.scoped(Effect.andThen(Layer.build(Layer.fresh(live)), Effect.never)),
          { startImmediately: true }
        )
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual((yield* work.poll).status, "processing")
        running.interruptUnsafe()
        yield* TestClock.adjust("10 seconds")
      })
      assert.strictEqual((yield* work.poll).status, "queued")
      const limited = yield* Limited.enqueue()
      yield* Layer.build(Layer.fresh(live))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* work.await, "attempt 2")
      assert.deepStrictEqual(yield* endings(work.id), ["released by worker", "succeeded by worker"])
      const stopped = yield* Effect.flip(limited.await)
      assert.strictEqual(stopped._tag === "JobStopped" && stopped.reason, "timedOut")
      assert.deepStrictEqual(yield* endings(limited.id), ["timedOut by worker"])
    }).pipe(Effect.scoped, Effect.provide(Polyqueue.layerMemory))
  )

  it.effect("row 38: a worker removes ended jobs and attempts past their retention, and keeps the others", () =>
    Effect.gen(function* () {
      const handler = Work.toLayer(() => Effect.succeed("done"))
      const retention = { succeeded: "1 hour", attempts: "2 hours" } as const
      yield* Layer.build(Worker.layer([Work], { retention }).pipe(Layer.provide(handler)))
      const store = yield* JobStore
      const old = yield* Work.enqueue()
      yield* old.await
      yield* TestClock.adjust("50 minutes")
      const young = yield* Work.enqueue()
      yield* young.await
      const left = Effect.map(store.get([old.id, young.id]), (rows) => rows.map(({ id }) => id))
      assert.deepStrictEqual((yield* left).toSorted(), [old.id, young.id].toSorted())
      yield* TestClock.adjust("12 minutes")
      assert.deepStrictEqual(yield* left, [young.id])
      assert.deepStrictEqual(yield* endings(old.id), ["succeeded by worker"])
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual([yield* left, yield* endings(old.id)], [[], []])
      assert.deepStrictEqual(yield* endings(young.id), ["succeeded by worker"])
    }).pipe(Effect.scoped, Effect.provide(Polyqueue.layerMemory))
  )
})
