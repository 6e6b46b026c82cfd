/** `inspect attempts <id>`: the log of a job's ended attempts, which outlives the job. */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { Admin } from "../../Admin.ts"
import * as Arguments from "../Arguments.ts"
import { nothing } from "../Failure.ts"
import { StoreNow } from "../Operator.ts"
import * as Output from "../Output.ts"
import * as AttemptView from "../views/AttemptView.ts"
import * as Watch from "../Watch.ts"

export const command = Command.make(
  "attempts",
  { id: Arguments.id, output: Output.flag, watch: Watch.flag },
  Effect.fnUntraced(function* ({ id, output, watch }) {
    const admin = yield* Admin
    const storeNow = yield* StoreNow
    const empty = `no ended attempt of ${id}: it has not run yet, or there is no such job`
    let found = 0
    yield* Watch.run(watch, output, (screen, format) =>
      Effect.zipWith(admin.attempts(id), storeNow, (rows, now) => {
        found = rows.length
        return Output.linesOf(
          format,
          {
            kind: "attempts",
            rows,
            columns: AttemptView.columns(now),
            toJson: AttemptView.toJson,
            empty
          },
          screen
        )
      })
    )
    if (found === 0) return yield* nothing(output === "table" ? "" : empty)
  })
).pipe(
  Command.withDescription(
    "The ended attempts of a job, oldest first: outcome, who ended it, how long it took, worker, error. They outlive the job."
  ),
  Command.withShortDescription("The ended attempts of a job"),
  Command.withExamples([{ command: "polyqueue inspect attempts 01890a5d-ac96-774b-bcce-b302099a8057" }])
)
