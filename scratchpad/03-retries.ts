// 03 Retries: any Effect Schedule is a retry policy; a handler may name its own delay (RetryAfter) or say "not yet"
// (Snooze), which costs no attempt. The log keeps every attempt.
//
// Prints:
//   attempt 1 failed: the service is down
//   attempt 2 failed: the handler asked for another attempt later
//   attempt 3 snoozed
//   attempt 4 succeeded
//   result: done at attempt 4, after 2 failures
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Layer, Schedule, Schema } from "effect"
import { CurrentJob, Job, Polyqueue, RetryAfter, Snooze, Worker } from "../src/index.ts"

class Down extends Schema.TaggedError<Down>()("Down", { message: Schema.String }) {}

class Sync extends Job.make("Sync", {
  success: Schema.String,
  error: Down,
  retry: { schedule: Schedule.exponential("50 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 5 })) }
}) {}

const SyncLive = Sync.toLayer(
  Effect.fnUntraced(function* () {
    const { attempt } = yield* CurrentJob
    if (attempt === 1) return yield* new Down({ message: "the service is down" })
    if (attempt === 2) return yield* Effect.fail(new RetryAfter({ delay: "20 millis" }))
    if (attempt === 3) return yield* Effect.fail(new Snooze({ delay: "1 second" }))
    return `done at attempt ${attempt}`
  })
)

const Live = Worker.layer([Sync]).pipe(Layer.provide(SyncLive), Layer.provideMerge(Polyqueue.layerMemory))

Effect.gen(function* () {
  const queue = yield* Polyqueue
  const job = yield* Sync.enqueue()
  const result = yield* job.await
  for (const { attempt, error, outcome } of yield* queue.attempts(job.id)) {
    yield* Console.log(`attempt ${attempt} ${outcome}${error === undefined ? "" : `: ${error.message}`}`)
  }
  const { failures } = yield* queue.get(job.id)
  yield* Console.log(`result: ${result}, after ${failures} failures`)
}).pipe(Effect.provide(Live), NodeRuntime.runMain)
