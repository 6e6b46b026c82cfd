/**
 * Every transition, counted and timed: one event per transition, at one place. `layerNoop` drops them, `layerEffect`
 * keeps Effect `Metric`s, which Prometheus and OTLP exporters read. A layer of your own gets the same events:
 * `Layer.succeed(Metrics, { enabled: true, record: (event) => … })`.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as EffectMetrics from "./metrics/EffectMetrics.ts"
import type { MetricEvent } from "./metrics/MetricEvent.ts"

export type { MetricEvent } from "./metrics/MetricEvent.ts"

/** The port. `record` is called synchronously on hot paths: it must not throw and should not block. */
export class Metrics extends Context.Service<
  Metrics,
  {
    /** `false`: events are not even built. */
    readonly enabled: boolean
    readonly record: (event: MetricEvent) => void
  }
>()("polyqueue/Metrics") {
  /** Drops everything, at no cost. */
  static readonly layerNoop: Layer.Layer<Metrics> = Layer.succeed(Metrics, { enabled: false, record: () => {} })

  /** Effect `Metric`s in the current registry; names follow the OpenTelemetry messaging conventions. */
  static readonly layerEffect: Layer.Layer<Metrics> = Layer.effect(Metrics, EffectMetrics.make)
}
