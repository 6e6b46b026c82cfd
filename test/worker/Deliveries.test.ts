/** How long a worker holds what it received, when it lets go, and what it does while the broker is in trouble. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Layer, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import type { Capabilities } from "../../src/broker/BrokerDriver.ts"
import { Job, Worker } from "../../src/index.ts"
import * as Stage from "../support/HintStage.ts"

const { HintStage, until } = Stage

class Work extends Job.make("Work", { payload: { name: Schema.String }, success: Schema.String }) {}
class Foreign extends Job.make("Foreign") {}

const options: Worker.Options = { sweepEvery: "1 hour", lease: "30 seconds", brokerLease: "30 seconds" }

/** A worker whose handlers end when they are told to. */
const work = Effect.fnUntraced(function* (changes: Worker.Options = {}, base: Worker.Options = options) {
  const running: Array<Deferred.Deferred<string>> = []
  const handler = Work.toLayer(() =>
    Effect.flatMap(Deferred.make<string>(), (end) => {
      running.push(end)
      return Deferred.await(end)
    })
  )
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  yield* Layer.buildWithScope(Worker.layer([Work], { ...base, ...changes }).pipe(Layer.provide(handler)), scope)
  yield* Effect.addFinalizer(() => Effect.forEach(running, (end) => Deferred.succeed(end, "over"), { discard: true }))
  // It waits for hints now, so that they are what it hears first
  yield* TestClock.adjust("100 millis")
  return { running, scope }
})

const on = (capabilities: Partial<Capabilities> = {}) => Effect.provide(Stage.layer(capabilities))
const ended = { _tag: "acked", count: 1, ended: "succeeded" } as const

describe("a delivery is held", () => {
  it.effect("and extended as long as its job runs, delivered to nobody else, and acked when the job has ended", () =>
    Effect.gen(function* () {
      const stage = yield* HintStage
      const { running } = yield* work()
      const job = yield* Work.enqueue({ name: "long" })
      yield* until(() => running.length === 1)
      yield* TestClock.adjust("5 minutes")
      assert.isAtLeast(stage.extended.get(job.id) ?? 0, 25)
      assert.isUndefined(stage.settled.get(job.id))
      yield* Deferred.succeed(running[0]!, "done")
      yield* until(() => stage.settled.has(job.id))
      assert.deepStrictEqual([stage.settled.get(job.id), stage.received], [[ended], 1])
    }).pipe(Effect.scoped, on())
  )

  it.effect("by the lease that the broker gives, where that is shorter than what was asked for", () =>
    Effect.gen(function* () {
      const stage = yield* HintStage
      stage.lease = 6_000
      const { running } = yield* work()
      const job = yield* Work.enqueue({ name: "long" })
      yield* until(() => running.length === 1)
      yield* TestClock.adjust("1 minute")
      assert.isAtLeast(stage.extended.get(job.id) ?? 0, 25)
      assert.strictEqual(stage.received, 1)
    }).pipe(Effect.scoped, on())
  )

  it.effect("as long as the broker can hold it: then acked, and the job goes on under its own lease", () =>
    Effect.gen(function* () {
      const stage = yield* HintStage
      const { running } = yield* work({ brokerLease: "6 seconds" })
      const job = yield* Work.enqueue({ name: "longer than the broker allows" })
      yield* until(() => running.length === 1)
      yield* TestClock.adjust("10 seconds")
      assert.isUndefined(stage.settled.get(job.id))
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(stage.settled.get(job.id), [{ ...ended, ended: undefined }])
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual((yield* job.poll).status, "processing")
      yield* Deferred.succeed(running[0]!, "done")
      assert.strictEqual(yield* job.await, "done")
      assert.deepStrictEqual([running.length, stage.settled.get(job.id)?.length], [1, 1])
    }).pipe(Effect.scoped, on({ maxHold: 20_000 }))
  )

  it.effect("not at all with hintAck claimed: acked while the job runs", () =>
    Effect.gen(function* () {
      const stage = yield* HintStage
      const { running } = yield* work({ hintAck: "claimed" })
      const job = yield* Work.enqueue({ name: "very long" })
      yield* until(() => stage.settled.has(job.id))
      assert.deepStrictEqual(stage.settled.get(job.id), [{ ...ended, ended: undefined }])
      assert.strictEqual((yield* job.poll).status, "processing")
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual([stage.extended.size, stage.received], [0, 1])
      yield* Deferred.succeed(running[0]!, "done")
      assert.strictEqual(yield* job.await, "done")
      assert.lengthOf(stage.settled.get(job.id)!, 1)
    }).pipe(Effect.scoped, on())
  )

  it.effect("while the worker drains: what ends then is acked, too", () =>
    Effect.gen(function* () {
      const stage = yield* HintStage
      const { running, scope } = yield* work()
      const job = yield* Work.enqueue({ name: "last" })
      yield* until(() => running.length === 1)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* TestClock.adjust("15 seconds")
      assert.isAtLeast(stage.extended.get(job.id) ?? 0, 1)
      yield* Deferred.succeed(running[0]!, "done")
      yield* until(() => closing.pollUnsafe() !== undefined)
      assert.deepStrictEqual(stage.settled.get(job.id), [ended])
      assert.strictEqual(yield* stage.driver.depth("default"), 0)
    }).pipe(Effect.scoped, on())
  )

  it.effect("until its ack has arrived: one that fails is sent again", () =>
    Effect.gen(function* () {
      const stage = yield* HintStage
      stage.failingAcks = 3
      const { running } = yield* work()
      const job = yield* Work.enqueue({ name: "twice" })
      yield* until(() => running.length === 1)
      yield* Deferred.succeed(running[0]!, "done")
      yield* until(() => stage.settled.has(job.id))
      assert.deepStrictEqual([stage.settled.get(job.id), stage.failingAcks], [[ended], 0])
    }).pipe(Effect.scoped, on())
  )
})

