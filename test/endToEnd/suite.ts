/**
 * One program on every store and broker: enqueue in a transaction, typed result, retry with a delay, timeout, cancel, a
 * worker that is cut off, a poison job. Real clocks; every wait is for an event.
 */
import { assert, layer } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Layer, Ref, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { CurrentJob, Job, JobStore, Polyqueue, type Ports, TerminalError, Worker } from "../../src/index.ts"

class Flaky extends Schema.TaggedError<Flaky>()("Flaky", { attempt: Schema.Int }) {}

class Add extends Job.make("Add", { payload: { a: Schema.Int, b: Schema.Int }, success: Schema.Int }) {}
class FailTwice extends Job.make("FailTwice", {
  success: Schema.Int,
  error: Flaky,
  retry: { schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo({ times: 5 })) }
}) {}
class GiveUp extends Job.make("GiveUp", { error: Flaky, maxAttempts: 1 }) {}
class Terminal extends Job.make("Terminal", {}) {}
class Slow extends Job.make("Slow", { timeout: { after: "200 millis", then: "fail" } }) {}
class Hang extends Job.make("Hang", { queue: "hanging" }) {}
class Later extends Job.make("Later", { success: Schema.Number }) {}

/** Where the handlers say what they do. */
class Log extends Context.Service<Log, { readonly hanging: Ref.Ref<number>; readonly hung: Deferred.Deferred<void> }>()(
  "test/Log"
) {
  static readonly layer = Layer.effect(
    Log,
    Effect.gen(function* () {
      return { hanging: yield* Ref.make(0), hung: yield* Deferred.make<void>() }
    })
  )
}

const Handlers = Layer.mergeAll(
  Add.toLayer(({ a, b }) => Effect.succeed(a + b)),
  FailTwice.toLayer(
    Effect.fnUntraced(function* () {
      const { attempt } = yield* CurrentJob
      return attempt < 3 ? yield* new Flaky({ attempt }) : attempt
    })
  ),
  GiveUp.toLayer(() => new Flaky({ attempt: 1 })),
  Terminal.toLayer(() => Effect.fail(new TerminalError({ message: "never" }))),
  Slow.toLayer(() => Effect.never),
  Hang.toLayer(
    Effect.fnUntraced(function* () {
      const log = yield* Log
      yield* Ref.update(log.hanging, (n) => n + 1)
      yield* Deferred.succeed(log.hung, undefined)
      return yield* Effect.onInterrupt(Effect.never, () => Ref.update(log.hanging, (n) => n - 1))
    })
  ),
  Later.toLayer(() => Effect.clockWith((clock) => clock.currentTimeMillis))
)

const jobs = [Add, FailTwice, GiveUp, Terminal, Slow, Hang, Later] as const
const options: Worker.Options = {
  concurrency: 20,
  lease: "1500 millis",
  sweepEvery: "200 millis",
  shutdownGrace: "1 second"
}

/** Nobody opens a transaction on it. */
const NoDatabase = Layer.succeed(SqlClient.SqlClient, {} as SqlClient.SqlClient)

