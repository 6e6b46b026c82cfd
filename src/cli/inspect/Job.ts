/** `inspect job <id>`: everything about one job. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import { Admin } from "../../Admin.ts"
import * as Arguments from "../Arguments.ts"
import { StoreNow } from "../Operator.ts"
import * as Output from "../Output.ts"
import * as JobView from "../views/JobView.ts"
import * as Watch from "../Watch.ts"

const payload = Flag.Boolean("payload").pipe(
  Flag.withAlias("p"),
  Flag.withDescription("Show payload, result, progress and error value too: they may hold personal data"),
  Flag.withoutNegation,
  Flag.withDefault(false)
)

export const command = Command.make(
  "job",
  { id: Arguments.id, payload, output: Output.flag, watch: Watch.flag },
  Effect.fnUntraced(function* ({ id, output, payload, watch }) {
    const admin = yield* Admin
    const storeNow = yield* StoreNow
    yield* Watch.run(watch, output, (screen, format) =>
      Effect.zipWith(admin.job(id), storeNow, (job, now) => {
        const options = { now, withPayload: payload }
        return Output.detailLines(
          format,
          { kind: "job", toJson: () => JobView.detailToJson(job, options), pairs: JobView.pairs(job, options) },
          screen
        )
      })
    )
  })
).pipe(
  Command.withDescription(
    "Everything about one job. Payload and result only with --payload. Exit code 3 when it does not exist."
  ),
  Command.withShortDescription("Everything about one job"),
  Command.withExamples([
    { command: "polyqueue inspect job 01890a5d-ac96-774b-bcce-b302099a8057 --payload" },
    { command: "polyqueue inspect job 01890a5d-ac96-774b-bcce-b302099a8057 -o json | jq .job.error" }
  ])
)
