// 06 Testing: the real worker on virtual time, without Postgres and without a broker. Nothing runs until the test says so.
//
// Run it with: npx vitest run test/scratchpad.test.ts
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Option, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import { CurrentJob, Job, Worker } from "../src/index.ts"
import { PolyqueueTest } from "../src/testing/PolyqueueTest.ts"

class SmtpDown extends Schema.TaggedError<SmtpDown>()("SmtpDown", {}) {}

class SendEmail extends Job.make("SendEmail", {
  payload: { to: Schema.String },
  error: SmtpDown,
  retry: { schedule: Schedule.spaced("1 minute").pipe(Schedule.upTo({ times: 2 })) }
}) {}

const SendEmailLive = SendEmail.toLayer(
  Effect.fnUntraced(function* ({ to }) {
    const { attempt } = yield* CurrentJob
    if (to === "flaky@example.com" && attempt === 1) return yield* new SmtpDown()
  })
)

// The code under test: it knows nothing of tests
const signUp = (to: string) => SendEmail.enqueue({ to }, { delay: "5 minutes" })

const TestLive = Worker.layer([SendEmail]).pipe(Layer.provide(SendEmailLive), Layer.provideMerge(PolyqueueTest.layer))

layer(TestLive)("sign-up mail", (it) => {
  it.effect("is sent five minutes later", () =>
    Effect.gen(function* () {
      yield* signUp("ada@example.com")
      const [job] = yield* PolyqueueTest.enqueued(SendEmail)
      assert.strictEqual(job?.payload.to, "ada@example.com")
      assert.deepStrictEqual(yield* PolyqueueTest.drain, { succeeded: 0, failed: 0 })
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(yield* PolyqueueTest.drain, { succeeded: 1, failed: 0 })
    })
  )
  it.effect("is tried again a minute after a failure", () =>
    Effect.gen(function* () {
      yield* SendEmail.enqueue({ to: "flaky@example.com" })
      const first = yield* PolyqueueTest.runOne
      assert.strictEqual(Option.getOrThrow(first).status, "queued")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* PolyqueueTest.drain, { succeeded: 1, failed: 0 })
    })
  )
})
