/** `inspect queues`: one line per queue. */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { Admin } from "../../Admin.ts"
import { StoreNow } from "../Operator.ts"
import * as Output from "../Output.ts"
import * as QueueView from "../views/QueueView.ts"
import * as Watch from "../Watch.ts"

export const command = Command.make(
  "queues",
  { output: Output.flag, watch: Watch.flag },
  Effect.fnUntraced(function* ({ output, watch }) {
    const admin = yield* Admin
    const storeNow = yield* StoreNow
    yield* Watch.run(watch, output, (screen, format) =>
      Effect.zipWith(admin.queues, storeNow, (rows, now) =>
        Output.linesOf(
          format,
          {
            kind: "queues",
            rows,
            columns: QueueView.columns(now),
            toJson: QueueView.toJson,
            empty: "no queues: nothing was enqueued, and no worker is there"
          },
          screen
        )
      )
    )
  })
).pipe(
  Command.withDescription(
    "One line per queue: jobs by status, age of the oldest due job, workers and their slots, pauses."
  ),
  Command.withShortDescription("One line per queue"),
  Command.withExamples([
    { command: "polyqueue inspect queues --watch" },
    { command: "polyqueue inspect queues -o jsonl | jq -r 'select(.paused) | .queue'", description: "Paused queues" }
  ])
)
