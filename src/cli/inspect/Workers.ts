/** `inspect workers`: who is alive, and what they run. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import { Admin } from "../../Admin.ts"
import { StoreNow } from "../Operator.ts"
import * as Output from "../Output.ts"
import * as Watch from "../Watch.ts"
import * as WorkerView from "../views/WorkerView.ts"

const all = Flag.Boolean("all").pipe(
  Flag.withAlias("a"),
  Flag.withDescription("Those that stopped or died within the last day too"),
  Flag.withoutNegation,
  Flag.withDefault(false)
)

export const command = Command.make(
  "workers",
  { output: Output.flag, watch: Watch.flag, all },
  Effect.fnUntraced(function* ({ all, output, watch }) {
    const admin = yield* Admin
    const storeNow = yield* StoreNow
    yield* Watch.run(watch, output, (screen, format) =>
      Effect.zipWith(admin.workers, storeNow, (workers, now) => {
        const rows = all ? workers : workers.filter(({ status }) => status === "running" || status === "draining")
        const gone = workers.length - rows.length
        return Output.linesOf(
          format,
          {
            kind: "workers",
            rows,
            columns: WorkerView.columns(now),
            toJson: WorkerView.toJson,
            empty: gone === 0 ? "no workers" : `no live workers; ${gone} stopped or dead, shown with --all`
          },
          screen
        )
      })
    )
  })
).pipe(
  Command.withDescription(
    "Live workers: what they run of how many slots, heartbeat, host, version, queues, job types."
  ),
  Command.withShortDescription("Who is alive, and what they run"),
  Command.withExamples([
    { command: "polyqueue inspect workers --all" },
    { command: "polyqueue inspect workers -o jsonl | jq -r .running[]", description: "Ids of running jobs" }
  ])
)
