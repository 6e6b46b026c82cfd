/** `inspect audit`: who did what, when, and what it was before. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Admin } from "../../Admin.ts"
import { nothing } from "../Failure.ts"
import { StoreNow } from "../Operator.ts"
import * as Output from "../Output.ts"
import * as Paging from "../Paging.ts"
import * as AuditView from "../views/AuditView.ts"

const text = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.optional)

const actions = [
  "requeue",
  "fail",
  "cancel",
  "runNow",
  "purge",
  "pause",
  "resume",
  "drainWorker",
  "resumeWorker",
  "stopWorker",
  "setConcurrency"
] as const

export const command = Command.make(
  "audit",
  {
    target: text("target", "Of this job, worker or queue"),
    who: text("who", "By this person or program"),
    action: Flag.Literals("action", actions).pipe(Flag.withDescription("Only this action"), Flag.optional),
    operation: text("operation", "Of this operation: what one command did"),
    limit: Paging.limit,
    after: Flag.Int("after").pipe(
      Flag.withMetavar("ENTRY"),
      Flag.withDescription("Continue after this entry"),
      Flag.optional
    ),
    output: Output.flag
  },
  Effect.fnUntraced(function* ({ action, after, limit, operation, output, target, who }) {
    const admin = yield* Admin
    const now = yield* yield* StoreNow
    const { next, records } = yield* admin.audit({
      target: Option.getOrUndefined(target),
      who: Option.getOrUndefined(who),
      action: Option.getOrUndefined(action),
      operation: Option.getOrUndefined(operation),
      limit,
      after: Option.getOrUndefined(after)
    })
    const empty = "nothing was done that matches"
    const screen = yield* Output.screen
    yield* Output.print(
      Output.linesOf(
        output,
        {
          kind: "audit",
          rows: records,
          columns: AuditView.columns(now),
          toJson: AuditView.toJson,
          extra: { next: next ?? null },
          empty
        },
        screen
      )
    )
    if (records.length === 0) return yield* nothing(output === "table" ? "" : empty)
    yield* Paging.noteNext(output, next)
  })
).pipe(
  Command.withDescription("The log of admin actions, newest first: who, when, what, before, after, why."),
  Command.withShortDescription("Who did what, and when"),
  Command.withExamples([
    { command: "polyqueue inspect audit --target 01890a5d-ac96-774b-bcce-b302099a8057" },
    { command: "polyqueue inspect audit --who ada --action purge" }
  ])
)
