/** `polyqueue explain <id>`: why is this job not running, and when could it? By the predicates of the claim itself. */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { Admin } from "../Admin.ts"
import type { Explanation, Reason } from "../admin/Explain.ts"
import * as Arguments from "./Arguments.ts"
import * as Operator from "./Operator.ts"
import * as Output from "./Output.ts"
import * as Spans from "./Spans.ts"
import { ofStatus, type Style } from "./Style.ts"
import * as Watch from "./Watch.ts"

const instants = new Set(["until", "since", "at"])

const reasonToJson = (reason: Reason) =>
  Object.fromEntries(
    Object.entries(reason).map(([name, value]) => [
      name,
      instants.has(name) ? Output.instant(typeof value === "number" ? value : undefined) : (value ?? null)
    ])
  )

const toJson = (explanation: Explanation) => ({
  id: explanation.id,
  type: explanation.type,
  queue: explanation.queue,
  status: explanation.status,
  now: Output.instant(explanation.now),
  earliest: Output.instant(explanation.earliest),
  reasons: explanation.reasons.map(reasonToJson)
})

const earliest = ({ earliest, now, status }: Explanation): string | undefined => {
  if (status !== "queued") return undefined
  if (earliest === undefined) return "not by itself: somebody has to do something first"
  return earliest <= now ? "now" : `${Spans.ago(earliest, now)}, if nothing else happens`
}

const pairs = (explanation: Explanation) => (style: Style) =>
  [
    ["job", `${explanation.type} in queue ${explanation.queue}`],
    ["status", explanation.status, ofStatus(style, explanation.status)],
    ...explanation.reasons.map((reason, i) => {
      const until = reason.until === undefined ? "" : ` (ends ${Spans.ago(reason.until, explanation.now)})`
      return [i === 0 ? "because" : "and", reason.message + until] as const
    }),
    ["could start", earliest(explanation)]
  ] as const

export const command = Command.make(
  "explain",
  { id: Arguments.id, output: Output.flag, watch: Watch.flag },
  Effect.fnUntraced(function* ({ id, output, watch }) {
    const admin = yield* Admin
    yield* Watch.run(watch, output, (screen, format) =>
      Effect.map(admin.explain(id), (explanation) =>
        Output.detailLines(
          format,
          { kind: "explanation", toJson: () => toJson(explanation), pairs: pairs(explanation) },
          screen
        )
      )
    )
  })
).pipe(
  Command.withDescription(
    "Says why a job is not running and when it could: not due, paused, no worker for its type, all slots busy, ended. Asks " +
      "with the predicates of the claim. Exit code 3 when there is no such job."
  ),
  Command.withShortDescription("Why is this job not running, and when could it"),
  Command.withExamples([{ command: "polyqueue explain 01890a5d-ac96-774b-bcce-b302099a8057 --watch" }]),
  Command.provide(Operator.layer)
)
