/** What a worker does with each hint that it receives: the design's rule 6, line by line, on virtual time. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"
import type { Hint } from "../../src/broker/BrokerDriver.ts"
import { Broker, Job, JobStore, Polyqueue, Worker } from "../../src/index.ts"
import * as Stage from "../support/HintStage.ts"

const { HintStage, until } = Stage

class Work extends Job.make("Work", { payload: { name: Schema.String }, success: Schema.String }) {}
class Foreign extends Job.make("Foreign") {}

/** A running handler, which ends when the test says so. */
interface Run {
  readonly id: string
  readonly end: Deferred.Deferred<string>
}

const options: Worker.Options = { sweepEvery: "1 hour", lease: "30 seconds", brokerLease: "30 seconds" }

/** Runs a worker over the stage; answers the handlers that run, in order. */
const work = Effect.fnUntraced(function* (changes: Worker.Options = {}) {
  const runs: Array<Run> = []
  let isOver = false
  const handler = Work.toLayer(({ name }) =>
    Effect.flatMap(Deferred.make<string>(), (end) => {
      runs.push({ id: name, end })
      return isOver ? Effect.succeed("over") : Deferred.await(end)
    })
  )
  yield* Layer.build(Worker.layer([Work], { ...options, ...changes }).pipe(Layer.provide(handler)))
  // Before the worker drains: nobody moves the clock then
  yield* Effect.addFinalizer(() => {
    isOver = true
    return Effect.forEach(runs, ({ end }) => Deferred.succeed(end, "over"), { discard: true })
  })
  return runs
})

const publish = (id: string, changes: Partial<Hint> = {}) =>
  Broker.use((broker) =>
    broker.publish([{ jobId: id, queue: "default", priority: 5, attempt: 0, publication: 1, ...changes }])
  )

/** What became of the hints of a job, once there were so many answers. */
const settled = Effect.fnUntraced(function* (id: string, count = 1) {
  const stage = yield* HintStage
  yield* until(() => (stage.settled.get(id)?.length ?? 0) >= count)
  return stage.settled.get(id)!
})

/** A worker that claims a job and is never heard of again. */
const vanish = Effect.fnUntraced(function* (id: string, lease: number) {
  const store = yield* JobStore
  const claim = yield* Polyqueue.use((queue) => queue.makeId)
  const { claimed } = yield* store.claimHinted({
    claim,
    worker: claim,
    lease,
    ids: [id],
    types: ["Work"],
    suspects: 1
  })
  assert.lengthOf(claimed, 1)
})

/** Enqueues without a hint on the broker, and not due for the relay. */
const enqueue = Effect.fnUntraced(function* (name: string, where: { delay?: number; queue?: string } = {}) {
  const stage = yield* HintStage
  const job = yield* Work.enqueue({ name }, where)
  yield* TestClock.adjust("10 millis")
  yield* stage.driver.purge(where.queue ?? "default")
  return job
})

const acked = { _tag: "acked", count: 1, ended: undefined } as const
const on = (capabilities: Parameters<typeof Stage.layer>[0] = {}) => Effect.provide(Stage.layer(capabilities))

