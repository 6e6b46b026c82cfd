/** What a job definition promises: typed in, typed out, every exit of a handler in exactly one settlement. */
import { assert, describe, layer } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Option, Schedule, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { CurrentJob, Job, JobStore, Polyqueue, RetryAfter, Snooze, TerminalError, Worker } from "../../src/index.ts"
import { PolyqueueTest } from "../../src/testing/PolyqueueTest.ts"

class Full extends Schema.TaggedError<Full>()("Full", { to: Schema.String, since: Schema.Date }) {}
class BadAddress extends Schema.TaggedError<BadAddress>()("BadAddress", { to: Schema.String }) {}

class Send extends Job.make("Send", {
  payload: { to: Schema.String, at: Schema.DateTimeUtcFromString, n: Schema.optionalKey(Schema.BigInt) },
  success: Schema.Struct({ sent: Schema.Date, tags: Schema.ReadonlySet(Schema.String) }),
  error: Schema.Union([Full, BadAddress]),
  retry: {
    schedule: Schedule.exponential("10 seconds").pipe(Schedule.upTo({ times: 3 })),
    while: (error) => error._tag !== "BadAddress"
  }
}) {}

/** Does what its payload says. */
class Do extends Job.make("Do", {
  payload: { what: Schema.String },
  success: Schema.Unknown,
  maxAttempts: 2
}) {}
class Keyed extends Job.make("Keyed", { payload: { k: Schema.String }, idempotencyKey: ({ k }) => k }) {}
class Live extends Job.make("Live", {
  payload: { k: Schema.String },
  idempotencyKey: ({ k }) => k,
  uniqueWhile: "live"
}) {}

const at = "2026-11-22T10:00:00.000Z"
const payload = (to: string) => ({ to, at: Schema.decodeSync(Schema.DateTimeUtcFromString)(at) })

const Handlers = Layer.mergeAll(
  Send.toLayer(({ n, to }) =>
    to === "full"
      ? Effect.fail(new Full({ to, since: new Date(0) }))
      : to === "bad"
        ? Effect.fail(new BadAddress({ to }))
        : Effect.succeed({ sent: new Date(5), tags: new Set([to, String(n)]) })
  ),
  Do.toLayer(
    Effect.fnUntraced(function* ({ what }) {
      const job = yield* CurrentJob
      switch (what) {
        case "die":
          return yield* Effect.die(new Error("a defect"))
        case "interrupt itself":
          return yield* Effect.interrupt
        case "terminal":
          return yield* Effect.fail(new TerminalError({ message: "no use" }))
        case "retryAfter":
          return yield* Effect.fail(new RetryAfter({ delay: "1 hour" }))
        case "snooze":
          return job.attempt < 3 ? yield* Effect.fail(new Snooze({ delay: "1 millis" })) : "rested"
        case "NaN":
          return Number.NaN
        case "NUL":
          return "a\u0000b"
        case "surrogate":
          return { deep: ["\ud800"] }
        case "bigint":
          return { n: 1n }
        case "function":
          return () => {}
        case "cycle": {
          const a: Record<string, unknown> = {}
          a.a = a
          return a
        }
        case "deep": {
          let a: unknown = 1
          for (let i = 0; i < 100_000; i++) a = [a]
          return a
        }
        case "large":
          return "x".repeat(2_000_000)
        case "getter":
          return Object.defineProperty({}, "x", {
            enumerable: true,
            get: () => {
              throw new Error("a getter that throws")
            }
          })
        case "__proto__":
          return JSON.parse('{"__proto__":{"polluted":true},"ok":1}') as unknown
        case "progress":
          yield* job.progress({ done: 1, total: 3, note: "one\u0000third" })
          return yield* Effect.delay(Effect.succeed("done"), "1 minute")
        default:
          return { what, attempt: job.attempt, fence: job.fence > 0, deadline: Option.isNone(job.deadline) }
      }
    })
  ),
  Keyed.toLayer(() => Effect.void),
  Live.toLayer(() => Effect.void)
)
const TestLive = Worker.layer([Send, Do, Keyed, Live]).pipe(
  Layer.provide(Handlers),
  Layer.provideMerge(PolyqueueTest.layer)
)

const row = (id: string) =>
  Effect.map(
    JobStore.use((store) => store.get([id])),
    ([record]) => record!
  )

