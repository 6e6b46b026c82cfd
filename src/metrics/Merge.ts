/** Several sinks of metric events beside each other: each gets every event, and one that throws does not disturb the others. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { MetricEvent } from "./MetricEvent.ts"

/** What receives events. */
export interface Sink {
  readonly enabled: boolean
  readonly record: (event: MetricEvent) => void
}

/** Builds all layers and answers one sink over those that are enabled. */
export const make = Effect.fnUntraced(function* <Id, E, R>(
  key: Context.Key<Id, Sink>,
  layers: ReadonlyArray<Layer.Layer<Id, E, R>>
) {
  const sinks = yield* Effect.forEach(layers, (layer) =>
    Effect.map(Layer.build(layer), (built) => Context.get(built, key))
  )
  const enabled = sinks.filter((sink) => sink.enabled)
  const run = Effect.runForkWith(yield* Effect.context<never>())
  const complained = new Set<Sink>()
  const record = (event: MetricEvent): void => {
    for (const sink of enabled) {
      try {
        sink.record(event)
      } catch (thrown) {
        // Once per sink: it is called for every event, and says the same each time
        if (complained.has(sink)) continue
        complained.add(sink)
        run(Effect.logError(`a Metrics layer threw for the event ${event._tag}; the others go on`, thrown))
      }
    }
  }
  return { enabled: enabled.length > 0, record } satisfies Sink
})
