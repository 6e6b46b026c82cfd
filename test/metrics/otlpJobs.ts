/** A job that fails once, for the test of traces across processes. */
import { Effect, Schedule, Schema } from "effect"
import { CurrentJob, Job } from "../../src/index.ts"

export class Boom extends Schema.TaggedError<Boom>()("Boom", {}) {}

export class Flaky extends Job.make("Flaky", {
  payload: { n: Schema.Int },
  error: Boom,
  retry: { schedule: Schedule.spaced("10 millis").pipe(Schedule.upTo({ times: 3 })) }
}) {}

export const FlakyLive = Flaky.toLayer(
  Effect.fnUntraced(function* () {
    const { attempt } = yield* CurrentJob
    yield* Effect.logInfo(`attempt ${attempt}`)
    if (attempt < 3) return yield* new Boom()
  })
)