layer(TestLive)("typed jobs", (it) => {
  it.effect("payload and result cross as their types", () =>
    Effect.gen(function* () {
      const job = yield* Send.enqueue({ ...payload("ada"), n: 12n })
      assert.deepStrictEqual((yield* row(job.id)).payload, { to: "ada", at, n: "12" })
      yield* PolyqueueTest.drain
      const result = yield* job.await
      assert.deepStrictEqual(result, { sent: new Date(5), tags: new Set(["ada", "12"]) })
      assert.deepStrictEqual((yield* row(job.id)).result, { sent: "1970-01-01T00:00:00.005Z", tags: ["ada", "12"] })
    })
  )

  it.effect("errors come back typed, from another handle too, once the schedule gave up", () =>
    Effect.gen(function* () {
      const { id } = yield* Send.enqueue(payload("full"))
      for (const wait of [0, 10, 20, 40]) {
        yield* TestClock.adjust(`${wait} seconds`)
        yield* PolyqueueTest.drain
      }
      const error = yield* Effect.flip(Send.handle(id).await)
      assert.deepStrictEqual(error, new Full({ to: "full", since: new Date(0) }))
      assert.instanceOf(error, Full)
      const record = yield* row(id)
      assert.deepStrictEqual([record.attempt, record.failures, record.status], [4, 4, "failed"])
    })
  )

  it.effect("a retry waits as long as the schedule says", () =>
    Effect.gen(function* () {
      const { id } = yield* Send.enqueue(payload("full"))
      yield* PolyqueueTest.drain
      const first = yield* row(id)
      assert.strictEqual(first.status, "queued")
      yield* TestClock.adjust("9 seconds")
      yield* PolyqueueTest.drain
      assert.strictEqual((yield* row(id)).attempt, 1)
      yield* TestClock.adjust("1 second")
      yield* PolyqueueTest.drain
      assert.strictEqual((yield* row(id)).attempt, 2)
    })
  )

  it.effect("`retry.while` decides per typed error", () =>
    Effect.gen(function* () {
      const job = yield* Send.enqueue(payload("bad"))
      assert.deepStrictEqual(yield* PolyqueueTest.drain, { succeeded: 0, failed: 1 })
      assert.deepStrictEqual(yield* Effect.flip(job.await), new BadAddress({ to: "bad" }))
    })
  )

  it.effect(
    "a payload that does not decode fails terminally with the path of the issue, and the handler never runs",
    () =>
      Effect.gen(function* () {
        const store = yield* JobStore
        const good = yield* Send.enqueue(payload("x"))
        const [record] = yield* store.get([good.id])
        const id = yield* Polyqueue.use((queue) => queue.makeId)
        yield* store.enqueueOne({
          ...template,
          id,
          type: "Send",
          payload: JSON.stringify({ ...(record!.payload as object), at: "not a time" })
        })
        yield* PolyqueueTest.drain
        const error = yield* Effect.flip(Send.handle(id).await)
        assert.strictEqual(error._tag, "JobStopped")
        if (error._tag === "JobStopped") {
          assert.strictEqual(error.reason, "undecodable")
          assert.include(error.message, '["at"]')
        }
        assert.strictEqual((yield* row(id)).attempt, 1)
      })
  )

  it.effect("a stored result that no longer fits the schema is a typed error of the reader", () =>
    Effect.gen(function* () {
      class Other extends Job.make("Do", { payload: { what: Schema.String }, success: Schema.Int }) {}
      const { id } = yield* Do.enqueue({ what: "plain" })
      yield* PolyqueueTest.drain
      const error = yield* Effect.flip(Other.handle(id).await)
      assert.strictEqual(error._tag === "StoreError" && error.reason, "Undecodable")
    })
  )

  it.effect("an id nobody enqueued is JobNotFound, for await, poll and changes", () =>
    Effect.gen(function* () {
      const id = yield* Polyqueue.use((queue) => queue.makeId)
      const ghost = Do.handle(id)
      assert.strictEqual((yield* Effect.flip(ghost.await))._tag, "JobNotFound")
      assert.strictEqual((yield* Effect.flip(ghost.poll))._tag, "JobNotFound")
      assert.strictEqual((yield* Effect.flip(Stream.runDrain(ghost.changes)))._tag, "JobNotFound")
      assert.isFalse(yield* ghost.cancel)
    })
  )
})

