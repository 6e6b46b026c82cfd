// 09 Many queues: concurrency per queue, priorities within one, many jobs in one statement, and numbers for a dashboard.
//
// Prints:
//   ran first: urgent
//   mail: 21 succeeded, at most 2 at once
//   reports: 1 waiting until its time has come
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Layer, Schema } from "effect"
import { Job, Polyqueue, Worker } from "../src/index.ts"

class Mail extends Job.make("Mail", { payload: { subject: Schema.String }, queue: "mail" }) {}
class Report extends Job.make("Report", { queue: "reports" }) {}

const order: Array<string> = []
let running = 0
let most = 0
const MailLive = Mail.toLayer(
  Effect.fnUntraced(function* ({ subject }) {
    order.push(subject)
    most = Math.max(most, ++running)
    yield* Effect.sleep("5 millis")
    running--
  })
)
const ReportLive = Report.toLayer(() => Effect.void)

const Workers = Worker.layer([Mail, Report], { concurrency: { mail: 2, reports: 1 } }).pipe(
  Layer.provide([MailLive, ReportLive])
)

Effect.gen(function* () {
  const queue = yield* Polyqueue
  const bulk = yield* Mail.enqueueAll(Array.from({ length: 20 }, (_, i) => ({ subject: `newsletter ${i}` })))
  const urgent = yield* Mail.enqueue({ subject: "urgent" }, { priority: 0 })
  yield* Report.enqueue(undefined, { delay: "1 hour" })

  // The worker starts after the enqueues, so that it finds them all; usually it is another process
  yield* Effect.forEach([urgent, ...bulk], (job) => job.await, { concurrency: "unbounded" }).pipe(
    Effect.provide(Workers)
  )
  yield* Console.log(`ran first: ${order[0]}`)
  for (const stats of (yield* queue.stats).toSorted((a, b) => a.queue.localeCompare(b.queue))) {
    yield* stats.queue === "mail"
      ? Console.log(`mail: ${stats.succeeded} succeeded, at most ${most} at once`)
      : Console.log(`reports: ${stats.queued + stats.waiting} waiting until its time has come`)
  }
}).pipe(Effect.provide(Polyqueue.layerMemory), NodeRuntime.runMain)
