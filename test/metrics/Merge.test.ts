/** Several sinks beside each other. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Logger, Metric } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { type MetricEvent, Metrics } from "../../src/index.ts"

const event: MetricEvent = { _tag: "LeaseLost", queue: "mail", type: "Send" }

it.effect("a sink of one's own and ours both get every event", () => {
  const mine: Array<MetricEvent> = []
  const Mine = Layer.succeed(Metrics, { enabled: true, record: (event) => mine.push(event) })
  return Effect.gen(function* () {
    const metrics = yield* Metrics
    metrics.record(event)
    assert.deepStrictEqual(mine, [event])
    assert.include(yield* PrometheusMetrics.format(), "polyqueue_leases_lost{")
  }).pipe(
    Effect.provide(Metrics.layerMerge(Metrics.layerNoop, Metrics.layerEffect, Mine)),
    Effect.provideService(Metric.MetricRegistry, new Map())
  )
})

it.effect("nothing is built for sinks that are all off", () =>
  Effect.gen(function* () {
    assert.isFalse((yield* Metrics).enabled)
  }).pipe(Effect.provide(Metrics.layerMerge(Metrics.layerNoop, Metrics.layerNoop)))
)

it.effect("one that throws is reported once and disturbs no other", () => {
  const logged: Array<string> = []
  let got = 0
  const Throws = Layer.succeed(Metrics, {
    enabled: true,
    record: () => {
      throw new Error("boom")
    }
  })
  const Counts = Layer.succeed(Metrics, { enabled: true, record: () => void got++ })
  return Effect.gen(function* () {
    const metrics = yield* Metrics
    for (let i = 0; i < 3; i++) metrics.record(event)
    yield* Effect.yieldNow
    assert.strictEqual(got, 3)
    assert.lengthOf(
      logged.filter((line) => line.includes("a Metrics layer threw")),
      1
    )
  }).pipe(
    Effect.provide(Metrics.layerMerge(Throws, Counts)),
    Effect.provide(Logger.layer([Logger.map(Logger.formatSimple, (line) => void logged.push(line))]))
  )
})