layer(TestLive)("exits of a handler", (it) => {
  it.effect.each([
    ["die", "defect", /a defect/, 2],
    ["interrupt itself", "defect", /not by its worker/, 2],
    ["terminal", "terminal", /no use/, 1],
    ["retryAfter", "terminal", /later/, 2],
    ["NaN", "resultInvalid", /JSON/, 1],
    ["NUL", "resultInvalid", /NUL/, 1],
    ["surrogate", "resultInvalid", /surrogate/, 1],
    ["bigint", "resultInvalid", /JSON/, 1],
    ["function", "resultInvalid", /JSON/, 1],
    ["cycle", "resultInvalid", /JSON|stack/, 1],
    ["deep", "resultInvalid", /stack|nested/, 1],
    ["large", "resultInvalid", /2000002 bytes/, 1],
    ["getter", "resultInvalid", /getter/, 1]
  ] as const)("%s ends as %s", ([what, reason, message, attempts]) =>
    Effect.gen(function* () {
      const job = yield* Do.enqueue({ what })
      while ((yield* job.poll).status === "queued") {
        yield* PolyqueueTest.drain
        yield* TestClock.adjust("2 hours")
      }
      const state = yield* job.poll
      assert.strictEqual(state.attempt, attempts)
      const error = yield* Effect.flip(job.await)
      assert.strictEqual(error._tag, "JobStopped")
      if (error._tag === "JobStopped") {
        assert.strictEqual(error.reason, reason)
        assert.match(error.message, message)
      }
      // Whatever it was, the worker is as alive as before
      const next = yield* Do.enqueue({ what: "next" })
      assert.deepStrictEqual(yield* PolyqueueTest.drain, { succeeded: 1, failed: 0 })
      assert.deepStrictEqual(yield* next.await, { what: "next", attempt: 1, fence: true, deadline: true })
    })
  )

  it.effect("RetryAfter never runs earlier than asked", () =>
    Effect.gen(function* () {
      const job = yield* Do.enqueue({ what: "retryAfter" })
      yield* PolyqueueTest.drain
      yield* TestClock.adjust("59 minutes")
      yield* PolyqueueTest.drain
      assert.strictEqual((yield* job.poll).attempt, 1)
      yield* TestClock.adjust("1 minute")
      yield* PolyqueueTest.drain
      assert.strictEqual((yield* job.poll).attempt, 2)
    })
  )

  it.effect("Snooze waits a second at least and is no failure", () =>
    Effect.gen(function* () {
      const job = yield* Do.enqueue({ what: "snooze" })
      yield* PolyqueueTest.drain
      yield* TestClock.adjust("999 millis")
      yield* PolyqueueTest.drain
      assert.strictEqual((yield* job.poll).attempt, 1)
      yield* TestClock.adjust("2 seconds")
      yield* PolyqueueTest.drain
      yield* TestClock.adjust("2 seconds")
      yield* PolyqueueTest.drain
      assert.strictEqual(yield* job.await, "rested")
      const record = yield* row(job.id)
      assert.deepStrictEqual([record.failures, record.snoozes], [0, 2])
    })
  )

  it.effect("a key called __proto__ survives as an own key and pollutes nothing", () =>
    Effect.gen(function* () {
      const job = yield* Do.enqueue({ what: "__proto__" })
      yield* PolyqueueTest.drain
      yield* job.await
      const { result } = yield* row(job.id)
      assert.deepStrictEqual(Object.keys(result as object).sort(), ["__proto__", "ok"])
      assert.isUndefined(({} as { polluted?: boolean }).polluted)
    })
  )

  it.effect("progress is stored, and seen by changes", () =>
    Effect.gen(function* () {
      const job = yield* Do.enqueue({ what: "progress" })
      const watching = yield* Effect.forkChild(Stream.runCollect(job.changes), { startImmediately: true })
      const draining = yield* Effect.forkChild(PolyqueueTest.drain, { startImmediately: true })
      yield* TestClock.adjust("2 minutes")
      yield* Fiber.join(draining)
      const states = yield* Fiber.join(watching)
      assert.isTrue(
        states.some(({ progress }) => Option.isSome(progress) && (progress.value as { total: number }).total === 3)
      )
      assert.deepStrictEqual(states.at(-1)?.exit, Option.some(Exit.succeed("done")))
    })
  )
})

