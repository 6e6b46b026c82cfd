/** What a worker promises, on virtual time: the real worker over the memory store, and over one that fails when told to. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Option, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import { CurrentJob, type Interruption, Job, JobStore, Polyqueue, Worker, WorkerRegistry } from "../../src/index.ts"
import type { AttemptOutcome } from "../../src/store/JobStoreDriver.ts"
import * as Faulty from "../support/FaultyStore.ts"

class Work extends Job.make("Work", {
  payload: { name: Schema.String },
  success: Schema.String,
  retry: { schedule: Schedule.spaced("10 seconds").pipe(Schedule.upTo({ times: 5 })) }
}) {}

/** A handler a test talks to: it says when it runs, and does what it is told. */
interface Run {
  readonly name: string
  readonly attempt: number
  readonly end: Deferred.Deferred<string>
  readonly interrupted: Deferred.Deferred<Option.Option<Interruption>>
}

const scripted = Effect.gen(function* () {
  const runs: Array<Run> = []
  let arrived = yield* Deferred.make<void>()
  const handler = Work.toLayer(
    Effect.fnUntraced(function* ({ name }) {
      const job = yield* CurrentJob
      const run: Run = {
        name,
        attempt: job.attempt,
        end: yield* Deferred.make<string>(),
        interrupted: yield* Deferred.make<Option.Option<Interruption>>()
      }
      runs.push(run)
      yield* Deferred.succeed(arrived, undefined)
      return yield* Effect.onInterrupt(Deferred.await(run.end), () =>
        Effect.flatMap(job.interruption, (why) => Deferred.succeed(run.interrupted, why))
      )
    })
  )
  /** Waits until `count` runs have begun. */
  const begun = Effect.fnUntraced(function* (count: number) {
    while (runs.length < count) {
      arrived = yield* Deferred.make<void>()
      yield* Deferred.await(arrived)
    }
    return runs[count - 1]!
  })
  return { handler, runs, begun }
})

const outcomes = (id: string): Effect.Effect<ReadonlyArray<AttemptOutcome>, never, Polyqueue> =>
  Polyqueue.use((queue) => Effect.map(queue.attempts(id), (log) => log.map((attempt) => attempt.outcome))).pipe(
    Effect.orDie
  )

const settled = Effect.forEach(Array.from({ length: 20 }), () => Effect.yieldNow, { discard: true })

