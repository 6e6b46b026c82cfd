/**
 * Runs an effect with loggers, a tracer and metrics that keep everything: what was said, in every form that a logger could
 * give it, for tests that look for what must not be said, or must not be said like that.
 */
import { assert } from "@effect/vitest"
import { Cause, Effect, Exit, Logger, Metric, References, Tracer } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { inspect } from "node:util"

/** What nobody may ever see. */
export const canary = "c4n4ryS3cret"

/** Fails, and shows where, when `text` has the canary. */
export const hides = (text: string, what: string): void => {
  const at = text.indexOf(canary)
  assert.strictEqual(at, -1, `${what}: ${text.slice(Math.max(0, at - 300), at + 60)}`)
}

export interface Overheard<A, E> {
  readonly exit: Exit.Exit<A, E>
  /** Everything, one after another. */
  readonly text: string
  /** Log lines of formats that write one line per entry. */
  readonly lines: ReadonlyArray<string>
  /** The messages alone, as they were logged: what no format has escaped. Values that are no text, as JSON. */
  readonly messages: ReadonlyArray<string>
  readonly spans: ReadonlyArray<Tracer.NativeSpan>
  readonly metrics: string
}

/** Everything a value can be turned into. */
export const shapes = (value: unknown): string =>
  [
    String(value),
    inspect(value, { depth: 20, showHidden: true }),
    JSON.stringify(value) ?? "",
    value instanceof Error ? `${value.message} ${value.stack} ${inspect(value.cause, { depth: 20 })}` : ""
  ].join("\n")

export const overhear = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const said: Array<string> = []
    const lines: Array<string> = []
    const messages: Array<string> = []
    const spans: Array<Tracer.NativeSpan> = []
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    const registry = new Map()
    const exit = yield* Effect.exit(effect).pipe(
      Effect.provideService(Tracer.Tracer, tracer),
      Effect.provideService(Metric.MetricRegistry, registry),
      Effect.provideService(References.MinimumLogLevel, "All"),
      Effect.provide(
        Logger.layer([
          Logger.make(({ message }) => {
            for (const part of [message].flat()) messages.push(typeof part === "string" ? part : JSON.stringify(part))
          }),
          Logger.map(Logger.formatStructured, (entry) => void said.push(shapes(entry))),
          Logger.map(Logger.formatSimple, (entry) => void said.push(entry)),
          Logger.map(Logger.formatLogFmt, (line) => void lines.push(line)),
          Logger.map(Logger.formatJson, (line) => void lines.push(line))
        ])
      )
    )
    const metrics = yield* Effect.provideService(PrometheusMetrics.format(), Metric.MetricRegistry, registry)
    if (Exit.isFailure(exit)) said.push(Cause.pretty(exit.cause), shapes(exit))
    for (const span of spans) {
      said.push(`${span.name} ${inspect([...span.attributes])} ${inspect(span.events, { depth: 20 })}`)
      // What exporters say of the end: nothing of a success, all of a failure
      if (span.status._tag === "Ended" && Exit.isFailure(span.status.exit))
        said.push(shapes(span.status.exit), Cause.pretty(span.status.exit.cause))
    }
    const text = [...said, ...lines, metrics].join("\n")
    return { exit, text, lines, messages, spans, metrics } satisfies Overheard<A, E>
  })
