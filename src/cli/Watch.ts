/**
 * `--watch`: shows the same thing again and again, until interrupted. On a terminal it redraws in place; elsewhere each look
 * is written below the one before, in JSON one line per row.
 */
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Stdio from "effect/Stdio"
import * as Terminal from "effect/Terminal"
import * as Arguments from "./Arguments.ts"
import * as Output from "./Output.ts"

/** `--watch`, `--watch=5s`: milliseconds between two looks. */
export const flag = Flag.String("watch").pipe(
  Flag.withOptionalValue("2s"),
  Flag.mapEffect((text) => Arguments.span("--watch", text, 100)),
  Flag.withMetavar("SPAN"),
  Flag.withDescription("Show it again every 2 s, or --watch=5s; end with Ctrl-C"),
  Flag.optional
)

const home = "\u001b[H"
const clearLine = "\u001b[K"
const clearBelow = "\u001b[J"

/** Prints what `look` answers, once or for ever. */
export const run = <E, R>(
  every: Option.Option<number>,
  format: Output.Format,
  look: (screen: Output.Screen, format: Output.Format) => Effect.Effect<ReadonlyArray<string>, E, R>
): Effect.Effect<void, E, R | Stdio.Stdio | Terminal.Terminal> =>
  Effect.gen(function* () {
    const screen = yield* Output.screen
    if (Option.isNone(every)) return yield* Effect.flatMap(look(screen, format), Output.print)
    const terminal = yield* Terminal.Terminal
    const inPlace = format === "table" && screen.canAnimate
    // A stream of documents can only be read line by line
    const shape = format === "json" ? "jsonl" : format
    if (inPlace) yield* Effect.orDie(terminal.display(`\u001b[2J${home}`))
    const tick = Effect.gen(function* () {
      const lines = yield* look(yield* Output.screen, shape)
      if (!inPlace) return yield* Console.log((shape === "table" ? [...lines, ""] : lines).join("\n"))
      const rows = yield* terminal.rows
      const shown = rows > 1 ? lines.slice(0, rows - 1) : lines
      yield* Effect.orDie(terminal.display(home + shown.map((line) => line + clearLine + "\n").join("") + clearBelow))
    })
    return yield* Effect.forever(Effect.andThen(tick, Effect.sleep(Duration.millis(every.value))))
  })