describe("leases", () => {
  it.effect("a job that runs longer than its lease keeps it", () =>
    Effect.gen(function* () {
      const script = yield* scripted
      yield* Effect.gen(function* () {
        const job = yield* Work.enqueue({ name: "long" })
        const run = yield* script.begun(1)
        yield* TestClock.adjust("10 minutes")
        assert.strictEqual((yield* job.poll).status, "processing")
        yield* Deferred.succeed(run.end, "done")
        assert.strictEqual(yield* job.await, "done")
        assert.deepStrictEqual(yield* outcomes(job.id), ["succeeded"])
      }).pipe(
        Effect.provide(
          Worker.layer([Work]).pipe(Layer.provide(script.handler), Layer.provideMerge(Polyqueue.layerMemory))
        )
      )
    })
  )

  it.effect(
    "a worker that cannot renew stops its handlers at the end of the lease, and gives them back when it can",
    () =>
      Effect.gen(function* () {
        const script = yield* scripted
        yield* Effect.gen(function* () {
          const faults = yield* Faulty.FaultyStore
          const job = yield* Work.enqueue({ name: "cut off" })
          const run = yield* script.begun(1)
          for (const operation of ["renew", "settle", "claim", "reap"] as const) faults.failing.set(operation, "before")
          yield* TestClock.adjust("29 seconds")
          assert.isFalse(yield* Deferred.isDone(run.interrupted))
          yield* TestClock.adjust("2 seconds")
          assert.deepStrictEqual(yield* Deferred.await(run.interrupted), Option.some("leaseLost"))
          faults.failing.clear()
          yield* TestClock.adjust("1 minute")
          const again = yield* script.begun(2)
          assert.strictEqual(again.attempt, 2)
          yield* Deferred.succeed(again.end, "second")
          assert.strictEqual(yield* job.await, "second")
          assert.deepStrictEqual(yield* outcomes(job.id), ["released", "succeeded"])
        }).pipe(
          Effect.provide(Worker.layer([Work]).pipe(Layer.provide(script.handler), Layer.provideMerge(Faulty.layer)))
        )
      })
  )

  it.effect("losing the lease interrupts the handler, and what it would have written is not accepted", () =>
    Effect.gen(function* () {
      const script = yield* scripted
      yield* Effect.gen(function* () {
        const store = yield* JobStore
        const job = yield* Work.enqueue({ name: "stolen" })
        const run = yield* script.begun(1)
        // Somebody takes the job away: an admin, or a reaper after a long pause of this process
        const [row] = yield* store.get([job.id])
        const log = yield* store.settle("somebody else", [
          { id: job.id, attempt: 1, claim: yield* claimOf(job.id), _tag: "Released" }
        ])
        assert.strictEqual(log[0]?._tag, "Settled")
        assert.strictEqual(row?.status, "processing")
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(yield* Deferred.await(run.interrupted), Option.some("leaseLost"))
        const again = yield* script.begun(2)
        yield* Deferred.succeed(again.end, "mine")
        assert.strictEqual(yield* job.await, "mine")
        assert.deepStrictEqual(yield* outcomes(job.id), ["released", "succeeded"])
      }).pipe(Effect.provide(claims(script.handler)))
    })
  )

  it.effect("a claim whose reply was lost is given back by the worker, at no cost to the job", () =>
    Effect.gen(function* () {
      const script = yield* scripted
      yield* Effect.gen(function* () {
        const faults = yield* Faulty.FaultyStore
        faults.failing.set("claim", "after")
        const job = yield* Work.enqueue({ name: "unknown" })
        while ((yield* job.poll).attempt === 0) yield* TestClock.adjust("1 second")
        faults.failing.clear()
        yield* TestClock.adjust("15 seconds")
        const run = yield* script.begun(1)
        yield* Deferred.succeed(run.end, "ran")
        assert.strictEqual(yield* job.await, "ran")
        const log = yield* outcomes(job.id)
        assert.strictEqual(log.at(-1), "succeeded")
        assert.isTrue(log.slice(0, -1).every((outcome) => outcome === "released") && log.length > 1)
        const [row] = yield* JobStore.use((store) => store.get([job.id]))
        assert.strictEqual(row?.crashes, 0)
      }).pipe(
        Effect.provide(Worker.layer([Work]).pipe(Layer.provide(script.handler), Layer.provideMerge(Faulty.layer)))
      )
    })
  )
})

describe("settling", () => {
  it.effect("a settle whose reply was lost is not repeated: the job succeeded once", () =>
    Effect.gen(function* () {
      const script = yield* scripted
      yield* Effect.gen(function* () {
        const faults = yield* Faulty.FaultyStore
        const job = yield* Work.enqueue({ name: "lost reply" })
        const run = yield* script.begun(1)
        faults.failing.set("settle", "after")
        yield* Deferred.succeed(run.end, "done")
        yield* TestClock.adjust("5 seconds")
        faults.failing.clear()
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(yield* job.await, "done")
        assert.deepStrictEqual(yield* outcomes(job.id), ["succeeded"])
        assert.strictEqual(script.runs.length, 1)
      }).pipe(
        Effect.provide(Worker.layer([Work]).pipe(Layer.provide(script.handler), Layer.provideMerge(Faulty.layer)))
      )
    })
  )

  it.effect("work that finished during an outage is settled after it", () =>
    Effect.gen(function* () {
      const script = yield* scripted
      yield* Effect.gen(function* () {
        const faults = yield* Faulty.FaultyStore
        const job = yield* Work.enqueue({ name: "outage" })
        const run = yield* script.begun(1)
        for (const operation of ["renew", "settle", "claim", "reap"] as const) faults.failing.set(operation, "before")
        yield* Deferred.succeed(run.end, "done in the dark")
        yield* TestClock.adjust("5 minutes")
        faults.failing.clear()
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual(yield* job.await, "done in the dark")
        assert.deepStrictEqual(yield* outcomes(job.id), ["succeeded"])
      }).pipe(
        Effect.provide(Worker.layer([Work]).pipe(Layer.provide(script.handler), Layer.provideMerge(Faulty.layer)))
      )
    })
  )
})

