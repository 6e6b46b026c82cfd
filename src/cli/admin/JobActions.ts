/**
 * `admin requeue|fail|cancel|run-now|purge`: one action on some jobs, by ids or by filter. By filter it says how many jobs it
 * is about and asks; `--dry-run` only says it. Every change is in the audit log.
 */
import * as Argument from "effect/cli/Argument"
import * as CliError from "effect/cli/CliError"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { Admin } from "../../Admin.ts"
import type { ActionReport, Preview, Selection } from "../../admin/AdminService.ts"
import type { JobAction } from "../../store/JobStoreDriver.ts"
import * as Arguments from "../Arguments.ts"
import * as By from "../By.ts"
import * as Confirm from "../Confirm.ts"
import { nothing, refused } from "../Failure.ts"
import * as Filters from "../Filters.ts"
import { StoreNow } from "../Operator.ts"
import * as Output from "../Output.ts"
import * as ProgressLine from "../ProgressLine.ts"
import * as Spans from "../Spans.ts"
import * as JobView from "../views/JobView.ts"

/** How an action is spoken of. */
interface Words {
  readonly name: string
  /** `3 jobs requeued`. */
  readonly done: string
  readonly description: string
  readonly short: string
  readonly examples: ReadonlyArray<Command.Command.Example>
  /** Asks also when the jobs are named by their ids. */
  readonly alwaysAsks: boolean
}

const ids = Argument.String("id").pipe(
  Argument.withDescription("Job ids; - reads them from stdin, one per line"),
  Argument.mapEffect((text) => (text === "-" ? Effect.succeed(text) : Arguments.jobId("id", text, "argument"))),
  Argument.variadic()
)

const all = Flag.Boolean("all").pipe(
  Flag.withDescription("All jobs that it can be done to, instead of ids or a filter"),
  Flag.withoutNegation,
  Flag.withDefault(false)
)

const wrong = (message: string) => Effect.fail(new CliError.ValidationError({ message }))

/** Ids of stdin, one per line. */
const fromStdin = Effect.gen(function* () {
  const stdio = yield* Stdio.Stdio
  const text = yield* Effect.orDie(stdio.stdin.pipe(Stream.decodeText, Stream.mkString))
  const words = text.split(/\s+/).filter((word) => word !== "")
  return yield* Effect.forEach(words, (word) => Arguments.jobId("id", word, "argument"))
})

const jobs = (count: number): string => `${Spans.count(count)} ${count === 1 ? "job" : "jobs"}`

const describeCount = (preview: Preview, words: Words): string => `${jobs(preview.count)} would be ${words.done}`

const restLines = (rest: ReadonlyArray<{ readonly id: string; readonly outcome: string }>): ReadonlyArray<string> => {
  const why: Readonly<Record<string, string>> = {
    missing: "there is no such job",
    ineligible: "its status does not allow it",
    keyTaken: "another job holds its unique key",
    changed: "it does not match any more",
    locked: "somebody holds its row right now: try again"
  }
  return rest.slice(0, 20).map(({ id, outcome }) => `not done: ${id}: ${why[outcome] ?? outcome}`)
}

/** Everything that was named is missing: 3. Nothing could be done, or not all that was named by id: 4. */
const outcomeOf = (selection: Selection, report: Pick<ActionReport, "done" | "rest">) => {
  if (report.done === 0 && report.rest.every(({ outcome }) => outcome === "missing" || outcome === "changed")) {
    return nothing(report.rest.length === 0 ? "nothing matched" : "")
  }
  return report.done === 0 || ("ids" in selection && report.rest.length > 0) ? refused("") : undefined
}

const reportToJson = (report: ActionReport) => ({
  action: report.action,
  operation: report.operation,
  done: report.done,
  outcomes: report.outcomes,
  rest: report.rest
})

