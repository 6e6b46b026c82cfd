/** How far a long action is: one line on stderr that rewrites itself. Nothing when stderr is not a terminal. */
import * as Clock from "effect/Clock"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Effect from "effect/Effect"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Visible from "./Visible.ts"

export interface ProgressLine {
  /** Shows this text; at most ten times a second. */
  readonly show: (text: string) => Effect.Effect<void>
  /** Removes the line, so that what follows is not written into it. */
  readonly clear: Effect.Effect<void>
}

const interval = 100

/** A line on this process's stderr. */
export const make = Effect.gen(function* (): Effect.fn.Return<ProgressLine, never, Stdio.Stdio> {
  const stdio = yield* Stdio.Stdio
  const { canAnimate } = yield* TerminalCapabilities.TerminalCapabilities
  if (!canAnimate || !(yield* stdio.stderrIsTerminal)) return { show: () => Effect.void, clear: Effect.void }
  const write = (text: string) => Effect.orDie(Stream.run(Stream.succeed(text), stdio.stderr()))
  let last = -interval
  return {
    show: (text) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        if (now - last < interval) return Effect.void
        last = now
        return write(`\r${Visible.line(text)}\u001b[K`)
      }),
    clear: write("\r\u001b[K")
  }
})