describe("timeouts", () => {
  const timed = (then: "retry" | "fail" | "ignore", body: Effect.Effect<string>) => {
    class Timed extends Job.make("Timed", {
      success: Schema.String,
      timeout: { after: "10 seconds", then },
      retry: { schedule: Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 1 })) }
    }) {}
    const live = Worker.layer([Timed]).pipe(
      Layer.provide(Timed.toLayer(() => body)),
      Layer.provideMerge(Polyqueue.layerMemory)
    )
    return { Timed, live }
  }

  it.effect("`retry` stops the code and counts a failure", () => {
    const { live, Timed } = timed("retry", Effect.never)
    return Effect.gen(function* () {
      const job = yield* Timed.enqueue()
      yield* TestClock.adjust("30 seconds")
      const error = yield* Effect.flip(job.await)
      assert.strictEqual(error._tag === "JobStopped" && error.reason, "timedOut")
      assert.deepStrictEqual(yield* outcomes(job.id), ["timedOut", "timedOut"])
    }).pipe(Effect.provide(live))
  })

  it.effect("`fail` stops the code and ends the job", () => {
    const { live, Timed } = timed("fail", Effect.never)
    return Effect.gen(function* () {
      const job = yield* Timed.enqueue()
      yield* TestClock.adjust("10 seconds")
      const error = yield* Effect.flip(job.await)
      assert.strictEqual(error._tag === "JobStopped" && error.reason, "timedOut")
      assert.deepStrictEqual(yield* outcomes(job.id), ["timedOut"])
    }).pipe(Effect.provide(live))
  })

  it.effect("`ignore` lets the code run and records the overrun", () => {
    const { live, Timed } = timed("ignore", Effect.delay(Effect.succeed("late"), "1 minute"))
    return Effect.gen(function* () {
      const job = yield* Timed.enqueue()
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* job.await, "late")
      const [row] = yield* JobStore.use((store) => store.get([job.id]))
      assert.isDefined(row?.overranAt)
      assert.deepStrictEqual(yield* outcomes(job.id), ["succeeded"])
    }).pipe(Effect.provide(live))
  })

  it.effect(
    "a handler that does not stop loses its job after the grace, keeps its slot, and writes nothing later",
    () =>
      Effect.gen(function* () {
        const release = yield* Deferred.make<string>()
        const { live, Timed } = timed("fail", Effect.uninterruptible(Deferred.await(release)))
        yield* Effect.gen(function* () {
          const job = yield* Timed.enqueue()
          yield* TestClock.adjust("10 seconds")
          assert.strictEqual((yield* job.poll).status, "processing")
          yield* TestClock.adjust("5 seconds")
          const error = yield* Effect.flip(job.await)
          assert.strictEqual(error._tag === "JobStopped" && error.reason, "timedOut")
          yield* Deferred.succeed(release, "too late")
          yield* settled
          assert.deepStrictEqual(yield* outcomes(job.id), ["timedOut"])
          assert.strictEqual((yield* job.poll).status, "failed")
        }).pipe(Effect.provide(live))
      })
  )
})