const make = (action: JobAction, words: Words) =>
  Command.make(
    words.name,
    {
      ids,
      all,
      ...Filters.flags,
      limit: Flag.Int("limit").pipe(
        Flag.filter(
          (value) => value >= 1,
          (value) => `Expected at least 1, got ${value}`
        ),
        Flag.withDescription("At most this many jobs"),
        Flag.optional
      ),
      dryRun: Confirm.dryRun,
      yes: Confirm.yes,
      ...By.flags,
      output: Output.flag
    },
    Effect.fnUntraced(function* ({ all, as, dryRun, ids: given, limit, output, reason, yes, ...filters }) {
      const admin = yield* Admin
      const named = given.flatMap((id) => (id === "-" ? [] : [id]))
      const piped = given.includes("-") ? yield* fromStdin : []
      const byIds = given.length > 0
      const selection: Selection = byIds
        ? { ids: [...new Set([...named, ...piped])] }
        : { where: Filters.toWhere(filters) }
      if (byIds && piped.length + named.length === 0) return yield* nothing("no ids on stdin")
      const said = byIds ? "by id" : all ? "--all" : Filters.describe(filters)
      const asks = !yes && (words.alwaysAsks || !byIds)
      if (dryRun || asks) {
        const preview = yield* admin.preview(action, selection)
        if (dryRun) return yield* showPreview(preview, words, output)
        if (preview.count === 0 && preview.rest.length === 0) return yield* nothing(`nothing matched (${said})`)
        yield* Confirm.confirm(false, `${describeCount(preview, words)} (${said}).`)
      }
      const progress = yield* ProgressLine.make
      const report = yield* admin[action](selection, {
        ...By.toBy({ as, reason }),
        limit: Option.getOrUndefined(limit),
        onProgress: ({ done, seen }) =>
          progress.show(`${Spans.count(done)} ${words.done}, ${Spans.count(seen)} looked at`)
      }).pipe(Effect.ensuring(progress.clear))
      if (output === "table") {
        yield* Console.log(`${jobs(report.done)} ${words.done}`)
        for (const text of restLines(report.rest)) yield* Output.note(text)
        if (report.rest.length > 20) yield* Output.note(`and ${Spans.count(report.rest.length - 20)} more not done`)
      } else yield* Output.printDocument(output, { report: reportToJson(report) })
      const failure = outcomeOf(selection, report)
      if (failure !== undefined) return yield* failure
    })
  ).pipe(
    Command.validate((parsed) => {
      const hasFilter = !Filters.isEmpty(parsed)
      if (parsed.ids.length > 0 && (hasFilter || parsed.all)) return wrong("Give ids, or a filter, not both")
      if (parsed.all && hasFilter) return wrong("--all and a filter contradict each other")
      return parsed.ids.length === 0 && !hasFilter && !parsed.all
        ? wrong("Say which jobs: ids, a filter such as --status or --type, or --all")
        : Effect.void
    }),
    Command.withDescription(words.description),
    Command.withShortDescription(words.short),
    Command.withExamples(words.examples)
  )

const showPreview = Effect.fnUntraced(function* (preview: Preview, words: Words, output: Output.Format) {
  const now = yield* yield* StoreNow
  const screen = yield* Output.screen
  if (output === "table") {
    yield* Output.print([
      `${describeCount(preview, words)}${preview.sample.length < preview.count ? "; the newest:" : ":"}`
    ])
  }
  yield* Output.print(
    Output.linesOf(
      output,
      {
        kind: "sample",
        rows: preview.sample,
        columns: JobView.columns(now),
        toJson: JobView.toJson,
        extra: { dryRun: { action: preview.action, count: preview.count, rest: preview.rest } },
        empty: "none"
      },
      screen
    )
  )
  for (const text of restLines(preview.rest)) yield* Output.note(text)
  if (preview.count === 0) return yield* nothing("")
})

const example = "01890a5d-ac96-774b-bcce-b302099a8057"

export const requeue = make("requeue", {
  name: "requeue",
  done: "requeued",
  alwaysAsks: false,
  short: "Run ended jobs again",
  description:
    "Runs ended jobs again: due now, published on whatever broker there is, with fresh budgets; counters and attempts stay.",
  examples: [
    { command: `polyqueue admin requeue ${example}` },
    { command: "polyqueue admin requeue --status failed --type SendEmail --newer-than 1d --reason 'SMTP is back'" },
    { command: "polyqueue admin requeue --status failed --dry-run", description: "How many, and which" },
    { command: "polyqueue inspect jobs -s failed -o jsonl | jq -r .id | polyqueue admin requeue -" }
  ]
})

export const fail = make("fail", {
  name: "fail",
  done: "failed",
  alwaysAsks: true,
  short: "End live jobs as failed",
  description:
    "Ends live jobs as failed at once. A running handler is interrupted when its worker next renews its lease.",
  examples: [{ command: `polyqueue admin fail ${example} --reason 'wrong customer'` }]
})

export const cancel = make("cancel", {
  name: "cancel",
  done: "cancelled or asked to stop",
  alwaysAsks: false,
  short: "Cancel live jobs",
  description:
    "Cancels live jobs: queued ones end at once, running ones are asked to stop and end as cancelled when their handler has.",
  examples: [
    { command: `polyqueue admin cancel ${example}` },
    { command: "polyqueue admin cancel --status queued --queue import --older-than 1d" }
  ]
})

export const runNow = make("runNow", {
  name: "run-now",
  done: "made due now",
  alwaysAsks: false,
  short: "Make waiting jobs due now",
  description:
    "Makes queued jobs due now, whatever they wait for: a delay, a retry, a snooze. A pause still holds them.",
  examples: [{ command: "polyqueue admin run-now --type SendEmail" }]
})

export const purge = make("purge", {
  name: "purge",
  done: "deleted",
  alwaysAsks: true,
  short: "Delete ended jobs",
  description: "Deletes ended jobs, for good. Their attempts and audit entries stay. Retention does this by itself.",
  examples: [
    { command: "polyqueue admin purge --status succeeded --ended-for 7d --dry-run" },
    { command: "polyqueue admin purge --status cancelled --yes" }
  ]
})