/** Runs the suite on a client with its ports. `sql`: whether there is a database to open transactions on. */
export const suite = <E>(
  name: string,
  live: Layer.Layer<Polyqueue | Ports, E>,
  context: {
    /** The database to open transactions on, if there is one. */
    readonly sql: Layer.Layer<SqlClient.SqlClient, E> | undefined
  }
): void => {
  const All = Worker.layer(jobs, options).pipe(
    Layer.provide(Handlers),
    Layer.provideMerge(Log.layer),
    Layer.provideMerge(live),
    Layer.provideMerge(context.sql ?? NoDatabase)
  )
  layer(All, { timeout: "60 seconds", excludeTestServices: true })(`end to end on ${name}`, (it) => {
    it.effect("a typed result comes back", () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* Add.execute({ a: 1, b: 2 }), 3)
        const many = yield* Add.enqueueAll(Array.from({ length: 200 }, (_, i) => ({ a: i, b: i })))
        const results = yield* Effect.forEach(many, (job) => job.await, { concurrency: "unbounded" })
        assert.deepStrictEqual(
          results,
          Array.from({ length: 200 }, (_, i) => 2 * i)
        )
      })
    )

    it.effect("concurrent callers each get their own", () =>
      Effect.gen(function* () {
        const results = yield* Effect.forEach(
          Array.from({ length: 100 }, (_, i) => i),
          (i) => Add.execute({ a: i, b: 0 }),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(
          results,
          Array.from({ length: 100 }, (_, i) => i)
        )
      })
    )

    it.effect("a failing job is retried after its delay, and its attempts are logged", () =>
      Effect.gen(function* () {
        const job = yield* FailTwice.enqueue()
        assert.strictEqual(yield* job.await, 3)
        const log = yield* Polyqueue.use((queue) => queue.attempts(job.id))
        assert.deepStrictEqual(
          log.map(({ attempt, finalizedBy, outcome }) => [attempt, outcome, finalizedBy]),
          [
            [1, "failed", "worker"],
            [2, "failed", "worker"],
            [3, "succeeded", "worker"]
          ]
        )
      })
    )

    it.effect("errors come back typed", () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* Effect.flip(GiveUp.execute()), new Flaky({ attempt: 1 }))
        const stopped = yield* Effect.flip(Terminal.execute())
        assert.strictEqual(stopped._tag === "JobStopped" && stopped.message, "never")
      })
    )

    it.effect("a timeout stops the code", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Slow.execute())
        assert.strictEqual(error._tag === "JobStopped" && error.reason, "timedOut")
      })
    )

    it.effect("a delayed job does not run early", () =>
      Effect.gen(function* () {
        const before = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
        const job = yield* Later.enqueue(undefined, { delay: "300 millis" })
        const ranAt = yield* job.await
        // The store's clock decides; it may differ from ours by a little
        assert.isAtLeast(ranAt - before, 250)
      })
    )

    it.effect("cancel ends a queued job at once and reaches a running one", () =>
      Effect.gen(function* () {
        const waiting = yield* Later.enqueue(undefined, { delay: "1 hour" })
        assert.isTrue(yield* waiting.cancel)
        const error = yield* Effect.flip(waiting.await)
        assert.strictEqual(error._tag === "JobStopped" && error.reason, "cancelled")
        const log = yield* Log
        const running = yield* Hang.enqueue()
        yield* Deferred.await(log.hung)
        assert.isTrue(yield* running.cancel)
        const stopped = yield* Effect.flip(running.await)
        assert.strictEqual(stopped._tag === "JobStopped" && stopped.reason, "cancelled")
        assert.strictEqual(yield* Ref.get(log.hanging), 0)
      })
    )

    it.effect("a job of a worker that vanished goes to the next one", () =>
      Effect.gen(function* () {
        const store = yield* JobStore
        const [id, claim] = yield* Polyqueue.use((queue) => Effect.all([queue.makeId, queue.makeId]))
        // A worker that claims and is never heard of again, with a queue of its own so that it wins
        yield* Add.enqueue({ a: 20, b: 22 }, { id, queue: "nobody else" })
        const taken = yield* store.claim({
          claim,
          worker: claim,
          lease: 300,
          suspects: 0,
          pools: [{ ranges: [{ queue: "nobody else", type: "Add" }], limit: 1 }]
        })
        assert.deepStrictEqual(
          taken.map((job) => job.id),
          [id]
        )
        yield* Layer.build(
          Worker.layer([Add], { ...options, concurrency: { "nobody else": 1 } }).pipe(
            Layer.provide(Add.toLayer(({ a, b }) => Effect.succeed(a + b)))
          )
        )
        assert.strictEqual(yield* Add.handle(id).await, 42)
        const log = yield* Polyqueue.use((queue) => queue.attempts(id))
        assert.deepStrictEqual(
          log.map(({ finalizedBy, outcome }) => [outcome, finalizedBy]),
          [
            ["crashed", "reaper"],
            ["succeeded", "worker"]
          ]
        )
      })
    )

    it.effect("a job that takes its worker down every time is quarantined", () =>
      Effect.gen(function* () {
        const store = yield* JobStore
        const id = yield* Polyqueue.use((queue) => queue.makeId)
        yield* Add.enqueue({ a: 1, b: 1 }, { id, queue: "poison" })
        let kills = 0
        while (kills < 10 && (yield* Add.handle(id).poll).exit._tag === "None") {
          const claim = yield* Polyqueue.use((queue) => queue.makeId)
          const taken = yield* store.claim({
            claim,
            worker: claim,
            lease: 50,
            suspects: 1,
            pools: [{ ranges: [{ queue: "poison", type: "Add" }], limit: 1 }]
          })
          kills += taken.length
          yield* Effect.sleep("100 millis")
        }
        assert.strictEqual(kills, 3)
        const error = yield* Effect.flip(Add.handle(id).await)
        assert.strictEqual(error._tag === "JobStopped" && error.reason, "poison")
      })
    )

    if (context.sql !== undefined) {
      it.effect("an enqueue commits and rolls back with its transaction", () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const ids: Array<Job.Id> = []
          const rolledBack = yield* Effect.exit(
            sql.withTransaction(
              Effect.gen(function* () {
                ids.push((yield* Add.enqueue({ a: 1, b: 1 })).id)
                return yield* Effect.fail("no")
              })
            )
          )
          assert.isTrue(Exit.isFailure(rolledBack))
          assert.strictEqual((yield* Effect.flip(Add.handle(ids[0]!).await))._tag, "JobNotFound")
          const job = yield* sql.withTransaction(Add.enqueue({ a: 2, b: 3 }))
          assert.strictEqual(yield* job.await, 5)
        })
      )

      it.effect("waiting inside a transaction fails at once instead of for ever", () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const errors = yield* sql.withTransaction(
            Effect.gen(function* () {
              const job = yield* Add.enqueue({ a: 1, b: 1 })
              return yield* Effect.all([
                Effect.flip(job.await),
                Effect.flip(Add.execute({ a: 1, b: 1 })),
                Effect.flip(job.cancel)
              ])
            })
          )
          for (const error of errors)
            assert.strictEqual(error._tag === "StoreError" && error.reason, "InsideTransaction")
        })
      )
    }
  })
}
