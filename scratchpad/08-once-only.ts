// 08 Once only: an idempotency key makes two enqueues one job; the same id makes an enqueue safe to repeat when its outcome
// is unknown. `uniqueWhile: "live"` frees the key when the job has ended.
//
// Prints:
//   same invoice: the same job, deduplicated
//   same id: the same job
//   refresh while one is waiting: deduplicated
//   refresh after it ended: a new job
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Layer, Schema } from "effect"
import { Job, Polyqueue, Worker } from "../src/index.ts"

class Bill extends Job.make("Bill", {
  payload: { invoice: Schema.Int },
  idempotencyKey: ({ invoice }) => String(invoice)
}) {}

class Refresh extends Job.make("Refresh", {
  payload: { page: Schema.String },
  idempotencyKey: ({ page }) => page,
  uniqueWhile: "live"
}) {}

const Live = Worker.layer([Bill, Refresh]).pipe(
  Layer.provide([Bill.toLayer(() => Effect.void), Refresh.toLayer(() => Effect.void)]),
  Layer.provideMerge(Polyqueue.layerMemory)
)

Effect.gen(function* () {
  const first = yield* Bill.enqueue({ invoice: 7 })
  const second = yield* Bill.enqueue({ invoice: 7 })
  const same = second.id === first.id ? "the same job" : "another job"
  yield* Console.log(`same invoice: ${same}${second.deduplicated ? ", deduplicated" : ""}`)

  const again = yield* Bill.enqueue({ invoice: 7 }, { id: first.id })
  yield* Console.log(`same id: ${again.id === first.id ? "the same job" : "another job"}`)

  const waiting = yield* Refresh.enqueue({ page: "/" }, { delay: "200 millis" })
  const meanwhile = yield* Refresh.enqueue({ page: "/" })
  yield* Console.log(`refresh while one is waiting: ${meanwhile.deduplicated ? "deduplicated" : "a new job"}`)
  yield* waiting.await
  const after = yield* Refresh.enqueue({ page: "/" })
  yield* Console.log(`refresh after it ended: ${after.deduplicated ? "deduplicated" : "a new job"}`)
}).pipe(Effect.provide(Live), NodeRuntime.runMain)