describe("a delivery whose job is", () => {
  it.effect("terminal: acked", () =>
    Effect.gen(function* () {
      const job = yield* enqueue("done")
      yield* job.cancel
      yield* work()
      yield* publish(job.id)
      assert.deepStrictEqual(yield* settled(job.id), [acked])
    }).pipe(Effect.scoped, on())
  )

  it.effect("missing: acked", () =>
    Effect.gen(function* () {
      const id = yield* Polyqueue.use((queue) => queue.makeId)
      yield* work()
      yield* publish(id)
      assert.deepStrictEqual(yield* settled(id), [acked])
    }).pipe(Effect.scoped, on())
  )

  it.effect("not due: acked, and published by itself when it is", () =>
    Effect.gen(function* () {
      const stage = yield* HintStage
      const job = yield* enqueue("later", { delay: 60_000 })
      const runs = yield* work()
      yield* publish(job.id)
      assert.deepStrictEqual(yield* settled(job.id), [acked])
      yield* TestClock.adjust("55 seconds")
      assert.deepStrictEqual([stage.received, runs.length], [1, 0])
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(
        runs.map(({ id }) => id),
        ["later"]
      )
    }).pipe(Effect.scoped, on())
  )

  it.effect("paused: acked; no hot loop, nothing dead-lettered, and run when the pause ends", () =>
    Effect.gen(function* () {
      const stage = yield* HintStage
      stage.maxReceives = 3
      const store = yield* JobStore
      const by = { who: "test" }
      const operation = yield* Polyqueue.use((queue) => queue.makeId)
      yield* store.pause({ queue: "default", by, operation })
      const runs = yield* work()
      const jobs = yield* Work.enqueueAll(Array.from({ length: 20 }, (_, n) => ({ name: String(n) })))
      for (const { id } of jobs) assert.deepStrictEqual((yield* settled(id))[0], acked)
      yield* TestClock.adjust("10 minutes")
      // The relay asks again after 5 s, 10 s, 20 s, …: a handful each, and no delivery twice
      assert.isAtMost(stage.received, 20 * 8)
      assert.deepStrictEqual([stage.dead, runs], [[], []])
      for (const answers of stage.settled.values()) for (const answer of answers) assert.deepStrictEqual(answer, acked)
      yield* store.resume({ queue: "default", by, operation })
      yield* TestClock.adjust("2 seconds")
      assert.isAtLeast(runs.length, 10)
    }).pipe(Effect.scoped, on())
  )

  it.effect("owned by somebody whose lease lives: acked, and left to its owner", () =>
    Effect.gen(function* () {
      const job = yield* enqueue("theirs")
      yield* vanish(job.id, 3_600_000)
      const runs = yield* work()
      yield* publish(job.id)
      assert.deepStrictEqual(yield* settled(job.id), [acked])
      assert.deepStrictEqual([(yield* job.poll).status, runs.length], ["processing", 0])
    }).pipe(Effect.scoped, on())
  )

  it.effect("owned by somebody whose lease has ended: reaped by the reaper's statement, claimed, run, acked", () =>
    Effect.gen(function* () {
      const job = yield* enqueue("abandoned")
      yield* vanish(job.id, 100)
      yield* TestClock.adjust("1 second")
      const runs = yield* work()
      yield* publish(job.id)
      yield* until(() => runs.length === 1)
      yield* Deferred.succeed(runs[0]!.end, "saved")
      assert.deepStrictEqual(yield* settled(job.id), [{ ...acked, ended: "succeeded" }])
      const log = yield* Polyqueue.use((queue) => queue.attempts(job.id))
      assert.deepStrictEqual(
        log.map(({ finalizedBy, outcome }) => [outcome, finalizedBy]),
        [
          ["crashed", "reaper"],
          ["succeeded", "worker"]
        ]
      )
    }).pipe(Effect.scoped, on())
  )

  it.effect(
    "such, while sweeps wait because the store was away: released, and not reaped before its owner may renew",
    () =>
      Effect.gen(function* () {
        const stage = yield* HintStage
        const job = yield* enqueue("slow owner")
        yield* vanish(job.id, 100)
        const runs = yield* work({ sweepEvery: "1 second" })
        stage.storeAway = true
        yield* TestClock.adjust("20 seconds")
        stage.storeAway = false
        yield* publish(job.id)
        assert.deepStrictEqual(yield* settled(job.id), [{ _tag: "released", count: 1, delay: 1_000 }])
        assert.strictEqual((yield* job.poll).status, "processing")
        yield* TestClock.adjust("40 seconds")
        assert.lengthOf(runs, 1)
      }).pipe(Effect.scoped, on())
  )

  it.effect("locked by somebody: released for a second, and acked at the third delivery", () =>
    Effect.gen(function* () {
      const stage = yield* HintStage
      const id = yield* Polyqueue.use((queue) => queue.makeId)
      stage.pretended.set(id, { disposition: "locked", attempt: 0 })
      yield* work()
      yield* publish(id)
      assert.deepStrictEqual(yield* settled(id, 3), [
        { _tag: "released", count: 1, delay: 1_000 },
        { _tag: "released", count: 2, delay: 1_000 },
        { ...acked, count: 3 }
      ])
    }).pipe(Effect.scoped, on())
  )

  it.effect("past this hint's attempt, and cannot be claimed right now: acked", () =>
    Effect.gen(function* () {
      const stage = yield* HintStage
      yield* work()
      for (const disposition of ["locked", "suspect", "unhandled"] as const) {
        const id = yield* Polyqueue.use((queue) => queue.makeId)
        stage.pretended.set(id, { disposition, attempt: 2 })
        yield* publish(id, { attempt: 1 })
        assert.deepStrictEqual(yield* settled(id), [acked], disposition)
      }
    }).pipe(Effect.scoped, on())
  )

  it.effect("of a type not handled here: released with jitter, acked at the third delivery, and left alone", () =>
    Effect.gen(function* () {
      const stage = yield* HintStage
      stage.maxReceives = 3
      yield* work()
      const jobs = yield* Foreign.enqueueAll(Array.from({ length: 20 }))
      const delays = new Set<number>()
      for (const job of jobs) {
        const [first, second, third] = yield* settled(job.id, 3)
        for (const answer of [first!, second!]) {
          assert.strictEqual(answer._tag, "released")
          if (answer._tag !== "released") continue
          assert.isTrue(answer.delay >= 5_000 && answer.delay <= 10_000)
          delays.add(answer.delay)
        }
        assert.deepStrictEqual(third, { ...acked, count: 3 })
        const state = yield* job.poll
        assert.deepStrictEqual([state.status, state.attempt], ["queued", 0])
      }
      assert.isAbove(delays.size, 1)
      // 40 deliveries went back, those of one receive in one call
      assert.isAtMost(stage.releases, 12)
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(stage.dead, [], "an old worker and three receives fill no dead-letter queue")
    }).pipe(Effect.scoped, on())
  )

  it.effect("a suspect, while another one runs here: released for five seconds, and acked at the third delivery", () =>
    Effect.gen(function* () {
      const jobs = [yield* enqueue("one"), yield* enqueue("two")]
      for (const { id } of jobs) yield* vanish(id, 100)
      yield* TestClock.adjust("1 second")
      const store = yield* JobStore
      yield* store.reap({ limit: 10, exceptWorkers: [] })
      const runs = yield* work()
      yield* until(() => runs.length === 1)
      const other = jobs[runs[0]!.id === "one" ? 1 : 0]!
      yield* publish(other.id, { attempt: 1 })
      assert.deepStrictEqual(yield* settled(other.id, 3), [
        { _tag: "released", count: 1, delay: 5_000 },
        { _tag: "released", count: 2, delay: 5_000 },
        { ...acked, count: 3 }
      ])
      assert.lengthOf(runs, 1)
      yield* Deferred.succeed(runs[0]!.end, "harmless")
      yield* until(() => runs.length === 2)
    }).pipe(Effect.scoped, on())
  )

  it.effect("not known, because the look-up failed: left, and brought again by the broker", () =>
    Effect.gen(function* () {
      const stage = yield* HintStage
      const job = yield* enqueue("done")
      yield* job.cancel
      yield* work()
      stage.storeAway = true
      yield* publish(job.id)
      yield* until(() => stage.received === 1)
      yield* TestClock.adjust("25 seconds")
      assert.isUndefined(stage.settled.get(job.id))
      stage.storeAway = false
      assert.deepStrictEqual(yield* settled(job.id), [{ ...acked, count: 2 }])
    }).pipe(Effect.scoped, on())
  )

  it.effect("in another queue than the hint says: given back, and acked", () =>
    Effect.gen(function* () {
      const job = yield* enqueue("elsewhere", { queue: "elsewhere" })
      const runs = yield* work()
      yield* publish(job.id)
      assert.deepStrictEqual(yield* settled(job.id), [acked])
      const state = yield* job.poll
      assert.deepStrictEqual([state.status, runs.length], ["queued", 0])
      const log = yield* Polyqueue.use((queue) => queue.attempts(job.id))
      assert.deepStrictEqual(
        log.map(({ outcome }) => outcome),
        ["released"]
      )
    }).pipe(Effect.scoped, on())
  )
})
