// 01 Hello: define a job, give it a handler, start a worker, enqueue, wait for the typed result. All of it in memory.
//
// Prints: Hello, Ada! This is attempt 1.
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Layer, Schema } from "effect"
import { CurrentJob, Job, Polyqueue, Worker } from "../src/index.ts"

// The contract: what goes in, what comes out. Importable anywhere, it contains no handler code
class Greet extends Job.make("Greet", {
  payload: { name: Schema.String },
  success: Schema.String
}) {}

// The handler: an Effect from payload to result
const GreetLive = Greet.toLayer(
  Effect.fnUntraced(function* ({ name }) {
    const { attempt } = yield* CurrentJob
    return `Hello, ${name}! This is attempt ${attempt}.`
  })
)

// The edge: a worker for these jobs, on a queue of your choice
const Live = Worker.layer([Greet]).pipe(Layer.provide(GreetLive), Layer.provideMerge(Polyqueue.layerMemory))

Effect.gen(function* () {
  const job = yield* Greet.enqueue({ name: "Ada" })
  yield* Console.log(yield* job.await)
}).pipe(Effect.provide(Live), NodeRuntime.runMain)
