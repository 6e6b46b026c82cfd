/**
 * Whatever a handler fails with, dies with, throws or answers: the attempt counts, the budget ends it, and the worker lives.
 * (What cannot be judged used to be given back at no cost, so it came again without end.)
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Job, JobStore, RetryAfter, TerminalError, Worker } from "../../src/index.ts"
import { PolyqueueTest } from "../../src/testing/PolyqueueTest.ts"

class Boom extends Schema.TaggedError<Boom>()("Boom", { a: Schema.String }) {}

const trap = (): never => {
  throw new Error("a trap")
}
const throwing = (target: object, property: string) => Object.defineProperty(target, property, { get: trap })
const revoked = () => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

const values: Readonly<Record<string, () => unknown>> = {
  undefined: () => undefined,
  "an object without a prototype": () => Object.create(null),
  "a symbol": () => Symbol("s"),
  "a proxy of traps": () => new Proxy({}, { get: trap, has: trap, getPrototypeOf: trap, ownKeys: trap }),
  "a revoked proxy": revoked,
  "an error whose message throws": () => throwing(new Error("x"), "message"),
  "an error whose message is a number": () => Object.assign(new Error("x"), { message: 5 }),
  "an error whose stack throws": () => throwing(new Error("x"), "stack"),
  "a tag that throws": () => throwing({}, "_tag"),
  "a toJSON that throws": () => ({ toJSON: trap }),
  "an error that is its own cause": () => {
    const error = new Error("mine")
    error.cause = error
    return error
  },
  "an error with ten thousand causes": () => {
    let error = new Error("first")
    for (let i = 0; i < 10_000; i++) error = new Error("caused", { cause: error })
    return error
  },
  "a TerminalError whose message is a number": () => new TerminalError({ message: 5 as never }),
  "a RetryAfter of no duration": () => new RetryAfter({ delay: "soon" as never }),
  "a message of megabytes": () => new Error("x".repeat(3_000_000))
}

const ways = {
  fail: (value: unknown) => Effect.fail(value as never),
  die: (value: unknown) => Effect.die(value),
  throw: (value: unknown) => {
    throw value
  },
  answer: (value: unknown) => Effect.succeed(value)
}

class Hostile extends Job.make("Hostile", {
  payload: { way: Schema.Literals(["fail", "die", "throw", "answer"]), value: Schema.String },
  success: Schema.Unknown,
  error: Boom,
  maxAttempts: 2
}) {}
class BadPolicy extends Job.make("BadPolicy", {
  error: Boom,
  maxAttempts: 2,
  retry: { schedule: Schedule.spaced("1 second"), while: trap }
}) {}
class Fine extends Job.make("Fine", { success: Schema.String }) {}

let runs = 0
const Live = Worker.layer([Hostile, BadPolicy, Fine]).pipe(
  Layer.provide([
    Hostile.toLayer(({ value, way }) => {
      runs++
      return ways[way](values[value]!())
    }),
    BadPolicy.toLayer(() => new Boom({ a: "a" })),
    Fine.toLayer(() => Effect.succeed("alive"))
  ]),
  Layer.provideMerge(PolyqueueTest.layer)
)

/** Runs it until it has ended, with more tries than its budget allows. */
const exhaust = Effect.fnUntraced(function* (id: string) {
  for (let i = 0; i < 4; i++) {
    yield* PolyqueueTest.drain
    yield* TestClock.adjust("10 minutes")
  }
  const [row] = yield* JobStore.use((store) => store.get([id]))
  return row!
})

layer(Live)("a handler that ends with", (it) => {
  const cases = Object.keys(ways).flatMap((way) =>
    Object.keys(values).map((value) => ({ way: way as keyof typeof ways, value }))
  )
  it.effect.each(cases)("$way: $value", ({ value, way }) =>
    Effect.gen(function* () {
      runs = 0
      const job = yield* Hostile.enqueue({ way, value })
      const row = yield* exhaust(job.id)
      assert.include(way === "answer" ? ["succeeded", "failed"] : ["failed"], row.status)
      assert.isAtMost(runs, 2)
      assert.deepStrictEqual([row.attempt, row.interruptions], [runs, 0])
      if (row.status === "failed") {
        assert.isString(row.error?.message)
        assert.isBelow(JSON.stringify(row.error).length, 40_000)
      }
      const next = yield* Fine.enqueue()
      yield* PolyqueueTest.drain
      assert.strictEqual(yield* next.await, "alive")
    })
  )

  it.effect("an error of its own, when its policy throws", () =>
    Effect.gen(function* () {
      const job = yield* BadPolicy.enqueue()
      const row = yield* exhaust(job.id)
      assert.deepStrictEqual([row.status, row.attempt, row.error?.code], ["failed", 2, "defect"])
    })
  )
})
