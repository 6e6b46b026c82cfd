// 02 Typed errors: the job's own errors come back typed to whoever waits; a TerminalError ends the job at once; a payload
// that does not fit never gets into the queue.
//
// Prints:
//   12 -> charged as ch_12
//   0 -> card declined: no money
//   -1 -> stopped (terminal): an amount cannot be negative
//   "a lot" -> not enqueued: InvalidPayload
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Layer, Schema } from "effect"
import { Job, Polyqueue, TerminalError, Worker } from "../src/index.ts"

class CardDeclined extends Schema.TaggedError<CardDeclined>()("CardDeclined", { why: Schema.String }) {}

class Charge extends Job.make("Charge", {
  payload: { amount: Schema.Finite },
  success: Schema.Struct({ chargeId: Schema.String }),
  error: CardDeclined,
  // A declined card is not worth another attempt
  retry: { while: () => false }
}) {}

const ChargeLive = Charge.toLayer(
  Effect.fnUntraced(function* ({ amount }) {
    if (amount < 0) return yield* Effect.fail(new TerminalError({ message: "an amount cannot be negative" }))
    if (amount === 0) return yield* new CardDeclined({ why: "no money" })
    return { chargeId: `ch_${amount}` }
  })
)

// The compiler knows all that can come back: CardDeclined, JobStopped, EnqueueError, JobNotFound, StoreError
const charge = (amount: number) =>
  Charge.execute({ amount }).pipe(
    Effect.map(({ chargeId }) => `charged as ${chargeId}`),
    Effect.catchTag("CardDeclined", ({ why }) => Effect.succeed(`card declined: ${why}`)),
    Effect.catchTag("JobStopped", ({ message, reason }) => Effect.succeed(`stopped (${reason}): ${message}`)),
    Effect.catchTag("EnqueueError", ({ reason }) => Effect.succeed(`not enqueued: ${reason}`)),
    Effect.flatMap((answer) => Console.log(`${JSON.stringify(amount)} -> ${answer}`))
  )

const Live = Worker.layer([Charge]).pipe(Layer.provide(ChargeLive), Layer.provideMerge(Polyqueue.layerMemory))

Effect.forEach([12, 0, -1, "a lot" as unknown as number], charge).pipe(Effect.provide(Live), NodeRuntime.runMain)
