// 07 Timeouts and cancel: both really stop the code. The handler's fiber is interrupted, its finalizers run, and it can ask
// why. `then` decides what a timeout means: retry, fail, or ignore (only a record).
//
// Prints:
//   stopped: timedOut
//   await: timedOut
//   stopped: cancelled
//   await: cancelled
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Layer, Option, Schema, Stream } from "effect"
import { CurrentJob, Job, Polyqueue, Worker } from "../src/index.ts"

class Slow extends Job.make("Slow", { payload: { seconds: Schema.Finite } }) {}

const SlowLive = Slow.toLayer(
  Effect.fnUntraced(function* ({ seconds }) {
    const job = yield* CurrentJob
    yield* Effect.sleep(`${seconds} seconds`).pipe(
      Effect.onInterrupt(() =>
        Effect.flatMap(job.interruption, (why) => Console.log(`stopped: ${Option.getOrElse(why, () => "unknown")}`))
      )
    )
  })
)

// A request to cancel reaches a running job at its next lease renewal, a third of the lease: short here
const Live = Worker.layer([Slow], { lease: "600 millis" }).pipe(
  Layer.provide(SlowLive),
  Layer.provideMerge(Polyqueue.layerMemory)
)

const reasonOf = (job: { readonly await: ReturnType<typeof Slow.handle>["await"] }) =>
  Effect.flip(job.await).pipe(
    Effect.flatMap((error) => Console.log(`await: ${error._tag === "JobStopped" ? error.reason : error._tag}`))
  )

Effect.gen(function* () {
  const late = yield* Slow.enqueue({ seconds: 60 }, { timeout: { after: "100 millis", then: "fail" } })
  yield* reasonOf(late)

  const running = yield* Slow.enqueue({ seconds: 60 })
  yield* running.changes.pipe(
    Stream.takeUntil((state) => state.status === "processing"),
    Stream.runDrain
  )
  yield* running.cancel
  yield* reasonOf(running)
}).pipe(Effect.provide(Live), NodeRuntime.runMain)