layer(TestLive)("enqueue", (it) => {
  it.effect("the same id again is the same job; with another payload it is a conflict", () =>
    Effect.gen(function* () {
      const id = yield* Polyqueue.use((queue) => queue.makeId)
      const first = yield* Do.enqueue({ what: "a" }, { id })
      const second = yield* Do.enqueue({ what: "a" }, { id })
      assert.deepStrictEqual([first.id, second.id, first.deduplicated, second.deduplicated], [id, id, false, true])
      const conflict = yield* Effect.flip(Do.enqueue({ what: "b" }, { id }))
      assert.deepStrictEqual([conflict.reason, conflict.id], ["IdConflict", id])
    })
  )

  it.effect("`retained` keys hold after the end, `live` keys until it", () =>
    Effect.gen(function* () {
      const [k1, l1] = [yield* Keyed.enqueue({ k: "k" }), yield* Live.enqueue({ k: "k" })]
      const [k2, l2] = [yield* Keyed.enqueue({ k: "k" }), yield* Live.enqueue({ k: "k" })]
      assert.deepStrictEqual([k2.id, k2.deduplicated, l2.id, l2.deduplicated], [k1.id, true, l1.id, true])
      yield* PolyqueueTest.drain
      const [k3, l3] = [yield* Keyed.enqueue({ k: "k" }), yield* Live.enqueue({ k: "k" })]
      assert.deepStrictEqual([k3.id, k3.deduplicated], [k1.id, true])
      assert.notStrictEqual(l3.id, l1.id)
    })
  )

  it.effect("enqueueAll keeps the order of its payloads", () =>
    Effect.gen(function* () {
      const jobs = yield* Do.enqueueAll(
        ["x", "y", "z"].map((what) => ({ what })),
        { priority: 3, tags: ["batch"] }
      )
      const records = yield* Effect.forEach(jobs, ({ id }) => row(id))
      assert.deepStrictEqual(
        records.map(({ payload, priority, tags }) => [payload, priority, tags]),
        ["x", "y", "z"].map((what) => [{ what }, 3, ["batch"]])
      )
      assert.deepStrictEqual(yield* Do.enqueueAll([]), [])
    })
  )

  it.effect.each([
    [{ priority: 10 }, "InvalidOptions", /priority must be a whole number from 0/],
    [{ priority: 1.5 }, "InvalidOptions", /priority/],
    [{ queue: "" }, "InvalidOptions", /queue must be 1 to 100/],
    [{ delay: Infinity }, "InvalidOptions", /delay must be between 0 and 10 years/],
    [{ maxAttempts: 0 }, "InvalidOptions", /maxAttempts/],
    [{ timeout: { after: 0 } }, "InvalidOptions", /timeout.after/],
    [{ tags: ["a\u0000"] }, "InvalidOptions", /tags/],
    [{ idempotencyKey: "" }, "InvalidOptions", /idempotency key/],
    [{ id: "order-42" as Job.Id }, "InvalidOptions", /UUID/]
  ] as const)("refuses %j with %s", ([options, reason, message]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Do.enqueue({ what: "x" }, options))
      assert.strictEqual(error.reason, reason)
      assert.match(error.message, message)
    })
  )

  it.effect("refuses a payload that cannot be stored, without its value in the message", () =>
    Effect.gen(function* () {
      const nul = yield* Effect.flip(Do.enqueue({ what: "s3cret\u0000" }))
      assert.strictEqual(nul.reason, "InvalidPayload")
      assert.notInclude(nul.message, "s3cret")
      const large = yield* Effect.flip(Do.enqueue({ what: "x".repeat(2_000_000) }))
      assert.strictEqual(large.reason, "PayloadTooLarge")
      const wrong = yield* Effect.flip(Do.enqueue({ what: 1 } as never))
      assert.strictEqual(wrong.reason, "InvalidPayload")
      assert.include(wrong.message, '["what"]')
    })
  )
})

describe.concurrent("running at once", () => {
  const RunLive = Worker.layer([Do, Send]).pipe(Layer.provide(Handlers), Layer.provideMerge(Polyqueue.layerMemory))
  layer(RunLive)("execute", (it) => {
    it.effect("enqueues and waits", () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* Do.execute({ what: "now" }), {
          what: "now",
          attempt: 1,
          fence: true,
          deadline: true
        })
        assert.deepStrictEqual(yield* Effect.flip(Send.execute(payload("bad"))), new BadAddress({ to: "bad" }))
      })
    )
  })
})

const template = {
  freshId: false,
  queue: "default",
  priority: 5,
  delay: 0,
  runAt: undefined,
  maxAttempts: 3,
  maxCrashes: 3,
  maxSnoozes: 1_000,
  retryDelays: [],
  timeout: undefined,
  timeoutThen: "retry",
  key: undefined,
  keyScope: "retained",
  tags: [],
  metadata: undefined,
  hinted: false,
  publishIn: 0
} as const