describe("jobs are found in the store, a second late at most,", () => {
  for (const how of ["fails", "hangs"] as const) {
    it.effect(`while every receive ${how}; and by hints again after it`, () =>
      Effect.gen(function* () {
        const stage = yield* HintStage
        stage.receiving = how
        const { running } = yield* work()
        yield* TestClock.adjust("1 minute")
        for (let n = 1; n <= 5; n++) {
          yield* Work.enqueue({ name: "in an outage" })
          yield* TestClock.adjust("3 seconds")
          assert.lengthOf(running, n)
        }
        assert.strictEqual(stage.received, 0)
        if (how === "hangs") return
        stage.receiving = undefined
        yield* until(() => stage.settled.size === 5)
        const job = yield* Work.enqueue({ name: "after it" })
        yield* until(() => running.length === 6)
        yield* Deferred.succeed(running[5]!, "done")
        yield* until(() => stage.settled.get(job.id)?.some((answer) => answer._tag === "acked") === true)
      }).pipe(Effect.scoped, on())
    )
  }
})

it.effect("hints are published again while receives come back empty, and not while they fail", () =>
  Effect.gen(function* () {
    const stage = yield* HintStage
    stage.receiving = "fails"
    yield* work()
    // Nobody here can run it, so that its row keeps asking for a hint
    yield* Foreign.enqueue()
    yield* TestClock.adjust("10 minutes")
    assert.strictEqual(stage.published, 1, "they would pile up in a broker that only receives fail of")
    stage.receiving = undefined
    yield* until(() => stage.published > 1)
  }).pipe(Effect.scoped, on())
)

describe("a worker refuses to start with", () => {
  const refused = (capabilities: Partial<Capabilities>, changes: Worker.Options) =>
    Effect.map(Effect.flip(work(changes)), (error) => error.message).pipe(Effect.scoped, on(capabilities))

  it.effect("a brokerLease longer than the broker can give, or hold", () =>
    Effect.gen(function* () {
      const tooLong = { brokerLease: "11 minutes" } as const
      assert.strictEqual(
        yield* refused({ name: "narrow", maxLease: 600_000 }, tooLong),
        "Worker.layer: brokerLease (660000 ms) is longer than the broker narrow can lease a delivery: set it to 600000 ms or less"
      )
      assert.strictEqual(
        yield* refused({ name: "narrow", maxHold: 600_000 }, tooLong),
        "Worker.layer: brokerLease (660000 ms) is longer than the broker narrow can hold a delivery: set it to 600000 ms or less"
      )
    })
  )

  it.effect("a brokerLease that is none", () =>
    Effect.gen(function* () {
      assert.include(yield* refused({}, { brokerLease: 0 }), "brokerLease must be at least 100 ms")
      assert.include(yield* refused({}, { brokerLease: -1 }), "brokerLease")
    })
  )

  it.effect("no default: where five minutes are too long for the broker, it takes what there is", () =>
    Effect.gen(function* () {
      const stage = yield* HintStage
      const { running } = yield* work({}, { sweepEvery: "1 hour" })
      const job = yield* Work.enqueue({ name: "long" })
      yield* until(() => running.length === 1)
      yield* TestClock.adjust("1 minute")
      assert.isAtLeast(stage.extended.get(job.id) ?? 0, 5)
    }).pipe(Effect.scoped, on({ maxLease: 30_000 }))
  )
})
