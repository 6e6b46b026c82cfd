/** Spans that connect an enqueue with its attempts, and one event per transition. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Metric, Option, Schedule, Schema, Tracer } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { TestClock } from "effect/testing"
import * as Exporters from "../../src/metrics/Exporters.ts"
import { Broker, Job, JobStore, type MetricEvent, Metrics, Polyqueue, Worker, WorkerRegistry } from "../../src/index.ts"

class Boom extends Schema.TaggedError<Boom>()("Boom", {}) {}
class Flaky extends Job.make("Flaky", {
  payload: { times: Schema.Int },
  error: Boom,
  retry: { schedule: Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 3 })) }
}) {}

let runs = 0
const FlakyLive = Flaky.toLayer(({ times }) => Effect.suspend(() => (++runs <= times ? new Boom() : Effect.void)))

/** Everything in memory, with these metrics. */
const stack = (metrics: Layer.Layer<Metrics>) =>
  Worker.layer([Flaky]).pipe(
    Layer.provide(FlakyLive),
    Layer.provideMerge(Polyqueue.layer),
    Layer.provideMerge(Layer.mergeAll(JobStore.layerMemory, WorkerRegistry.layerMemory, Broker.layerMemory, metrics))
  )

/** The first attempt fails and is settled before the clock moves; afterwards everything has been counted. */
const retryAndEnd = Effect.fnUntraced(function* (job: Job.Handle<void, Boom>) {
  while ((yield* job.poll).attempt === 0 || (yield* job.poll).status === "processing") yield* Effect.yieldNow
  for (let i = 0; i < 10; i++) yield* Effect.yieldNow
  yield* TestClock.adjust("2 seconds")
  yield* job.await
  for (let i = 0; i < 10; i++) yield* Effect.yieldNow
})

interface Recorded {
  readonly name: string
  readonly kind: string
  readonly traceId: string
  readonly spanId: string
  readonly parent: string | undefined
  readonly attempt: unknown
}

it.effect("one trace from the enqueue to every attempt, across the stored trace context", () => {
  const spans: Array<Recorded> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push({
        name: span.name,
        kind: span.kind,
        traceId: span.traceId,
        spanId: span.spanId,
        parent: Option.getOrUndefined(span.parent)?.spanId,
        get attempt() {
          return span.attributes.get("polyqueue.job.attempt")
        }
      })
      return span
    }
  })
  runs = 0
  return Effect.gen(function* () {
    const job = yield* Effect.withSpan(Flaky.enqueue({ times: 1 }), "request")
    yield* TestClock.adjust("2 seconds")
    yield* job.await
    const [request] = spans.filter(({ name }) => name === "request")
    const [enqueue] = spans.filter(({ name }) => name === "enqueue Flaky")
    const attempts = spans.filter(({ name }) => name === "run Flaky")
    assert.deepStrictEqual([enqueue?.kind, enqueue?.parent], ["producer", request?.spanId])
    assert.deepStrictEqual(
      attempts.map(({ attempt, kind, parent, traceId }) => [attempt, kind, parent, traceId]),
      [1, 2].map((attempt) => [attempt, "consumer", enqueue?.spanId, request?.traceId])
    )
    const [row] = yield* JobStore.use((store) => store.get([job.id]))
    assert.strictEqual(row?.metadata?.traceparent, `00-${request?.traceId}-${enqueue?.spanId}-01`)
  }).pipe(Effect.provide(stack(Metrics.layerNoop)), Effect.provideService(Tracer.Tracer, tracer))
})

it.effect("nothing is stored and no span is made when nobody traces", () =>
  Effect.gen(function* () {
    runs = 0
    const job = yield* Flaky.enqueue({ times: 0 })
    yield* job.await
    const [row] = yield* JobStore.use((store) => store.get([job.id]))
    assert.isUndefined(row?.metadata)
  }).pipe(Effect.provide(stack(Metrics.layerNoop)))
)

it.effect("a layer of one's own gets one event per transition", () => {
  const events: Array<MetricEvent> = []
  const own = Layer.succeed(Metrics, { enabled: true, record: (event) => events.push(event) })
  runs = 0
  return Effect.gen(function* () {
    const job = yield* Flaky.enqueue({ times: 1 })
    yield* retryAndEnd(job)
    const story = events.flatMap((event) => {
      switch (event._tag) {
        case "Enqueued":
          return [`enqueued ${event.count}`]
        case "Started":
          return [`started after ${event.waited} ms`]
        case "Ended":
          return [`${event.outcome}${event.final ? ", for good" : ""}`]
        case "Worker":
          return [event.event]
        default:
          return []
      }
    })
    assert.deepStrictEqual(
      story.filter((line) => line !== "heartbeat"),
      ["started", "enqueued 1", "started after 0 ms", "failed", "started after 0 ms", "succeeded, for good"]
    )
  }).pipe(Effect.provide(stack(own)))
})

it.effect("layerEffect keeps metrics that the Prometheus exporter prints", () =>
  Effect.gen(function* () {
    runs = 0
    const job = yield* Flaky.enqueue({ times: 1 })
    yield* retryAndEnd(job)
    const text = yield* PrometheusMetrics.format({ metricNameMapper: Exporters.prometheusName })
    const at = 'messaging_destination_name="default",polyqueue_job_type="Flaky"'
    const system = 'messaging_system="polyqueue",messaging_operation_name'
    for (const line of [
      `messaging_client_sent_messages_total{${system}="enqueue",messaging_operation_type="send",${at}} 1`,
      `messaging_client_consumed_messages_total{${system}="run",messaging_operation_type="process",${at}} 2`,
      `polyqueue_attempts_total{${at},polyqueue_outcome="failed"} 1`,
      `polyqueue_jobs_ended_total{${at},polyqueue_outcome="succeeded"} 1`
    ]) {
      assert.include(text, line)
    }
  }).pipe(Effect.provide(stack(Metrics.layerEffect)), Effect.provideService(Metric.MetricRegistry, new Map()))
)