describe("cancel", () => {
  it.effect("reaches a running handler at the next renewal, and is not retried", () =>
    Effect.gen(function* () {
      const script = yield* scripted
      yield* Effect.gen(function* () {
        const job = yield* Work.enqueue({ name: "cancelled" })
        const run = yield* script.begun(1)
        assert.isTrue(yield* job.cancel)
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(yield* Deferred.await(run.interrupted), Option.some("cancelled"))
        const error = yield* Effect.flip(job.await)
        assert.strictEqual(error._tag === "JobStopped" && error.reason, "cancelled")
        assert.deepStrictEqual(yield* outcomes(job.id), ["cancelled"])
        assert.isFalse(yield* job.cancel)
      }).pipe(
        Effect.provide(
          Worker.layer([Work]).pipe(Layer.provide(script.handler), Layer.provideMerge(Polyqueue.layerMemory))
        )
      )
    })
  )
})

describe("slots", () => {
  it.effect("never runs more than `concurrency` at once, per queue and in all", () =>
    Effect.gen(function* () {
      const running = new Map<string, number>()
      const peaks = new Map<string, number>()
      class A extends Job.make("A", { queue: "a" }) {}
      class B extends Job.make("B", { queue: "b" }) {}
      const counted = (queue: string) =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            const now = (running.get(queue) ?? 0) + 1
            running.set(queue, now)
            peaks.set(queue, Math.max(peaks.get(queue) ?? 0, now))
          }),
          () => Effect.sleep("1 second"),
          () => Effect.sync(() => running.set(queue, running.get(queue)! - 1))
        )
      const live = Worker.layer([A, B], { concurrency: { a: 2, b: 5 } }).pipe(
        Layer.provide([A.toLayer(() => counted("a")), B.toLayer(() => counted("b"))]),
        Layer.provideMerge(Polyqueue.layerMemory)
      )
      yield* Effect.gen(function* () {
        const a = yield* A.enqueueAll(Array.from({ length: 20 }, () => undefined))
        const b = yield* B.enqueueAll(Array.from({ length: 20 }, () => undefined))
        yield* TestClock.adjust("20 seconds")
        yield* Effect.forEach([...a, ...b], (job) => job.await, { discard: true })
        assert.deepStrictEqual(Object.fromEntries(peaks), { a: 2, b: 5 })
      }).pipe(Effect.provide(live))
    })
  )

  it.effect("leaves alone job types it has no handler for", () =>
    Effect.gen(function* () {
      const script = yield* scripted
      class Newer extends Job.make("Newer", {}) {}
      yield* Effect.gen(function* () {
        const foreign = yield* Newer.enqueue()
        const known = yield* Work.enqueue({ name: "known" })
        yield* Deferred.succeed((yield* script.begun(1)).end, "ok")
        assert.strictEqual(yield* known.await, "ok")
        yield* TestClock.adjust("1 hour")
        const state = yield* foreign.poll
        assert.deepStrictEqual([state.status, state.attempt], ["queued", 0])
      }).pipe(
        Effect.provide(
          Worker.layer([Work]).pipe(Layer.provide(script.handler), Layer.provideMerge(Polyqueue.layerMemory))
        )
      )
    })
  )
})

describe("shutdown", () => {
  it.effect("waits for what runs, gives back what was interrupted at no cost, and says goodbye", () =>
    Effect.gen(function* () {
      const script = yield* scripted
      yield* Effect.gen(function* () {
        const quick = yield* Work.enqueue({ name: "quick" })
        const slow = yield* Work.enqueue({ name: "slow" })
        const waiting = yield* Work.enqueue({ name: "never started" })
        const scope = yield* Effect.forkChild(
          Effect.scoped(
            Effect.andThen(
              Layer.build(
                Worker.layer([Work], { concurrency: 2, shutdownGrace: "20 seconds" }).pipe(
                  Layer.provide(script.handler)
                )
              ),
              Effect.never
            )
          )
        )
        yield* script.begun(2)
        const stopping = yield* Effect.forkChild(Fiber.interrupt(scope), { startImmediately: true })
        yield* TestClock.adjust("10 seconds")
        yield* Deferred.succeed(script.runs.find((run) => run.name === "quick")!.end, "in time")
        yield* TestClock.adjust("10 seconds")
        yield* Fiber.join(stopping)
        assert.deepStrictEqual(yield* outcomes(quick.id), ["succeeded"])
        assert.deepStrictEqual(yield* outcomes(slow.id), ["released"])
        assert.deepStrictEqual(
          yield* Deferred.await(script.runs.find((run) => run.name === "slow")!.interrupted),
          Option.some("shutdown")
        )
        const [row] = yield* JobStore.use((store) => store.get([slow.id]))
        assert.deepStrictEqual([row?.status, row?.failures, row?.crashes, row?.interruptions], ["queued", 0, 0, 1])
        const [untouched] = yield* JobStore.use((store) => store.get([waiting.id]))
        assert.strictEqual(untouched?.status, "queued")
        assert.deepStrictEqual(
          (yield* WorkerRegistry.use((registry) => registry.list)).map((worker) => worker.status),
          ["stopped"]
        )
      }).pipe(Effect.provide(Polyqueue.layerMemory))
    })
  )
})

