/** Timeouts that nobody's handler has earned: a claim whose answer was lost, an outage while the handler ended in time. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Job, Polyqueue, Worker } from "../../src/index.ts"
import * as Faulty from "../support/FaultyStore.ts"

class Timed extends Job.make("Timed", {
  payload: { milliseconds: Schema.Int },
  timeout: { after: "1 second", then: "fail" }
}) {}

const TimedLive = Timed.toLayer(({ milliseconds }) => Effect.sleep(milliseconds))

const options: Worker.Options = { sweepEvery: "300 millis", interruptGrace: "100 millis" }

const Live = Worker.layer([Timed], options).pipe(Layer.provide(TimedLive), Layer.provideMerge(Faulty.layer))

const outcomes = (id: string) =>
  Polyqueue.use((queue) => Effect.map(queue.attempts(id), (log) => log.map(({ outcome }) => outcome)))

describe("a timeout", () => {
  it.effect("does not strike a job whose claim was never answered: it is given back before", () =>
    Effect.gen(function* () {
      const { failing } = yield* Faulty.FaultyStore
      failing.set("claim", "after")
      const job = yield* Timed.enqueue({ milliseconds: 0 })
      while ((yield* job.poll).attempt === 0) yield* TestClock.adjust("10 millis")
      failing.clear()
      while ((yield* job.poll).status === "processing") yield* TestClock.adjust("10 millis")
      yield* TestClock.adjust("30 seconds")
      yield* job.await
      const log = yield* outcomes(job.id)
      assert.include(log, "released")
      assert.notInclude(log, "timedOut")
    }).pipe(Effect.provide(Live))
  )

  it.effect("does not strike in an outage: who ended in time says so when it is over", () =>
    Effect.gen(function* () {
      const { failing } = yield* Faulty.FaultyStore
      const job = yield* Timed.enqueue({ milliseconds: 500 })
      while ((yield* job.poll).attempt === 0) yield* TestClock.adjust("1 millis")
      for (const operation of ["settle", "renew", "reap", "get"] as const) failing.set(operation, "before")
      yield* TestClock.adjust("15 seconds")
      failing.clear()
      yield* TestClock.adjust("1 minute")
      yield* job.await
      assert.deepStrictEqual(yield* outcomes(job.id), ["succeeded"])
    }).pipe(Effect.provide(Live))
  )
})
