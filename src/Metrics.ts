/**
 * Every transition, counted and timed: one event per transition, at one place. `layerNoop` drops them, `layerEffect`
 * keeps Effect `Metric`s, which the exporters of `polyqueue/metrics` read, `layerCloudWatch` writes the embedded metric
 * format on stdout. A layer of your own gets the same events, alone or beside ours.
 *
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { Metrics } from "polyqueue"
 *
 * let failures = 0
 * const Mine = Layer.succeed(Metrics, {
 *   enabled: true,
 *   record: (event) => {
 *     if (event._tag === "Ended" && event.outcome === "failed") failures++
 *   }
 * })
 * const Both = Metrics.layerMerge(Metrics.layerEffect, Mine)
 * ```
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as CloudWatchMetrics from "./metrics/CloudWatchMetrics.ts"
import * as EffectMetrics from "./metrics/EffectMetrics.ts"
import * as Merge from "./metrics/Merge.ts"

export type { MetricEvent } from "./metrics/MetricEvent.ts"

/** The port. `record` is called synchronously on hot paths: it must not throw and should not block. */
export class Metrics extends Context.Service<Metrics, Merge.Sink>()("polyqueue/Metrics") {
  /** Drops everything, at no cost. */
  static readonly layerNoop: Layer.Layer<Metrics> = Layer.succeed(Metrics, { enabled: false, record: () => {} })

  /** Effect `Metric`s in the current registry; names follow the OpenTelemetry messaging conventions. */
  static readonly layerEffect: Layer.Layer<Metrics> = Layer.effect(Metrics, EffectMetrics.make)

  /** CloudWatch's embedded metric format: lines of JSON through Effect's `Console`, once a minute and at the end. */
  static readonly layerCloudWatch: Layer.Layer<Metrics> = Metrics.layerCloudWatchWith({})

  /** The same with a namespace, dimensions, or an interval of your own. */
  static layerCloudWatchWith(options: CloudWatchMetrics.Options): Layer.Layer<Metrics> {
    return Layer.effect(Metrics, CloudWatchMetrics.make(options))
  }

  /** All of these beside each other: each gets every event. One that throws is reported once, and disturbs no other. */
  static layerMerge<E = never, R = never>(
    ...layers: ReadonlyArray<Layer.Layer<Metrics, E, R>>
  ): Layer.Layer<Metrics, E, R> {
    return Layer.effect(Metrics, Merge.make(Metrics, layers))
  }
}
