/** `inspect jobs`: find jobs, newest first, a page at a time. Never shows payloads. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Admin } from "../../Admin.ts"
import * as Arguments from "../Arguments.ts"
import { nothing } from "../Failure.ts"
import * as Filters from "../Filters.ts"
import { StoreNow } from "../Operator.ts"
import * as Output from "../Output.ts"
import * as Paging from "../Paging.ts"
import * as JobView from "../views/JobView.ts"
import * as Watch from "../Watch.ts"

const after = Flag.String("after").pipe(
  Flag.withMetavar("ID"),
  Flag.withDescription("Continue after this job: the next page"),
  Flag.mapEffect((text) => Arguments.jobId("after", text, "flag")),
  Flag.optional
)

export const command = Command.make(
  "jobs",
  { ...Filters.flags, limit: Paging.limit, after, output: Output.flag, watch: Watch.flag },
  Effect.fnUntraced(function* ({ after, limit, output, watch, ...filters }) {
    const admin = yield* Admin
    const storeNow = yield* StoreNow
    const request = { ...Filters.toWhere(filters), limit, after: Option.getOrUndefined(after) }
    const empty = `no job matches (${Filters.describe(filters)})`
    let last: { readonly rows: number; readonly next: string | undefined } = { rows: 0, next: undefined }
    yield* Watch.run(watch, output, (screen, format) =>
      Effect.zipWith(admin.jobs(request), storeNow, ({ jobs, next }, now) => {
        last = { rows: jobs.length, next }
        return Output.linesOf(
          format,
          {
            kind: "jobs",
            rows: jobs,
            columns: JobView.columns(now),
            toJson: JobView.toJson,
            extra: { next: next ?? null },
            empty
          },
          screen
        )
      })
    )
    // The table has said it
    if (last.rows === 0) return yield* nothing(output === "table" ? "" : empty)
    yield* Paging.noteNext(output, last.next)
  })
).pipe(
  Command.withDescription(
    "Finds jobs, newest first. All filters that are given must hold. Exit code 3 when nothing matches. Payloads are never " +
      "shown here; see `inspect job`."
  ),
  Command.withShortDescription("Find jobs"),
  Command.withExamples([
    { command: "polyqueue inspect jobs --status failed --type SendEmail --newer-than 1h" },
    { command: "polyqueue inspect jobs --timed-out", description: "Running past their timeout" },
    { command: "polyqueue inspect jobs --stale-progress 5m", description: "Running, silent for 5 minutes" },
    { command: "polyqueue inspect jobs -s failed -o jsonl | jq -r .id", description: "Ids, for a pipe" }
  ])
)
