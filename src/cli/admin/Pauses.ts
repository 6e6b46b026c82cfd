/** `admin pause|resume`: stops and restarts the claiming of a queue, a job type, or everything. Running jobs go on. */
import * as Argument from "effect/cli/Argument"
import * as CliError from "effect/cli/CliError"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Admin } from "../../Admin.ts"
import * as Arguments from "../Arguments.ts"
import * as By from "../By.ts"
import { nothing, usage } from "../Failure.ts"
import { StoreNow } from "../Operator.ts"
import * as Output from "../Output.ts"
import * as Spans from "../Spans.ts"
import * as Visible from "../Visible.ts"
import * as QueueView from "../views/QueueView.ts"

const target = {
  queue: Argument.String("queue").pipe(Argument.withDescription("Queue"), Argument.optional),
  type: Flag.String("type").pipe(
    Flag.withAlias("t"),
    Flag.withDescription("A job type: in this queue, or in all of them"),
    Flag.optional
  ),
  all: Flag.Boolean("all").pipe(
    Flag.withDescription("Everything there is"),
    Flag.withoutNegation,
    Flag.withDefault(false)
  )
}

interface Target {
  readonly queue: Option.Option<string>
  readonly type: Option.Option<string>
  readonly all: boolean
}

const check = ({ all, queue, type }: Target) => {
  const named = Option.isSome(queue) || Option.isSome(type)
  return all === named
    ? Effect.fail(
        new CliError.ValidationError({
          message: all ? "--all and a queue or type contradict each other" : "Say what: a queue, --type, or --all"
        })
      )
    : Effect.void
}

const nameOf = ({ all, queue, type }: Target): string =>
  all
    ? "everything"
    : Option.match(type, {
        onNone: () => `queue ${Option.getOrElse(queue, () => "")}`,
        onSome: (type) =>
          `type ${type} in ${Option.match(queue, { onNone: () => "all queues", onSome: (queue) => `queue ${queue}` })}`
      })

export const pause = Command.make(
  "pause",
  {
    ...target,
    for: Flag.String("for").pipe(
      Flag.withMetavar("SPAN"),
      Flag.withDescription("Ends by itself after this long: 30m, 2h; if left out, somebody must resume it"),
      Flag.mapEffect((text) => Arguments.span("--for", text, 1)),
      Flag.optional
    ),
    until: Flag.Date("until").pipe(
      Flag.withDescription("Ends by itself then: an ISO 8601 date and time"),
      Flag.optional
    ),
    ...By.flags,
    output: Output.flag
  },
  Effect.fnUntraced(function* ({ all, as, for: duration, output, queue, reason, type, until }) {
    const admin = yield* Admin
    if (Option.isSome(until) && until.value.getTime() <= (yield* yield* StoreNow)) {
      return yield* usage("--until is in the past by the clock of the database")
    }
    const options = {
      ...By.toBy({ as, reason }),
      ...(Option.isSome(duration) ? { duration: duration.value } : {}),
      ...(Option.isSome(until) ? { until: until.value } : {})
    }
    const made = yield* Option.match(type, {
      onSome: (type) => admin.pauseType(type, { ...options, queue: Option.getOrUndefined(queue) }),
      onNone: () => (Option.isSome(queue) ? admin.pauseQueue(queue.value, options) : admin.pauseAll(options))
    })
    if (output !== "table") return yield* Output.printDocument(output, { pause: QueueView.pauseToJson(made) })
    const now = yield* yield* StoreNow
    const end = made.until === undefined ? "until it is resumed" : `for ${Spans.show(Math.max(0, made.until - now))}`
    yield* Console.log(Visible.line(`${nameOf({ all, queue, type })} paused ${end}; running jobs go on`))
  })
).pipe(
  Command.validate((parsed) =>
    Option.isSome(parsed.for) && Option.isSome(parsed.until)
      ? Effect.fail(new CliError.ValidationError({ message: "--for and --until are mutually exclusive" }))
      : check(parsed)
  ),
  Command.withDescription(
    "No worker claims anything more of a queue, a job type, or at all. Running jobs go on. Replaces an earlier pause of the same."
  ),
  Command.withShortDescription("Stop claiming from a queue, a type, or everything"),
  Command.withExamples([
    { command: "polyqueue admin pause mail --for 30m --reason 'SMTP is down'" },
    { command: "polyqueue admin pause --type SendEmail", description: "In all queues" },
    { command: "polyqueue admin pause --all --reason 'database upgrade'" }
  ])
)

export const resume = Command.make(
  "resume",
  { ...target, ...By.flags, output: Output.flag },
  Effect.fnUntraced(function* ({ all, as, output, queue, reason, type }) {
    const admin = yield* Admin
    const by = By.toBy({ as, reason })
    const ended = yield* Option.match(type, {
      onSome: (type) => admin.resumeType(type, { ...by, queue: Option.getOrUndefined(queue) }),
      onNone: () => (Option.isSome(queue) ? admin.resumeQueue(queue.value, by) : admin.resumeAll(by))
    })
    if (output !== "table") yield* Output.printDocument(output, { resumed: ended })
    const name = nameOf({ all, queue, type })
    if (!ended) return yield* nothing(`${name} was not paused; \`polyqueue inspect queues\` shows what is`)
    if (output === "table") yield* Console.log(Visible.line(`${name} resumed`))
  })
).pipe(
  Command.validate((parsed) => check(parsed)),
  Command.withDescription("Ends a pause of exactly this queue, type, or everything. Exit code 3 when there was none."),
  Command.withShortDescription("End a pause"),
  Command.withExamples([
    { command: "polyqueue admin resume mail" },
    { command: "polyqueue admin resume mail --type SendEmail" },
    { command: "polyqueue admin resume --all" }
  ])
)
