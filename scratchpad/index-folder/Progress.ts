/**
 * What is going on, for people: counted from the events of the `Metrics` port (any layer of your own gets them), drawn on
 * standard error. A few lines drawn again and again in a terminal; now and then a plain line elsewhere; nothing with
 * `--json` unless it is a terminal.
 */
import { Clock, Context, Effect, Layer, Logger, References, type Scope } from "effect"
import { type MetricEvent, Metrics } from "../../src/index.ts"
import * as Show from "./Show.ts"

interface Counts {
  /** Jobs of this run that are in the database. */
  total: number
  /** Jobs that ended, and how many of them failed. */
  done: number
  failed: number
  running: number
  retries: number
}

export interface View {
  readonly counts: Counts
  /** Says what the program does now. */
  readonly phase: (phase: string) => Effect.Effect<void>
  /** No more files will come. */
  readonly allFound: Effect.Effect<void>
  /** Takes the drawing away, for good: what follows is written below. */
  readonly end: Effect.Effect<void>
}

export class Progress extends Context.Service<Progress, View>()("index-folder/Progress") {}

/** The view, the `Metrics` that feed it, and a logger that does not write into it. */
export const layer = (options: { readonly title: string; readonly quiet: boolean }) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const view = yield* make(options)
      return Layer.mergeAll(
        Layer.succeed(Progress, view),
        Layer.succeed(Metrics, { enabled: true, record: (event) => tally(view.counts, event) }),
        Logger.layer([
          Logger.make(({ date, logLevel, message }) => {
            const text = Array.isArray(message) ? message.map(String).join(" ") : String(message)
            view.write(`${date.toISOString()} ${logLevel}: ${Show.name(text)}\n`)
          })
        ]),
        Layer.succeed(References.MinimumLogLevel, "Warn")
      )
    })
  )

const tally = (counts: Counts, event: MetricEvent) => {
  if (event._tag === "Enqueued") counts.total += event.count + event.duplicates
  if (event._tag === "Started") counts.running++
  if (event._tag !== "Ended" && event._tag !== "Reaped") return
  if (event._tag === "Ended") counts.running--
  if (event.final) {
    counts.done++
    if (event.outcome !== "succeeded") counts.failed++
  } else if (event.outcome !== "released") counts.retries++
}

const drawEvery = "100 millis"
/** Milliseconds between two plain lines. */
const lineEvery = 2_000
const barWidth = 42

const make = Effect.fnUntraced(function* (options: {
  readonly title: string
  readonly quiet: boolean
}): Effect.fn.Return<View & { readonly write: (text: string) => void }, never, Scope.Scope> {
  const screen = process.stderr
  const live = screen.isTTY && process.env["TERM"] !== "dumb"
  const style = Show.styles(screen)
  const counts: Counts = { total: 0, done: 0, failed: 0, running: 0, retries: 0 }
  let started: number | undefined
  let phase = ""
  let foundAll = false
  let ended = false
  /** Lines on the screen that the next drawing replaces. */
  let drawn = 0
  let lastLine = 0

  const erase = () => {
    // Column 1 first: a ^C that the terminal echoed has moved the cursor
    if (drawn > 0) screen.write(`\r\u001b[${drawn}A\u001b[J`)
    drawn = 0
  }
  const write = (text: string) => {
    erase()
    screen.write(text)
  }
  const numbers = (now: number) => {
    const speed = counts.done / Math.max(0.1, (now - (started ?? now)) / 1000)
    return [
      `${Show.count(Math.round(speed))} files/s`,
      ...(counts.running > 0 ? [`${counts.running} running`] : []),
      ...(counts.retries > 0
        ? [style("yellow", Show.plural(counts.retries, "retry").replace("retrys", "retries"))]
        : []),
      ...(counts.failed > 0 ? [style("red", `${Show.count(counts.failed)} failed`)] : [])
    ].join("   ")
  }
  const share = () => `${Show.count(counts.done)} of ${Show.count(counts.total)}${foundAll ? "" : "+"} files`
  const draw = (now: number) => {
    const full = counts.total === 0 ? 0 : Math.min(barWidth, Math.floor((barWidth * counts.done) / counts.total))
    const bar = style("green", "━".repeat(full)) + style("dim", "━".repeat(barWidth - full))
    const head = `${style("bold", options.title)}  ${style("dim", phase)}`
    const lines =
      started === undefined
        ? [head]
        : [head, `${bar}  ${Show.percent(counts.done, counts.total).padStart(5)}   ${share()}`, numbers(now)]
    erase()
    // Long lines are cut by the terminal, not wrapped: the number of lines stays known
    screen.write(`\u001b[?7l${lines.join("\n")}\n\u001b[?7h`)
    drawn = lines.length
  }
  const tick = Effect.map(Clock.currentTimeMillis, (now) => {
    if (ended) return
    if (started === undefined && counts.total > 0) started = now
    if (live) return draw(now)
    if (started === undefined || now - lastLine < lineEvery) return
    lastLine = now
    screen.write(`${share()}   ${numbers(now)}\n`)
  })

  const silent = options.quiet && !live
  if (!silent) {
    yield* Effect.forkScoped(Effect.forever(Effect.delay(tick, drawEvery)))
  }
  const end = Effect.sync(() => {
    ended = true
    erase()
  })
  yield* Effect.addFinalizer(() => end)
  return {
    counts,
    write,
    phase: (text) =>
      Effect.andThen(
        Effect.sync(() => {
          phase = text
          if (!live && !silent && !ended) screen.write(`${options.title}: ${text}\n`)
        }),
        live ? tick : Effect.void
      ),
    allFound: Effect.sync(() => {
      foundAll = true
    }),
    end
  }
})
