// 05 Await: a handle waits, polls, streams changes and cancels. It is remade from the id alone, in any process that has the
// job's definition and the same Postgres.
//
// Prints (a state that was short may be missing):
//   queued
//   processing
//   succeeded
//   awaited by id: 42
//   cancelled before it ran: cancelled
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Layer, Schema, Stream } from "effect"
import { CurrentJob, Job, Polyqueue, Worker } from "../src/index.ts"

class Compute extends Job.make("Compute", { success: Schema.Int }) {}

const ComputeLive = Compute.toLayer(
  Effect.fnUntraced(function* () {
    const job = yield* CurrentJob
    yield* job.progress({ done: 1, total: 2, note: "half of it" })
    yield* Effect.sleep("500 millis")
    return 42
  })
)

const Live = Worker.layer([Compute]).pipe(Layer.provide(ComputeLive), Layer.provideMerge(Polyqueue.layerMemory))

Effect.gen(function* () {
  const job = yield* Compute.enqueue(undefined, { delay: "100 millis" })
  yield* job.changes.pipe(
    Stream.map((state) => state.status),
    Stream.changes,
    Stream.runForEach((status) => Console.log(status))
  )

  // All another process needs is the text of the id
  const id = yield* Job.id(String(job.id))
  yield* Console.log(`awaited by id: ${yield* Compute.handle(id).await}`)

  const never = yield* Compute.enqueue(undefined, { delay: "1 hour" })
  yield* never.cancel
  const stopped = yield* Effect.flip(never.await)
  yield* Console.log(`cancelled before it ran: ${stopped._tag === "JobStopped" ? stopped.reason : stopped._tag}`)
}).pipe(Effect.provide(Live), NodeRuntime.runMain)
