/** `polyqueue settings`: every setting, its value (never a secret) and where that comes from. Connects to nothing. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as PolyqueueConfig from "../config/PolyqueueConfig.ts"
import { fromConfigError } from "./Failure.ts"
import * as Output from "./Output.ts"

const changed = Flag.Boolean("changed").pipe(
  Flag.withDescription("Only those that are not at their default"),
  Flag.withoutNegation,
  Flag.withDefault(false)
)

const docs = Flag.Boolean("docs").pipe(
  Flag.withDescription("What each of them does, too"),
  Flag.withoutNegation,
  Flag.withDefault(false)
)

export const command = Command.make(
  "settings",
  { changed, docs, output: Output.flag },
  Effect.fnUntraced(function* ({ changed, docs, output }) {
    const all = yield* Effect.mapError(PolyqueueConfig.explain(), fromConfigError)
    const rows = changed ? all.filter(({ source }) => source !== "default") : all
    const screen = yield* Output.screen
    yield* Output.print(
      Output.linesOf(
        output,
        {
          kind: "settings",
          rows,
          columns: (style) => [
            { title: "VARIABLE", cell: ({ variable }) => variable },
            {
              title: "VALUE",
              cell: ({ value }) => value,
              paint: ({ source }) => (source === "default" ? style.faint : undefined)
            },
            { title: "SOURCE", cell: ({ source }) => source },
            { title: "NOTE", cell: ({ note }) => note, flexible: true },
            ...(docs ? [{ title: "MEANING", cell: ({ doc }: PolyqueueConfig.Explained) => doc, flexible: true }] : [])
          ],
          toJson: ({ doc, note, source, value, variable }) => ({
            variable,
            value: value ?? null,
            source,
            note: note ?? null,
            doc
          }),
          empty: "all settings are at their defaults"
        },
        screen
      )
    )
    const unknown = yield* Effect.mapError(PolyqueueConfig.unknownVariables, fromConfigError)
    yield* Effect.forEach(unknown, Output.note, { discard: true })
  })
).pipe(
  Command.withDescription(
    "Every POLYQUEUE_* setting as this process sees it: value, where it comes from, and what has no effect. Secrets are hidden. " +
      "Exit code 2 when a setting is wrong; all that is wrong is said at once."
  ),
  Command.withShortDescription("Every setting, its value and where that comes from"),
  Command.withExamples([
    { command: "polyqueue settings --changed" },
    { command: "polyqueue settings --docs", description: "What each of them does" }
  ])
)