describe("supervision", () => {
  it.effect("every loop survives an outage of the store", () =>
    Effect.gen(function* () {
      const script = yield* scripted
      yield* Effect.gen(function* () {
        const faults = yield* Faulty.FaultyStore
        for (const operation of ["claim", "settle", "renew", "reap", "nextDue"] as const)
          faults.failing.set(operation, "before")
        yield* TestClock.adjust("10 minutes")
        faults.failing.clear()
        const job = yield* Work.enqueue({ name: "after the outage" })
        yield* TestClock.adjust("10 seconds")
        yield* Deferred.succeed((yield* script.begun(1)).end, "alive")
        assert.strictEqual(yield* job.await, "alive")
      }).pipe(
        Effect.provide(Worker.layer([Work]).pipe(Layer.provide(script.handler), Layer.provideMerge(Faulty.layer)))
      )
    })
  )
})

describe("refuses at start", () => {
  const build = (jobs: ReadonlyArray<typeof Work>, options: Worker.Options) =>
    Effect.exit(Effect.scoped(Layer.build(Worker.layer(jobs, options)))).pipe(
      Effect.provide(
        Layer.merge(
          Polyqueue.layerMemory,
          Work.toLayer(() => Effect.succeed(""))
        )
      ),
      Effect.map((exit) => (Exit.isFailure(exit) ? String(exit.cause) : "started"))
    )
  it.effect.each([
    ["two jobs of one tag", [Work, Work], {}, /two jobs are called "Work"/],
    ["no jobs", [], {}, /at least one job/],
    ["a concurrency that is no number of slots", [Work], { concurrency: 0 }, /concurrency must be a whole number/],
    [
      "a renewal that is not shorter than its lease",
      [Work],
      { lease: "10 seconds", renewEvery: "10 seconds" },
      /must be shorter/
    ],
    ["a lease too short to renew", [Work], { lease: "1 millis" }, /at least 100 ms/]
  ] as const)("%s", ([, jobs, options, message]) =>
    Effect.map(build(jobs, options), (outcome) => assert.match(outcome, message))
  )
})

/** The claim under which a job is held, as a thief would know it. */
const held = new Map<string, string>()
const claimOf = (id: string) => Effect.sync(() => held.get(id)!)
const claims = (handler: Layer.Layer<Job.Handler<"Work">>) =>
  Worker.layer([Work]).pipe(
    Layer.provide(handler),
    Layer.provideMerge(
      Polyqueue.layer.pipe(
        Layer.provideMerge(
          Layer.effect(
            JobStore,
            Effect.map(JobStore, (store) => ({
              ...store,
              claim: (request: Parameters<typeof store.claim>[0]) =>
                Effect.tap(store.claim(request), (jobs) =>
                  Effect.sync(() => jobs.forEach((job) => held.set(job.id, job.claim)))
                )
            }))
          ).pipe(Layer.provideMerge(Polyqueue.layerMemory))
        )
      )
    )
  )
